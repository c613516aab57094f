"""What a site does with what it is asked, what it keeps, and how little leaves when it fails."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from polyclinic.config import DataConfig
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.site_work import respond
from polyclinic.deploy.tasks import REFUSALS, from_fields, read_answer, to_fields
from polyclinic.errors import KnowledgeError
from polyclinic.evaluate.protocols import PROTOCOLS, protocol_plan
from polyclinic.federation.exchange import Door, site_stage
from polyclinic.federation.knowledge import SCORES_SCHEMA, encode, schema_of, unpack
from polyclinic.federation.ledger import Label, digest
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
    plan = replace(protocol_plan(config), stages=config.local.stages)
    door = Door(Label("universal", 0, 1), broadcast=digest(encode(start)))
    task = ("small", start, None, plan, schema_of(start), (0, "universal", 0, "north"), door)
    list(sites.map(site_stage, [("north", task)]))
    return letters.sent[0][1]


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
    letters.sites["north"] = replace(site, agreement=replace(site.agreement, stages=3))
    asked = replace(asked, plans={"train": replace(asked.plans["train"], stages=3)})
    heads = site.folder / "heads" / "seed-0" / "universal"
    for stage, head, left in ((0, 0, {1}), (1, 1, {1, 2}), (1, 1, {1, 2}), (2, 2, {2, 3})):
        fields = answer_of(letters, replace(asked, stage=stage, head=head))
        assert set(fields) == {"knowledge"}
        assert {p.name for p in heads.iterdir()} == {f"stage-{n:03d}.safetensors" for n in left}


def test_a_stage_that_is_asked_for_again_gives_the_same_bytes(letters, asked):
    answer_of(letters, asked)
    second = replace(asked, stage=1, head=1)
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
    second = replace(asked, stage=1, head=1)
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
    return replace(asked, kind="evaluate", plans=plans)


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
