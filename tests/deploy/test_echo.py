"""Sites compare what they are sent: a server that sends one of them something else gets nothing."""

import json
from dataclasses import replace

import pytest

from polyclinic.config import FederationConfig
from polyclinic.deploy import remote
from polyclinic.deploy.coordinator import coordinate
from polyclinic.deploy.echo import echoes
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.roster import FILE, confirm, fingerprint
from polyclinic.deploy.site_work import respond
from polyclinic.deploy.tasks import decode, to_fields
from polyclinic.deploy.terms import comparison
from polyclinic.errors import RunError
from polyclinic.federation.knowledge import encode
from polyclinic.federation.ledger import digest
from polyclinic.federation.secure.messages import read
from polyclinic.federation.verification import verify
from polyclinic.run import experiment
from polyclinic.run.experiment import run_experiment

pytestmark = pytest.mark.usefixtures("quick")


class Killed(BaseException):
    """Nothing catches it, like kill -9."""


@pytest.fixture
def compared(deployment):
    """A federation of three, of which two must have signed the same."""
    config = replace(
        deployment.config,
        federation=FederationConfig(echo=2),
        universal=replace(deployment.config.universal, distil_every=0),
    )
    return replace(deployment, config=config)


@pytest.fixture
def letters(joined, compared):
    made = joined(compared)
    for site in made.sites.values():
        confirm(site.folder, made.roster, fingerprint(made.roster))
    return made


def sites_of(letters, deployment, told=None):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds
        assert now[0] < 10_000, "it waits for ever"

    return RemoteSites(
        letters,
        deployment.config,
        quorum=2,
        deadline=50.0,
        tell=told or (lambda _: None),
        roster=lambda: letters.roster,
        clock=lambda: now[0],
        sleep=sleep,
    )


def encoder_of(run):
    return (run / "seed-0" / "universal" / "encoders" / "encoder.safetensors").read_bytes()


def stages_of(result):
    (run,) = json.loads(result.read_text())["runs"]
    return run["stages"]


def kinds(letters, site):
    return [task.kind for name, task in letters.sent if name == site]


def ask(letters, task, name):
    return respond(letters.sites[name], to_fields(task), letters.logs[name].append)


def other_encoder(task):
    """The same task with another encoder, and its digest, as a server that lies would send it."""
    content = encode({k: v + 1 for k, v in decode(task.encoder).items()})
    sent = content if task.kind == "train" else b""
    return replace(task, encoder=sent, broadcast=digest(content))


def lying(letters, monkeypatch, site):
    """The server sends `site` another encoder, and believes every signature."""
    send, known = letters.send, {}

    def sending(name, task):
        if name == site and task.encoder:
            known["broadcast"] = other_encoder(task).broadcast
        if name != site:
            return send(name, task)
        if task.kind == "train":
            return send(name, other_encoder(task))
        return send(name, replace(task, broadcast=known["broadcast"]))

    def believing(agreement, task, name, key, message):
        return read(message, "echo", name)["signature"]

    def prepared(self, given):
        task = made(self, given)
        known.setdefault("broadcast", other_encoder(task).broadcast)
        return task

    made = RemoteSites.task
    monkeypatch.setattr(RemoteSites, "task", prepared)
    monkeypatch.setattr(remote, "echo_of", believing)
    letters.send = sending


def test_the_encoder_is_the_same_as_in_one_process(
    letters, compared, simulated, tmp_path, monkeypatch
):
    def stop(*_):
        raise Killed

    monkeypatch.setattr(experiment._MethodRun, "judge", stop)
    here = replace(simulated, federation=compared.config.federation)
    here = replace(here, universal=compared.config.universal)
    with pytest.raises(Killed):
        run_experiment(here, tmp_path / "here")
    result = coordinate(compared.config, tmp_path / "there", sites_of(letters, compared))
    assert encoder_of(tmp_path / "there") == encoder_of(tmp_path / "here")
    assert [stage["who"] for stage in stages_of(result)] == ["3 of 3", "3 of 3"]
    for name, site in letters.sites.items():
        assert kinds(letters, name) == ["echo", "train"] * 2
        ledger = verify(site.folder / "ledger.jsonl", site.folder / "keys" / "ledger.key.pub")
        assert ledger.problems == ()
        lines = (site.folder / "ledger.jsonl").read_text().splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["echo", "update"] * 2


def test_whom_the_server_sends_another_encoder_trains_nothing_nor_do_the_others(
    letters, compared, tmp_path, monkeypatch
):
    lying(letters, monkeypatch, "west")
    with pytest.raises(RunError, match=r"every site failed.*its own check kept the message back"):
        coordinate(compared.config, tmp_path / "run", sites_of(letters, compared))
    for name, log in letters.logs.items():
        whose = "'north'" if name == "west" else "'west'"
        assert any(f"{whose} has not signed what this site is asked for" in line for line in log)
        assert not list(letters.sites[name].folder.glob("heads/**/*.safetensors"))


def test_a_server_that_sorts_the_signatures_gets_nothing_of_whom_it_singles_out(
    letters, compared, tmp_path, monkeypatch
):
    lying(letters, monkeypatch, "west")
    send = letters.send

    def sorting(name, task):
        if task.kind == "train":
            told = read(task.content, "echoes", "")["signatures"]
            own = {k: v for k, v in told.items() if (k == "west") == (name == "west")}
            task = replace(task, content=echoes(own))
        return send(name, task)

    letters.send = sorting
    result = coordinate(compared.config, tmp_path / "run", sites_of(letters, compared))
    assert [stage["who"] for stage in stages_of(result)] == ["2 of 3: west absent"] * 2
    assert any("1 of 3 sites have signed what it is asked for" in s for s in letters.logs["west"])
    assert not list(letters.sites["west"].folder.glob("heads/**/*.safetensors"))


def test_an_honest_server_names_the_site_whose_signature_is_wrong(letters, compared, tmp_path):
    collect = letters.collect

    def forging(messages):
        for message, fields in collect(messages):
            name, task = letters.sent[int(message)]
            if (name, task.kind) == ("west", "echo"):
                said = json.loads(fields["knowledge"])
                said["signature"] = "00" * 64
                text = json.dumps(said, sort_keys=True, separators=(",", ":"))
                fields = {"knowledge": text.encode()}
            yield message, fields

    letters.collect = forging
    result = coordinate(compared.config, tmp_path / "run", sites_of(letters, compared))
    for stage in stages_of(result):
        assert stage["who"] == "2 of 3: west absent"
        (absent,) = stage["absent"]
        assert "the echo of site 'west': not signed with its key" in absent["reason"]


def test_a_site_signs_one_thing_a_stage(letters, compared, tmp_path):
    coordinate(compared.config, tmp_path / "run", sites_of(letters, compared))
    task = next(t for n, t in letters.sent if n == "north" and t.kind == "echo")
    assert ask(letters, task, "north") == ask(letters, task, "north")
    assert "knowledge" in ask(letters, task, "north")
    assert ask(letters, replace(task, broadcast="0" * 64), "north") == {"refusal": "message"}
    assert "site 'north' signs nothing" in letters.logs["north"][-1]


@pytest.mark.parametrize("content", [b"", echoes({}), echoes({"nobody": "00" * 64})])
def test_without_the_signatures_a_site_trains_nothing(letters, compared, tmp_path, content):
    coordinate(compared.config, tmp_path / "run", sites_of(letters, compared))
    task = next(t for n, t in letters.sent if n == "north" and t.kind == "train")
    assert ask(letters, replace(task, content=content), "north") == {"refusal": "message"}


def test_it_begins_when_the_rosters_are_confirmed(letters, compared, tmp_path):
    for name in ("south", "west"):
        (letters.sites[name].folder / FILE).unlink()
    heard = []

    def told(waiting):
        heard.append(waiting.about)
        if "rosters are confirmed" in waiting.about:
            south = letters.sites["south"].folder
            confirm(south, letters.roster, fingerprint(letters.roster))

    result = coordinate(compared.config, tmp_path / "run", sites_of(letters, compared, told))
    assert any("begins when the sites' rosters are confirmed" in about for about in heard)
    stage = stages_of(result)[0]
    assert stage["who"] == "2 of 3: west absent"
    assert "nobody there has confirmed the roster" in stage["absent"][0]["reason"]


def test_where_too_few_sign_the_run_stops_and_says_who(letters, compared, tmp_path):
    for name in ("south", "west"):
        site = letters.sites[name]
        agreed = replace(site.agreement, threshold=9)
        letters.sites[name] = replace(site, agreement=agreed)
    said = r"every site failed \(north: 1 sites have signed, and it takes 2; south: .*"
    with pytest.raises(RunError, match=said):
        coordinate(compared.config, tmp_path / "run", sites_of(letters, compared))


def test_a_site_is_told_before_it_joins(letters):
    said = comparison(letters.sites["north"].agreement).text
    assert "it trains an encoder that 2 of 3 sites have signed" in said
