"""Sites behind messages give what sites in one process give; who is missing is named."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyclinic.deploy import coordinator
from polyclinic.deploy.coordinator import coordinate, took_part
from polyclinic.deploy.remote import ATTEMPTS, LEAST, RemoteSites
from polyclinic.deploy.settings import load_deployment
from polyclinic.deploy.terms import aggregation
from polyclinic.errors import RunError
from polyclinic.federation.exchange import site_stage
from polyclinic.models.device import fixed_threads
from polyclinic.run.directory import RunDirectory
from polyclinic.run.experiment import run_experiment

from .conftest import in_one_process


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        assert self.now < 10_000, "it waits for ever"


def remote(letters, deployment, *, quorum=2, deadline=50.0, told=None):
    clock = Clock()
    tell = (lambda _: None) if told is None else told.append
    return RemoteSites(
        letters,
        deployment.config,
        quorum=quorum,
        deadline=deadline,
        tell=tell,
        clock=clock,
        sleep=clock.sleep,
    )


def stage_records(run: Path) -> list[dict]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "stage"]


def encoders(run: Path) -> dict[str, bytes]:
    found = run.glob("seed-*/*/encoders/*.safetensors")
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def here(hospitals, tmp_path_factory):
    """The directory of the same federation's run in one process; nobody may change it."""
    config = load_deployment(hospitals / "federation.toml").config
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYCLINIC_CACHE", str(folder / "cache"))
        patch.setenv("POLYCLINIC_DEVICE", "cpu")
        patch.setenv("POLYCLINIC_PRECISION", "float32")
        with fixed_threads(1):
            run_experiment(in_one_process(config, hospitals), folder / "run")
    return folder / "run"


def test_the_encoder_is_the_same_as_in_one_process(letters, deployment, here, tmp_path):
    result = coordinate(deployment.config, tmp_path / "there", remote(letters, deployment))
    assert encoders(tmp_path / "there") == encoders(here) != {}
    (run,) = json.loads(result.read_text())["runs"]
    assert [stage["who"] for stage in run["stages"]] == ["3 of 3", "3 of 3"]
    for stage, record in zip(run["stages"], stage_records(here), strict=True):
        for way in ("bytes_up", "bytes_down"):
            assert stage[way] == sum(said[way] for said in record["sites"].values()) > 0
    scores = json.loads((here / "results.json").read_text())["scores"]
    for judged in run["judged"]:
        for protocol, name in (("linear-probe", "linear_probe"), ("fine-tune", "fine_tune")):
            (value,) = [
                s["value"]
                for s in scores
                if s["site"] == judged["site"] and s["protocol"] == protocol and s["primary"]
            ]
            assert judged["scores"][name] == value


@pytest.mark.parametrize("exchange", ["parallel", "cyclic"])
def test_guarded_the_encoder_and_what_sites_gain_are_those_of_one_process(
    joined, deployment, simulated, tmp_path, exchange, monkeypatch
):
    monkeypatch.setattr(coordinator, "_judge", lambda *_: None)
    universal = replace(deployment.config.universal, guard=5.0, exchange=exchange)
    guarded = replace(deployment, config=replace(deployment.config, universal=universal))
    run_experiment(replace(simulated, universal=universal), tmp_path / "here")
    coordinate(guarded.config, tmp_path / "there", remote(joined(guarded), guarded))
    assert encoders(tmp_path / "there") == encoders(tmp_path / "here") != {}
    told = [
        [(c["site"], c["stage"], c["gain_over_alone"], c["gain_over_start"]) for c in curves]
        for run in ("here", "there")
        for curves in [json.loads((tmp_path / run / "results.json").read_text())["curves"]]
    ]
    assert told[0] == told[1] != []


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_killed_anywhere_the_server_goes_on_to_the_same_encoder(
    letters, deployment, here, tmp_path, monkeypatch, after
):
    record, calls = RunDirectory.record, []

    def interrupted(self, entry):
        calls.append(entry)
        if len(calls) > after:
            raise KeyboardInterrupt
        record(self, entry)

    monkeypatch.setattr(RunDirectory, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coordinate(deployment.config, tmp_path / "cut", remote(letters, deployment))
    monkeypatch.setattr(RunDirectory, "record", record)
    coordinate(deployment.config, tmp_path / "cut", remote(letters, deployment))
    assert encoders(tmp_path / "cut") == encoders(here) != {}


def test_a_site_that_dies_is_absent_and_named_and_the_run_goes_on(letters, deployment, tmp_path):
    letters.dead.add("west")
    result = coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    (run,) = json.loads(result.read_text())["runs"]
    for stage in run["stages"]:
        assert stage["who"] == "2 of 3: west absent"
        assert stage["absent"] == [{"site": "west", "reason": "its answer did not come in time"}]
    (west,) = [judged for judged in run["judged"] if judged["site"] == "west"]
    assert "did not come in time" in west["absent"]


def test_below_the_quorum_a_stage_waits_beyond_the_deadline(letters, deployment, tmp_path):
    letters.away.update({"south", "west"})
    told = []
    sites = remote(letters, deployment, deadline=50.0, told=told)

    def look(waiting):
        told.append(waiting)
        if len(told) == 200:  # after 200 s by the clock the others come back
            letters.away.clear()

    sites._tell = look
    result = coordinate(deployment.config, tmp_path / "run", sites)
    (run,) = json.loads(result.read_text())["runs"]
    assert run["stages"][0]["who"] == "3 of 3"
    assert len(told) > 200


def test_how_long_a_site_is_waited_for(letters, deployment):
    sites = remote(letters, deployment, deadline=1000.0)
    clock = sites._clock

    def limit(name, there):
        clock.now = 0.0
        while sites._waits_for(name, "train", 0.0, there):
            clock.now += 10.0
        return clock.now

    assert limit("north", True) == pytest.approx(1000, abs=10)  # nothing is known of it
    assert limit("north", False) == pytest.approx(1000, abs=10)
    sites._took["north", "train"], sites._seen["north"] = 100.0, 50.0
    assert limit("north", True) == pytest.approx(300, abs=10)
    assert limit("north", False) == pytest.approx(50 + LEAST, abs=10)
    sites._took["north", "train"] = 1.0
    assert limit("north", True) == pytest.approx(LEAST, abs=10)
    sites._took["north", "train"] = 5000.0
    assert limit("north", True) == pytest.approx(1000, abs=10)


def test_quick_judging_does_not_shorten_the_wait_for_training(letters, deployment):
    sites = remote(letters, deployment, deadline=3600.0)
    sites._took["north", "train"], sites._took["north", "evaluate"] = 1500.0, 20.0
    assert sites._waits_for("north", "train", 0.0, there=True)
    sites._clock.now = 4000.0
    assert not sites._waits_for("north", "train", 0.0, there=True)
    sites._clock.now = 200.0
    assert not sites._waits_for("north", "evaluate", 0.0, there=True)


def test_who_was_away_when_the_others_judged_is_asked_once_more_at_the_end(
    letters, deployment, tmp_path
):
    """And gets the encoder then."""
    collect, lost = letters.collect, []

    def late(messages):
        for message, answer in collect(messages):
            name, task = letters.sent[int(message)]
            if name == "west" and task.kind == "evaluate" and len(lost) < ATTEMPTS:
                lost.append(message)
                yield message, "its node failed (2)"
            else:
                yield message, answer

    letters.collect = late
    result = coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    (run,) = json.loads(result.read_text())["runs"]
    assert len(lost) == ATTEMPTS
    assert [(judged["site"], judged["absent"]) for judged in run["judged"]] == [
        ("north", None),
        ("south", None),
        ("west", None),
    ]
    assert (letters.sites["west"].folder / "results" / "seed-0" / "universal").is_dir()


def test_a_server_killed_while_sites_judge_does_not_wait_for_a_quorum_of_the_rest(
    letters, deployment, tmp_path, monkeypatch
):
    record = RunDirectory.record

    def interrupted(self, entry):
        if entry["kind"] == "judged-at-site" and entry["site"] == "west":
            raise KeyboardInterrupt
        record(self, entry)

    monkeypatch.setattr(RunDirectory, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    monkeypatch.setattr(RunDirectory, "record", record)
    letters.away.add("west")
    result = coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    (run,) = json.loads(result.read_text())["runs"]
    absent = {judged["site"]: judged["absent"] for judged in run["judged"]}
    assert absent == {"north": None, "south": None, "west": "it was not there"}
    letters.away.clear()
    again = coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    (run,) = json.loads(again.read_text())["runs"]
    assert {judged["absent"] for judged in run["judged"]} == {None}


def test_a_site_whose_node_fails_is_asked_again_but_not_for_ever(letters, deployment, tmp_path):
    collect = letters.collect

    def failing(messages):
        for message in messages:
            if letters.sent[int(message)][0] == "south":
                yield message, "its node failed (2)"
            else:
                yield from collect([message])

    letters.collect = failing
    result = coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    (run,) = json.loads(result.read_text())["runs"]
    assert run["stages"][0]["who"] == "2 of 3: south absent"
    first = [t for n, t in letters.sent if n == "south" and t.kind == "train" and t.stage == 0]
    assert len(first) == ATTEMPTS


def test_an_answer_with_undeclared_parts_is_refused_and_named(letters, deployment, tmp_path):
    collect = letters.collect

    def spiced(messages):
        for message, answer in collect(messages):
            more = {"note": "a patient"} if letters.sent[int(message)][0] == "north" else {}
            yield message, {**answer, **more}

    letters.collect = spiced
    result = coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    (run,) = json.loads(result.read_text())["runs"]
    (absent,) = run["stages"][0]["absent"]
    assert absent["site"] == "north"
    assert "an answer with other parts than the declared ones" in absent["reason"]


def test_where_refusals_leave_fewer_than_a_quorum_the_run_stops_and_can_go_on(
    letters, deployment, here, tmp_path
):
    collect, refusing = letters.collect, True

    def refused(messages):
        for message, answer in collect(messages):
            name, task = letters.sent[int(message)]
            late = refusing and name != "south" and task.kind == "train" and task.stage == 1
            yield message, {"refusal": "data"} if late else answer

    letters.collect = refused
    said = r"stage 2: 1 of 3 sites took part, and the quorum is 2: north: .*its data cannot be used"
    with pytest.raises(RunError, match=said):
        coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    refusing = False
    result = coordinate(deployment.config, tmp_path / "run", remote(letters, deployment))
    (run,) = json.loads(result.read_text())["runs"]
    assert [stage["who"] for stage in run["stages"]] == ["3 of 3", "3 of 3"]
    assert encoders(tmp_path / "run") == encoders(here) != {}


@pytest.fixture
def in_turn(deployment):
    """The same federation, whose encoder goes from site to site."""
    universal = replace(deployment.config.universal, exchange="cyclic")
    return replace(deployment, config=replace(deployment.config, universal=universal))


def order_of(letters, stage):
    return [name for name, task in letters.sent if (task.kind, task.stage) == ("train", stage)]


def stages_of(result):
    (run,) = json.loads(result.read_text())["runs"]
    return run["stages"]


def test_in_turn_the_encoder_is_the_same_as_in_one_process(joined, in_turn, simulated, tmp_path):
    letters = joined(in_turn)
    run_experiment(replace(simulated, universal=in_turn.config.universal), tmp_path / "here")
    result = coordinate(in_turn.config, tmp_path / "there", remote(letters, in_turn))
    assert encoders(tmp_path / "there") == encoders(tmp_path / "here") != {}
    assert [stage["who"] for stage in stages_of(result)] == ["3 of 3", "3 of 3"]
    for site in letters.sites.values():
        assert "the next site is sent the encoder" in aggregation(site.agreement).text


def test_in_turn_a_site_that_is_away_is_passed_over_and_named(joined, in_turn, tmp_path):
    letters = joined(in_turn)
    letters.away.add("west")
    result = coordinate(in_turn.config, tmp_path / "run", remote(letters, in_turn))
    for stage in stages_of(result):
        assert stage["who"] == "2 of 3: west absent"
        assert stage["absent"] == [{"site": "west", "reason": "it was not there"}]


def test_in_turn_whoever_comes_back_is_visited_again_below_the_quorum(joined, in_turn, tmp_path):
    letters, heard = joined(in_turn), []
    letters.away |= {"south", "west"}
    sites = remote(letters, in_turn, quorum=3, told=heard)
    plain = sites.visit

    def visit(work, name, given):
        heard.append(name)
        if len([n for n in heard if n == "south"]) == 2:
            letters.away.clear()
        return plain(work, name, given)

    sites.visit = visit
    result = coordinate(in_turn.config, tmp_path / "run", sites)
    assert [stage["who"] for stage in stages_of(result)] == ["3 of 3", "3 of 3"]
    assert [*stages_of(result)[0]["absent"]] == []
    assert sorted(order_of(letters, 0)) == ["north", "south", "west"]  # nobody trains twice


def test_in_turn_refusals_below_the_quorum_end_the_run(joined, in_turn, tmp_path):
    letters = joined(in_turn)
    collect = letters.collect

    def refused(messages):
        for message, answer in collect(messages):
            name, _ = letters.sent[int(message)]
            yield message, answer if name == "south" else {"refusal": "data"}

    letters.collect = refused
    with pytest.raises(RunError, match=r"1 of 3 sites took part, and the quorum is 2: .*its data"):
        coordinate(in_turn.config, tmp_path / "run", remote(letters, in_turn))


def test_an_answer_that_waits_for_the_next_message_is_fetched_with_a_nudge(
    letters, deployment, tmp_path
):
    """As Flower does it for a site whose process was killed and started again."""
    collect, held = letters.collect, {}

    def one_behind(messages):
        for message, answer in collect([m for m in messages if m not in held]):
            if letters.sent[int(message)][0] == "north":
                held[message] = answer
            else:
                yield message, answer
        own = [m for m in held if m in messages]
        for message in own[:-1]:  # the last waits for a message that comes after it
            yield message, held.pop(message)

    letters.collect = one_behind
    sites = remote(letters, deployment, deadline=600.0)
    result = coordinate(deployment.config, tmp_path / "run", sites)
    assert [stage["who"] for stage in stages_of(result)] == ["3 of 3", "3 of 3"]
    kinds = [task.kind for name, task in letters.sent if name == "north"]
    assert kinds == ["train", "nudge"] * 2 + ["evaluate", "nudge"]
    assert {task.kind for name, task in letters.sent if name != "north"} == {"train", "evaluate"}
    lines = (letters.sites["north"].folder / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [
        "update", "nudge", "update", "nudge", "scores", "nudge"
    ]  # fmt: skip
    assert json.loads(lines[1])["bytes"] == 0


def test_whoever_takes_long_is_nudged_once_at_a_time(letters, deployment, tmp_path):
    letters.dead.add("north")
    result = coordinate(
        deployment.config, tmp_path / "run", remote(letters, deployment, deadline=600.0)
    )
    assert [stage["who"] for stage in stages_of(result)] == ["2 of 3: north absent"] * 2
    kinds = [task.kind for name, task in letters.sent if name == "north"]
    assert kinds == ["train", "nudge"] * 2 + ["evaluate", "nudge"] * 2  # once more at the end


def test_methods_that_need_the_data_are_refused(letters, deployment):
    sites = remote(letters, deployment)
    with pytest.raises(RunError, match=r"needs all data in one place"):
        _ = sites.sites
    with pytest.raises(RunError, match=r"do their stage and nothing else"):
        list(sites.map(print, []))
    task = ("small", None, None, None, None, (0, "local", 0, "north"), None)
    with pytest.raises(RunError, match=r"local: sends nothing"):
        list(sites.map(site_stage, [("north", task)]))


class Eight:
    """A post to eight sites of which `says` has what each answers; s8 is away."""

    names = tuple(f"s{n}" for n in range(1, 9))

    def __init__(self, says):
        self.says, self.asked = says, []

    def reachable(self):
        return {*self.names[:7]}

    def send(self, site, _):
        self.asked.append(site)
        return site

    def collect(self, messages):
        for site in messages:
            yield site, self.says(site, self.asked.count(site))

    def tasks(self):
        return dict.fromkeys(self.names, SimpleNamespace(kind="keys", about="stage 1: keys"))


@pytest.mark.parametrize("quorum", [5, 7])
def test_sites_that_confirm_later_are_asked_again_though_another_is_away(deployment, quorum):
    def says(site, times):
        late = site in ("s6", "s7") and times < 4
        return {"refusal": "roster"} if late else {"knowledge": b"keys"}

    post, told = Eight(says), []
    results = remote(post, deployment, quorum=quorum, told=told).ask(post.tasks(), least=6)
    assert [name for name in post.names if isinstance(results[name], bytes)] == [*post.names[:7]]
    assert str(results["s8"]) == "it was not there"
    waits = [waiting.asked for waiting in told if "confirmed" in waiting.about]
    assert waits == [["s6", "s7"]] * 3
    assert post.asked.count("s1") == 1


def test_with_enough_sites_nobody_waits_for_a_roster(deployment):
    post = Eight(lambda site, _: {"refusal": "roster"} if site == "s7" else {"knowledge": b"k"})
    results = remote(post, deployment, quorum=5).ask(post.tasks(), least=6)
    assert "nobody there has confirmed the roster" in str(results["s7"])
    assert post.asked.count("s7") == 1


def test_it_ends_when_the_threshold_cannot_be_reached_whoever_comes_back(deployment):
    bad = ("s5", "s6", "s7")
    post = Eight(lambda site, _: {"refusal": "message"} if site in bad else {"knowledge": b"k"})
    results = remote(post, deployment, quorum=5).ask(post.tasks(), least=6)
    assert sum(isinstance(result, bytes) for result in results.values()) == 4
    assert str(results["s8"]) == "it was not there"


def test_who_took_part_in_words():
    assert took_part(["a", "b"], ["b", "a"]) == "2 of 2"
    assert took_part(["a", "b", "c"], ["b"]) == "1 of 3: a, c absent"
