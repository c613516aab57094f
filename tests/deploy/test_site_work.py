"""What a site does with what it is asked, what it keeps, and how little leaves when it fails."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from polyclinic.config import DataConfig
from polyclinic.deploy.folders import ASKED
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.site_work import respond, respond_from
from polyclinic.deploy.tasks import REFUSALS, from_fields, read_answer, to_fields
from polyclinic.errors import KnowledgeError
from polyclinic.evaluate.protocols import PROTOCOLS, protocol_plan
from polyclinic.federation.exchange import Door, site_stage
from polyclinic.federation.knowledge import SCORES_SCHEMA, encode, schema_of, unpack
from polyclinic.federation.ledger import Label, digest
from polyclinic.federation.plans import plan_of
from polyclinic.federation.verification import verify
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of


@pytest.fixture(scope="module")
def start():
    return state_of(build_encoder("small", seed=0))


@pytest.fixture
def asked(letters, deployment, start):
    """The task of a first stage, as the server writes it."""
    config = deployment.config
    sites = RemoteSites(letters, config, quorum=1, deadline=1.0, tell=lambda _: None)
    plan = plan_of(config, "universal")
    door = Door(Label("universal", 0, 1), broadcast=digest(encode(start)))
    task = ("small", start, None, plan, schema_of(start), (0, "universal", 0, "north"), door)
    list(sites.map(site_stage, [("north", task)]))
    (letters.sites["north"].folder / ASKED).unlink()
    return letters.sent[0][1]


def stage(site, asked, number, head):
    """The task of a later stage."""
    plan = plan_of(site.agreement, asked.method, number)
    return replace(asked, stage=number, head=head, plans={"train": plan})


def answer_of(letters, task, name="north"):
    letters.logs[name].clear()
    return respond(letters.sites[name], to_fields(task), letters.logs[name].append)


def test_a_task_arrives_as_it_was_sent(asked):
    assert from_fields(to_fields(asked)) == asked


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("version", 9, r"asks in a way that is not known here \(version 9"),
        ("method", "../../etc", r"asks for the method '../../etc'"),
        ("method", "local", r"asks for the method 'local'"),
        ("kind", "shell", r"asks for the kind 'shell'"),
        ("preset", "huge", r"asks for the preset"),
        ("seed", -1, r"seed -1, expected 0 or more"),
        ("head", True, r"head True, expected 0 or more"),
        ("encoder", "text", r"sent no encoder"),
        ("broadcast", "", r"or not which one all sites are sent"),
        ("exchange", "a\nb", r"an exchange that cannot be read"),
        ("content", "text", r"an exchange that cannot be read"),
        ("data", "{", r"settings that are unknown"),
        ("data", '{"folder": "/etc"}', r"unknown key `folder`"),
        ("plans", "{}", r"with plans for nothing"),
        ("plans", {"epochs": -4}, r"asks for train with epochs -4, expected 0 or more"),
        ("plans", {"learning_rate": float("nan")}, r"train with learning_rate nan, expected"),
    ],
)
def test_what_the_server_may_not_ask_is_refused(letters, asked, field, value, text):
    if isinstance(value, dict):
        value = to_fields(replace(asked, plans={"train": replace(asked.plans["train"], **value)}))
        value = value["plans"]
    fields = {**to_fields(asked), field: value}
    with pytest.raises(KnowledgeError, match=text):
        from_fields(fields)
    assert respond(letters.sites["north"], fields, lambda _: None) == {"refusal": "asked"}


def test_the_head_stays_and_the_stage_after_goes_on_with_it(letters, asked):
    site = letters.sites["north"]
    local = replace(site.agreement.local, stages=3)
    site = replace(site, agreement=replace(site.agreement, local=local))
    letters.sites["north"] = site
    heads = site.folder / "heads" / "seed-0" / "universal"
    for number, head, left in ((0, 0, {1}), (1, 1, {1, 2}), (1, 1, {1, 2}), (2, 2, {2, 3})):
        fields = answer_of(letters, stage(site, asked, number, head))
        assert set(fields) == {"knowledge"}
        assert {p.name for p in heads.iterdir()} == {f"stage-{n:03d}.safetensors" for n in left}


def test_a_stage_that_is_asked_for_again_gives_the_same_bytes(letters, asked):
    answer_of(letters, asked)
    second = stage(letters.sites["north"], asked, 1, 1)
    assert answer_of(letters, second) == answer_of(letters, second)


def test_another_encoder_than_the_others_got_is_not_trained(letters, asked):
    assert answer_of(letters, replace(asked, broadcast="0" * 64)) == {"refusal": "message"}
    assert "received another encoder than the other sites" in letters.logs["north"][-1]


def test_the_ledger_names_what_left(letters, asked):
    fields = answer_of(letters, asked)
    ledger = (letters.sites["north"].folder / "ledger.jsonl").read_text().splitlines()
    last = json.loads(ledger[-1])
    assert (last["kind"], last["stage"], last["method"]) == ("update", 1, "universal")
    assert last["digest"] == digest(fields["knowledge"])
    assert "signature" in last


def test_a_ledger_that_is_gone_is_not_begun_anew(letters, asked):
    path = letters.sites["north"].folder / "ledger.jsonl"
    kept = path.read_bytes()
    lines = verify(path).lines
    assert lines > 0
    path.unlink()
    heads = letters.sites["north"].folder / "heads" / "seed-0" / "universal"
    second = stage(letters.sites["north"], asked, 1, 1)
    assert answer_of(letters, second) == {"refusal": "ledger"}
    said = letters.logs["north"][-1]
    assert "the ledger of site 'north' is gone, and with it what has left the site" in said
    assert "restore the file from a backup" in said
    assert not path.exists()
    assert [p.name for p in heads.iterdir()] == ["stage-001.safetensors"]  # nothing was trained
    path.write_bytes(kept)
    assert set(answer_of(letters, second)) == {"knowledge"}
    found = verify(path)
    assert (found.lines, found.problems) == (lines + 1, ())


def test_of_an_error_one_word_leaves_and_the_text_stays(letters, asked, tmp_path):
    gone = tmp_path / "Jane Doe 1950"
    site = replace(letters.sites["north"], data=gone)
    log = []
    fields = respond(site, to_fields(asked), log.append)
    assert fields == {"refusal": "data"}
    assert "Jane Doe" in log[-1]
    with pytest.raises(KnowledgeError, match=r"site 'north' sends nothing: its data cannot be"):
        read_answer(fields, "north")


def test_a_bug_is_a_word_too(letters, asked, monkeypatch):
    monkeypatch.setattr("polyclinic.deploy.site_work.WORK", {})
    assert answer_of(letters, asked) == {"refusal": "bug"}
    assert "KeyError" in letters.logs["north"][-1]
    assert "bug" in REFUSALS


@pytest.fixture
def judging(asked, deployment):
    plans = dict.fromkeys(PROTOCOLS, protocol_plan(deployment.config))
    stages, bootstrap = deployment.config.local.stages, deployment.config.evaluation.bootstrap
    return replace(asked, kind="evaluate", stage=stages, plans=plans, bootstrap=bootstrap)


def test_judging_keeps_everything_and_tells_two_numbers(letters, judging, start):
    fields = answer_of(letters, judging)
    told = unpack(fields["knowledge"], SCORES_SCHEMA, "north").scalars
    out = letters.sites["north"].folder / "results" / "seed-0" / "universal"
    scores = json.loads((out / "scores.json").read_text())
    assert scores["told"] == told
    assert all(row["low"] is None or row["low"] <= row["value"] for row in scores["scores"])
    assert {p.name for p in out.glob("*.npz")} == {"linear-probe.npz", "fine-tune.npz"}
    kept = load_file(out / "encoder.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in start.items())


def test_a_site_may_keep_its_scores(letters, judging):
    letters.sites["north"] = replace(letters.sites["north"], tells_scores=False)
    fields = answer_of(letters, judging)
    told = unpack(fields["knowledge"], SCORES_SCHEMA, "north").scalars
    assert all(value != value for value in told.values())
    out = letters.sites["north"].folder / "results" / "seed-0" / "universal"
    assert json.loads((out / "scores.json").read_text())["scores"][0]["value"] is not None


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"batch_size": 2}, "batch_size"),
        ({"max_steps": 1}, "max_steps"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 1e-9}, "learning_rate"),
        ({"anchor": "none"}, "anchor"),
        ({"own_norms": True}, "own_norms"),
    ],
)
def test_another_training_than_agreed_is_refused(letters, asked, changes, what):
    plans = {"train": replace(asked.plans["train"], **changes)}
    assert answer_of(letters, replace(asked, plans=plans)) == {"refusal": "privacy"}
    assert f"another `{what}` than this site agreed to" in letters.logs["north"][-1]


def test_a_rate_that_another_machine_rounds_otherwise_is_the_same(letters, asked):
    rate = math.nextafter(asked.plans["train"].learning_rate, 1)
    plans = {"train": replace(asked.plans["train"], learning_rate=rate)}
    assert set(answer_of(letters, replace(asked, plans=plans))) == {"knowledge"}


def sent(task, encoder):
    content = encode(encoder)
    return replace(task, encoder=content, broadcast=digest(content))


def test_a_stage_is_trained_for_one_encoder(letters, asked, start):
    first = answer_of(letters, asked)
    assert answer_of(letters, asked) == first
    other = sent(asked, {name: value + 1e-3 for name, value in start.items()})
    assert answer_of(letters, other) == {"refusal": "privacy"}
    assert "asked for this before, with another encoder" in letters.logs["north"][-1]


def test_an_encoder_that_goes_round_may_come_again_a_few_times(letters, asked, start):
    site = letters.sites["north"]
    universal = replace(site.agreement.universal, exchange="cyclic")
    letters.sites["north"] = replace(site, agreement=replace(site.agreement, universal=universal))
    moved = [{name: value + n * 1e-3 for name, value in start.items()} for n in range(4)]
    answers = [set(answer_of(letters, sent(asked, encoder))) for encoder in moved]
    assert answers == 3 * [{"knowledge"}] + [{"refusal"}]


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"stage": 0}, "stages"), ({"bootstrap": 9}, "bootstrap"), ({"encoder": b"x"}, "encoder")],
)
def test_only_a_final_encoder_is_judged_as_agreed(letters, judging, changes, what):
    assert answer_of(letters, replace(judging, **changes)) == {"refusal": "privacy"}
    assert f"another `{what}` than this site agreed to" in letters.logs["north"][-1]


def test_one_encoder_is_judged_and_no_other(letters, judging, start):
    told = answer_of(letters, judging)
    other = sent(judging, {name: value + 1e-3 for name, value in start.items()})
    assert answer_of(letters, other) == {"refusal": "privacy"}
    kept = load_file(
        letters.sites["north"].folder / "results" / "seed-0" / "universal" / "encoder.safetensors"
    )
    assert torch.equal(kept["stem.weight"], start["stem.weight"])
    assert answer_of(letters, judging) == told


@pytest.mark.parametrize("broken", ['{"name": "Jane Doe"}', "{", '{"agreement": {"x": 1}}', "[]"])
def test_of_a_broken_folder_one_word_leaves_too(tmp_path, asked, broken):
    folder = tmp_path / "Jane Doe"
    folder.mkdir()
    (folder / "site.json").write_text(broken)
    log = []
    assert respond_from(folder, to_fields(asked), log.append) == {"refusal": "folder"}
    assert "Jane Doe" in log[-1]
    assert "folder" in REFUSALS


def test_whatever_happens_no_text_leaves(tmp_path, asked, monkeypatch):
    def fail(_):
        raise ValueError("Jane Doe")

    monkeypatch.setattr("polyclinic.deploy.site_work.load_site", fail)
    assert respond_from(tmp_path, to_fields(asked), lambda _: None) == {"refusal": "bug"}


def test_the_data_are_prepared_as_the_federation_wants(letters):
    site = letters.sites["north"].prepared(DataConfig(image_size=32))
    assert site.images.shape[-2:] == (32, 32)
    assert site.name == "north"


def test_a_message_loads_nothing_that_only_judging_needs():
    """A process answers each message, so what it loads is paid for every time."""
    program = (
        "import sys; import polyclinic.deploy.site_work; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert {"sklearn", "scipy", "monai", "pandas", "pydicom"}.isdisjoint(done.stdout.split())
