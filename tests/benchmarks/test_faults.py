"""Which faults are drawn, what the network between does, and how what became of it is counted."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

import faults
import faults_federation
import faults_kinds
import faults_plan
import faults_reference
import faults_unit
import faults_verdict
from faults_federation import SERVER, SITES, Federation
from faults_plan import KINDS, Fault, faults_of
from faults_proxy import DIRECTIONS, Proxy, garbled
from faults_unit import Unit
from polyclinic.data.phantoms import write_phantoms

STAGES = 2


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# what is drawn


def test_the_same_seed_draws_the_same_faults_and_another_seed_others():
    assert faults_of(0, 3, 4) == faults_of(0, 3, 4)
    assert faults_of(0, 3, 4) != faults_of(1, 3, 4)
    assert {fault.round for fault in faults_of(0, 3, 4)} == {3}


def test_every_kind_is_drawn_equally_often():
    drawn = [fault for index in range(25) for fault in faults_of(0, index, 4)]
    counted = Counter(fault.kind for fault in drawn)
    assert set(counted) == set(KINDS)
    assert max(counted.values()) - min(counted.values()) <= 1
    for kind, places in faults_plan.PLACES.items():
        assert {fault.place for fault in drawn if fault.kind == kind} <= {*places}
    assert len({fault.victim for fault in drawn}) == 4


def test_moments_are_shares_of_a_run_in_order_and_faults_last_as_long_as_their_kind():
    for index in range(30):
        moments = [fault.at for fault in faults_of(5, index, 4)]
        assert moments == sorted(moments)
        assert all(0 <= moment <= 1 for moment in moments)
        for fault in faults_of(5, index, 4):
            low, high = faults_plan.LASTING.get(fault.kind, (0.0, 0.0))
            assert low <= fault.seconds <= high
            assert (fault.shift != 0) == (fault.kind == faults_plan.CLOCK)
            assert (fault.victim == SERVER) or fault.kind != faults_plan.KILL_SERVER


def test_a_row_leaves_out_what_says_nothing_and_keeps_round_0():
    row = Fault(round=0, kind=faults_plan.CUT, victim="skin", at=0.0, seconds=5.0).as_dict()
    assert row == {"round": 0, "kind": "cut the link", "victim": "skin", "at": 0.0, "seconds": 5.0}


# the network between


@pytest.fixture
def echo():
    """The port of something that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                while content := link.recv(2**16):
                    link.sendall(content)

    thread = threading.Thread(target=answer)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo):
    made = Proxy(echo)
    yield made
    made.close()


def asked(port, content=b"a question"):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        link.sendall(content)
        return link.recv(2**16)


def test_a_proxy_passes_on_what_comes(proxy):
    assert asked(proxy.port) == b"a question"
    assert asked(proxy.port, b"another") == b"another"
    assert proxy.garbled == 0


def test_a_cut_drops_connections_and_lets_none_in_until_it_is_mended(proxy):
    port = proxy.port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        link.sendall(b"before")
        assert link.recv(100) == b"before"
        proxy.cut()
        with pytest.raises(ConnectionError):
            _ = link.recv(100) or (_ for _ in ()).throw(ConnectionError)
    with pytest.raises(ConnectionRefusedError):
        asked(port)
    proxy.mend()
    assert proxy.port == port
    assert asked(port) == b"a question"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_garbled_link_changes_one_chunk_and_counts_it(proxy, direction):
    proxy.garble(direction, random.Random(0))
    assert asked(proxy.port) != b"a question"
    assert proxy.garbled == 1
    assert asked(proxy.port) == b"a question"


def test_garbled_content_has_its_length_and_one_to_eight_other_bytes():
    for seed in range(50):
        content = bytes(range(100))
        changed = garbled(content, random.Random(seed))
        assert len(changed) == 100
        assert 1 <= sum(a != b for a, b in zip(content, changed, strict=True)) <= 8
    assert garbled(b"x", random.Random(0)) != b"x"


# services


@pytest.fixture
def unit(tmp_path, monkeypatch):
    monkeypatch.setattr(faults_unit, "RESTART", 0.2)
    made = []

    def make(program, on):
        command = [sys.executable, "-c", program]
        made.append(Unit(command, tmp_path, tmp_path / "log", {}, on))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_a_unit_that_failed_is_started_again_and_one_that_is_done_is_not(unit):
    failing, done = unit("raise SystemExit(3)", "failure"), unit("pass", "failure")
    always = unit("pass", "always")
    until(lambda: [one.look() for one in (failing, always, done)] and failing.starts > 2)
    until(lambda: always.look() or always.starts > 2)
    assert done.starts == 1
    assert done.succeeded
    assert not failing.succeeded


def test_a_unit_ends_when_it_is_asked_to(unit):
    sleeping = unit("import time; time.sleep(60)", "always")
    sleeping.look()
    assert sleeping.pid
    sleeping.end()
    assert sleeping.pid is None


def test_the_settings_are_good_ones_and_a_site_is_invited_by_way_of_its_proxy(tmp_path):
    federation = Federation(tmp_path, tmp_path / "data", STAGES)
    try:
        from polyclinic.deploy.settings import load_deployment

        assert load_deployment(tmp_path / "federation.toml").names == SITES
        invites = federation.state(SERVER) / "invites"
        invites.mkdir(parents=True)
        (federation.state(SERVER) / "ready").touch()
        (invites / "skin.invite").write_text(json.dumps({"port": federation.port, "code": "c"}))
        assert federation._invited("skin", tmp_path / "skin.invite")
        said = json.loads((tmp_path / "skin.invite").read_text())
        assert said == {"port": federation.proxies["skin"].port, "code": "c"}
    finally:
        federation.end()


# kinds


class Small:
    """A federation of which only folders are there."""

    def __init__(self, folder):
        self.folder = folder
        self.units = {who: Unit([], folder, folder / "log", {}, "always") for who in SITES}

    def state(self, _):
        return self.folder


def test_what_is_not_there_is_not_hit(tmp_path):
    for kind, place in (
        (faults_plan.KILL_SITE, "supernode"),
        (faults_plan.STOP_SITE, ""),
        (faults_plan.GARBLE, "up"),
        (faults_plan.FULL, ""),
    ):
        with pytest.raises(faults_kinds.NotThereError):
            faults_kinds.inject(Fault(0, kind, "skin", 0.0, place), Small(tmp_path))


def test_a_clock_that_jumps_is_right_again_at_the_end(tmp_path):
    environment = {**os.environ, **faults_kinds.with_clock("skin", tmp_path)}
    program = (
        "import time; from datetime import date, datetime, UTC\n"
        "moment = datetime.now(UTC)\n"
        "assert isinstance(moment, datetime) and isinstance(moment, date)\n"
        "assert isinstance(datetime(2020, 1, 1), datetime)\n"
        "for made in (moment, datetime.utcnow(), datetime.today()):\n"
        "    assert type(made) is datetime\n"
        "print(moment.timestamp(), time.time(), time.time_ns() / 1e9, time.monotonic())"
    )

    def told():
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
        now = (time.time(), time.time(), time.time(), time.monotonic())
        return [float(word) - right for word, right in zip(done.stdout.split(), now, strict=True)]

    assert told() == pytest.approx([0.0] * 4, abs=30)
    fault = Fault(0, faults_plan.CLOCK, "skin", 0.0, shift=-900.0)
    _, end = faults_kinds.inject(fault, Small(tmp_path))
    assert told() == pytest.approx([-900.0] * 3 + [0.0], abs=30)
    end()
    assert told() == pytest.approx([0.0] * 4, abs=30)


# verdicts


def stage(number, present=SITES, absent=()):
    return {
        "kind": "stage",
        "stage": number,
        "sites": {name: {} for name in present},
        "absent": [{"site": name, "reason": f"site '{name}': late"} for name in absent],
    }


def result_of(kept):
    told = [
        {
            "stage": record["stage"],
            "who": f"{len(record['sites'])} of 3",
            "took_part": list(record["sites"]),
            "absent": record["absent"],
        }
        for record in kept
    ]
    return {"finished": True, "runs": [{"stages": told, "judged": []}]}


def judged(kept, *, encoder="whole", finished=True, result=None):
    return faults_verdict.verdict(
        finished=finished,
        journal=[json.dumps({"kind": "pretraining"}), *(json.dumps(one) for one in kept)],
        result=result_of(kept) if result is None else result,
        encoder=encoder,
        expected=lambda absent: "whole" if not absent else f"without {absent}",
        sites=SITES,
        stages=STAGES,
    )


def test_a_run_with_all_its_stages_is_right():
    found = judged([stage(1), stage(2)])
    assert (found["lost_rounds"], found["wrong_result"]) == (0, False)
    assert found["named_absences"] == []
    assert found["who"] == ["3 of 3", "3 of 3"]


def test_an_encoder_of_other_bits_is_wrong():
    assert judged([stage(1), stage(2)], encoder="other")["wrong_result"]
    assert judged([stage(1), stage(2)], encoder=None)["wrong_result"]


@pytest.mark.parametrize(
    ("kept", "number"),
    [([stage(1)], 1), ([stage(1), stage(1), stage(2)], 1), ([], 2)],
    ids=["missing", "twice", "none"],
)
def test_a_stage_that_is_not_in_the_journal_once_is_lost(kept, number):
    assert judged(kept)["lost_rounds"] == number


def test_a_site_that_is_absent_by_name_is_counted_and_the_encoder_is_that_without_it():
    kept = [stage(1), stage(2, ("blood", "chest"), ("skin",))]
    found = judged(kept, encoder="without ((2, 'skin'),)")
    assert (found["lost_rounds"], found["wrong_result"]) == (0, False)
    assert [(one["stage"], one["site"]) for one in found["named_absences"]] == [(2, "skin")]
    assert judged(kept, encoder="whole")["wrong_result"]


def test_a_site_that_is_absent_without_a_name_is_a_lost_round():
    assert judged([stage(1), stage(2, ("blood", "chest"))])["lost_rounds"] == 1
    without_reason = stage(2, ("blood", "chest"), ("skin",))
    without_reason["absent"][0]["reason"] = ""
    assert judged([stage(1), without_reason])["lost_rounds"] == 1


def test_a_result_that_says_something_else_than_the_journal_is_a_lost_round():
    kept = [stage(1), stage(2, ("blood", "chest"), ("skin",))]
    told = result_of([stage(1), stage(2)])
    assert judged(kept, encoder="without ((2, 'skin'),)", result=told)["lost_rounds"] == 1


def test_a_run_that_has_not_ended_is_lost_and_not_wrong():
    found = judged([stage(1)], finished=False, encoder=None, result={})
    assert (found["lost_rounds"], found["wrong_result"]) == (1, False)


def round_row(index, **changes):
    kept = [stage(1), stage(2)]
    about = {"faults": 2, "seconds": 20.0 + 10 * index, "left_behind": [], "tracebacks": 0}
    about["commit"] = "1234567"
    row = {"row": "round", "round": index, "garbled_chunks": 1, **about, **judged(kept)}
    return row | changes


USUAL = [{"row": "about"}] + [{"row": "undisturbed", "seconds": s} for s in (18.0, 20.0, 29.0)]


def fault_row(index, kind="cut the link", **more):
    return {"row": "fault", "round": index, "kind": kind, **more}


def test_the_figures_count_the_faults_of_whole_rounds():
    rows = [*USUAL]
    for index in range(3):
        rows += [fault_row(index), fault_row(index, "kill a site", place="supervisor")]
        rows.append(round_row(index))
    rows.append(fault_row(3))  # the benchmark was killed in this round
    found = faults_verdict.summary(rows, 6)
    assert found["pass"]
    assert found["faults_by_kind"] == {"cut the link": 3, "kill a site": 3}
    assert found["faults_by_place"] == {"kill a site: supervisor": 3}
    assert (found["rounds"], found["rounds_cut_short"], found["stages"]) == (3, 1, 6)
    assert found["commits"] == ["1234567"]
    assert found["extra_seconds_a_round"] == {"median": 10.0, "90 %": 18.0, "max": 20.0}
    assert found["extra_seconds_a_fault"]["max"] == 10.0
    assert not faults_verdict.summary(rows, 7)["pass"]


@pytest.mark.parametrize(
    "bad",
    [{"lost_rounds": 1}, {"wrong_result": True}, {"finished": False}, {"left_behind": ["x"]}],
    ids=str,
)
def test_one_bad_round_fails_the_claim(bad):
    rows = [*USUAL, fault_row(0), fault_row(1), round_row(0), round_row(1, **bad)]
    assert not faults_verdict.summary(rows, 2)["pass"]


def test_reasons_are_counted_without_the_names_of_sites():
    kept = [stage(1, ("chest",), ("blood", "skin")), stage(2)]
    row = round_row(0) | judged(kept, encoder="without ((1, 'blood'), (1, 'skin'))")
    found = faults_verdict.summary([*USUAL, fault_row(0), row], 1)
    assert found["named_absences"] == 2
    assert found["reasons"] == {"site NAME: late": 2}
    assert found["pass"]


def test_without_rounds_there_are_no_figures_and_no_claim():
    found = faults_verdict.summary(USUAL, 1)
    assert found["extra_seconds_a_round"] == {}
    assert not found["pass"]


def test_progress_is_the_share_of_stages_and_judging_in_the_journal(tmp_path):
    federation = Federation(tmp_path, tmp_path / "data", 3)
    assert federation.progress == 0
    journal = tmp_path / "server" / "run" / "metrics.jsonl"
    journal.parent.mkdir(parents=True)
    rows = [{"kind": "pretraining"}, {"kind": "stage", "stage": 1}, {"kind": "stage", "stage": 2}]
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert federation.progress == 0.5
    federation.end()


# the journal of the benchmark


def test_a_journal_goes_on_after_a_kill_and_drops_half_a_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    first = faults.Journal(path, {"seed": 0})
    first.note({"row": "begun", "round": 0})
    with path.open("a") as file:
        file.write('{"row": "fau')
    again = faults.Journal(path, {"seed": 0})
    again.note({"row": "begun", "round": 1})
    assert [row.get("round") for row in faults.Journal(path, {"seed": 0}).rows] == [None, 0, 1]
    with pytest.raises(SystemExit, match="choose another --work"):
        faults.Journal(path, {"seed": 1})


def test_what_cannot_be_had_is_left_out_by_name(monkeypatch):
    monkeypatch.delenv(faults.INSIDE, raising=False)
    kinds, left_out = faults._kinds(faults._arguments([]))
    assert set(left_out) == {faults_plan.FULL}
    assert set(kinds) == set(KINDS) - set(left_out)
    monkeypatch.setenv(faults.INSIDE, "1")
    kinds, left_out = faults._kinds(faults._arguments([]))
    assert (kinds, left_out) == (list(KINDS), {})
    kinds, _ = faults._kinds(faults._arguments(["--smoke"]))
    assert kinds == list(faults_plan.CHEAPEST)


# from the beginning to the end, without processes


@pytest.fixture
def played(monkeypatch, tmp_path):
    """Rounds that take no time: what was asked of each, by the name of its folder."""
    calls = {}

    def play(folder, *, data, faults, note, expected, stages, undisturbed, limit):
        calls[folder.name] = {"faults": faults, "undisturbed": undisturbed, "limit": limit}
        folder.mkdir()
        for fault in faults:
            note({"row": "fault", **fault.as_dict()})
        about = round_row(0, faults=len(faults), seconds=30.0)
        return {key: value for key, value in about.items() if key not in ("row", "round")}

    made = "polyclinic.data.phantoms.write_phantoms"
    monkeypatch.setattr(made, lambda folder, **_: folder.mkdir())
    monkeypatch.setattr(faults, "play", play)
    monkeypatch.setattr(faults, "can_mount", lambda: False)
    monkeypatch.setattr(faults, "references", lambda *_: None)
    monkeypatch.delenv(faults.INSIDE, raising=False)

    def run(*words):
        given = ["faults.py", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out.json")]
        monkeypatch.setattr(sys, "argv", [*given, *words])
        faults.main()
        return json.loads((tmp_path / "out.json").read_text()), calls

    return run


def test_rounds_are_played_until_there_are_enough_faults(played, tmp_path):
    result, calls = played("--faults", "10")
    assert list(calls) == ["undisturbed", "round-000", "round-001", "round-002"]
    assert calls["undisturbed"]["faults"] == ()
    assert {calls[name]["undisturbed"] for name in calls if name != "undisturbed"} == {30.0}
    assert calls["round-000"]["limit"] == faults.LEAST
    assert (result["faults"], result["rounds"], result["pass"]) == (12, 3, True)
    assert result["undisturbed_seconds"] == [30.0, 30.0]  # before and after
    assert set(result["left_out"]) == {faults_plan.FULL}
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"data", "rows.jsonl"}


def test_a_benchmark_that_was_killed_goes_on_with_the_next_round(played, tmp_path):
    played("--faults", "4")
    rows = tmp_path / "work" / "rows.jsonl"
    kept = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(kept[:-2]))  # killed before the round was judged
    result, calls = played("--faults", "4")
    assert list(calls) == ["undisturbed", "round-000", "round-001"]
    assert (result["faults"], result["rounds"], result["rounds_cut_short"]) == (4, 1, 1)


@pytest.fixture
def in_this_process(monkeypatch):
    """Processes of the benchmark that are calls of its `main`."""

    class Called:
        def __init__(self, command, **_):
            monkeypatch.setattr(sys, "argv", command[1:])
            self.code = 0
            try:
                faults.main()
            except SystemExit:
                self.code = 1

        def wait(self):
            return self.code

    monkeypatch.setattr(faults, "Popen", Called)


def test_lanes_share_the_rounds_of_one_seed_among_them(played, in_this_process, tmp_path):
    result, calls = played("--faults", "10", "--lanes", "2")
    assert set(calls) == {"undisturbed", *(f"round-{n:03d}" for n in range(4))}
    assert (result["faults"], result["rounds"], result["pass"]) == (16, 4, True)
    assert result["federations_at_a_time"] == 2
    alone = [fault for n in range(4) for fault in faults_of(0, n, 4, KINDS[:5] + KINDS[6:])]
    assert [f for n in range(4) for f in calls[f"round-{n:03d}"]["faults"]] == alone
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"lane-0", "lane-1"}


def test_a_lane_that_fails_is_named(played, in_this_process, monkeypatch):
    def fail(_, study):
        if study.lane == 1:
            raise SystemExit("no disk")

    monkeypatch.setattr(faults, "_measure", fail)
    with pytest.raises(SystemExit, match=r"these lanes failed: \[1\]"):
        played("--lanes", "2")


def test_a_smoke_test_plays_one_round_of_two_cheap_faults(played):
    result, calls = played("--smoke")
    assert list(calls) == ["undisturbed", "round-000"]
    assert {fault.kind for fault in calls["round-000"]["faults"]} == {*faults_plan.CHEAPEST}
    assert (result["faults"], result["stages_a_round"]) == (2, 1)


# the run in one process


def test_the_reference_is_another_one_without_a_site(tmp_path, exact, monkeypatch):
    for key in faults_federation.SAME_BITS:
        monkeypatch.setenv(key, faults_federation.SAME_BITS[key])
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))
    write_phantoms(tmp_path / "data", seed=0, **faults.IMAGES)
    text = faults_federation.settings(tmp_path / "data", 1, 1)
    expected = faults_reference.references(tmp_path / "data", text)
    assert expected(((1, "skin"),)) != expected(())


def test_a_file_that_is_not_there_has_no_digest(tmp_path):
    assert faults_reference.digest(tmp_path / "none") is None
