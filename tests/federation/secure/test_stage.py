"""A federation in one process, with and without: the same encoder, and nothing single in sight."""

import json
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from scipy import stats

from polyclinic.config import FederationConfig
from polyclinic.errors import ConfigError, DataError, KnowledgeError, RunError
from polyclinic.federation import exchange
from polyclinic.federation.knowledge import Knowledge, schema_of
from polyclinic.federation.ledger import digest
from polyclinic.federation.methods import METHODS
from polyclinic.federation.secure import stage as module
from polyclinic.federation.secure.masking import (
    MOST_EXAMPLES,
    Masking,
    pack_masked,
    quantisation,
    unpack_masked,
)
from polyclinic.federation.secure.member import Masks
from polyclinic.federation.site import Trained
from polyclinic.federation.verification import verify

SECURE = FederationConfig(norm_factor=0.0, secure=True, secure_threshold=3)
SCALARS = {"examples": 8.0, "loss": 0.5, "received_score": 0.5, "trained_score": 0.5}


@pytest.fixture
def secured(federate, make_site, tmp_path):
    """(method, folder, settings, stages, **universal) -> (Federation of four, its records)."""

    def build(method="fedavg", folder="secure", settings=SECURE, stages=1, **universal):
        sites = [make_site("single-label", n, n=12 + 4 * i, seed=i) for i, n in enumerate("abcd")]
        universal = {"distil_every": 0, **universal}
        fed, records = federate(method, sites, stages=stages, **universal)
        fed.config = replace(fed.config, federation=settings)
        fed.store.folder = tmp_path / folder / method
        fed.ledgers = tmp_path / folder / "ledgers"
        return fed, records

    return build


@pytest.fixture
def quick_sites(monkeypatch):
    """Sites that do not train, but change their encoder by a random amount of their own."""

    def stage(site, preset, received, head, plan, *seed):
        gen = torch.Generator().manual_seed(sum(site.name.encode()))
        change = {
            k: 0.01 * torch.randn(v.shape, generator=gen) for k, v in sorted(received.items())
        }
        scalars = {**SCALARS, "examples": float(len(site.split["train"]))}
        return Trained(Knowledge(change, scalars), {"w": torch.zeros(1)})

    monkeypatch.setattr(exchange, "train_stage", stage)
    return stage


# The same encoder.


@pytest.mark.parametrize(("method", "weighting"), [("fedavg", "size"), ("universal", "equal")])
def test_with_and_without_the_encoder_is_the_same_within_the_bound(
    secured, monkeypatch, method, weighting
):
    largest = []

    def measured(knowledge, *given):
        largest.append(max(float(value.abs().max()) for value in knowledge.tensors.values()))
        return pack(knowledge, *given)

    pack = exchange.pack
    monkeypatch.setattr(exchange, "pack", measured)
    plain, plain_records = secured(method, "plain", FederationConfig(norm_factor=0.0))
    secure, records = secured(method)
    one, two = METHODS[method](plain)["a"], METHODS[method](secure)["a"]
    sizes = [record["examples"] for record in records[0]["sites"].values()]
    assert sizes == [6, 8, 10, 12]
    weight = sum(sizes) if weighting == "size" else 4
    bound = quantisation(weighting, 4, 1.0).bound(4, weight)
    assert bound < 1e-8
    assert 1e-3 < max(largest) < 1.0
    for name, value in one.items():
        # float32 rounds the plain mean of changes this large, and the encoder that it is added to
        rounding = 4 * torch.finfo(torch.float32).eps * (value.abs() + max(largest))
        assert ((two[name] - value).abs() <= bound + rounding).all(), name
    for site, said in plain_records[0]["sites"].items():
        told = {k: v for k, v in said.items() if k in SCALARS}
        assert told == {k: v for k, v in records[0]["sites"][site].items() if k in SCALARS}


def test_the_keys_do_not_show_in_the_result(secured, quick_sites):
    one, two = (METHODS["fedavg"](secured(folder=f)[0])["a"] for f in ("one", "two"))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_killed_run_goes_on(secured, quick_sites):
    def killed(phase, number, *_):
        if number == 2:
            raise KeyboardInterrupt

    whole = METHODS["fedavg"](secured(folder="whole", stages=2)[0])["a"]
    fed, _ = secured(stages=2)
    fed.tell = killed
    with pytest.raises(KeyboardInterrupt):
        METHODS["fedavg"](fed)
    resumed = METHODS["fedavg"](secured(stages=2)[0])["a"]
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


# What is seen and recorded.


def test_what_leaves_is_masked_and_in_the_ledgers(secured, quick_sites, monkeypatch):
    sent = []

    def recorded(message, book, label):
        sent.append((label.kind, message))
        return leave(message, book, label)

    leave = exchange.leave
    for place in (exchange, module):
        monkeypatch.setattr(place, "leave", recorded)
    fed, records = secured()
    METHODS["fedavg"](fed)
    assert [kind for kind, _ in sent] == [
        *["keys"] * 4,
        *["shares"] * 4,
        *["update"] * 4,
        *["unmasking"] * 4,
    ]
    plain = quick_sites(fed.workers.sites["a"], "small", fed.start, None, None)
    for kind, message in sent:
        if kind != "update":
            assert len(message) < 5000
            continue
        words = load(message)
        assert {k: v.shape for k, v in words.items()} == {k: v.shape for k, v in fed.start.items()}
        row = np.concatenate([v.ravel() for v in words.values()])
        found = np.bincount(row.view(np.uint8), minlength=256)
        assert stats.chisquare(found).pvalue > 1e-6
        for value in plain.knowledge.tensors.values():
            if value.numel() > 4:
                assert value.numpy().tobytes() not in message
    (record,) = records
    updates = [message for kind, message in sent if kind == "update"]
    assert [said["digest"] for said in record["sites"].values()] == [digest(m) for m in updates]
    for site in "abcd":
        found = verify(fed.ledgers / f"{site}.jsonl")
        assert found.problems == ()
        assert found.lines == 4
        assert record["sites"][site]["bytes_up"] == found.bytes
        assert record["sites"][site]["messages"] == 8
    assert {d for _, message in sent for d in [digest(message)]} == {
        d for site in "abcd" for d in verify(fed.ledgers / f"{site}.jsonl").sent
    }


def test_the_methods_get_no_single_change(secured, quick_sites):
    fed, _ = secured()
    stages = fed.begin({"": fed.start})
    change, updates = module.train_sum(fed, stages, fed.plan(stages), "size")
    assert [update.change for update in updates] == [{}] * 4
    assert change.keys() == fed.start.keys()


# Dropouts.


def failing(monkeypatch, quick_sites, names):
    def stage(site, *given):
        if site.name in names:
            raise DataError(f"{site.name}: the disk with the images is gone")
        return quick_sites(site, *given)

    monkeypatch.setattr(exchange, "train_stage", stage)


def mean_of(fed, quick_sites, names):
    """The weighted mean change of some sites, by hand."""
    parts = [
        quick_sites(fed.workers.sites[n], "small", fed.start, None, None).knowledge for n in names
    ]
    total = sum(p.scalars["examples"] for p in parts)
    return {
        k: sum(p.tensors[k].double() * p.scalars["examples"] for p in parts) / total
        for k in fed.start
    }


def test_a_site_that_fails_in_training_has_dropped_out(secured, quick_sites, monkeypatch):
    failing(monkeypatch, quick_sites, "b")
    heard = []
    fed, records = secured()
    fed.tell = lambda *what: heard.append(what[:3])
    encoder = METHODS["fedavg"](fed)["a"]
    reason = "b: the disk with the images is gone"
    assert records[0]["absent"] == [{"site": "b", "reason": reason}]
    assert [*records[0]["sites"]] == ["a", "c", "d"]
    assert ("absent", 1, "b") in heard
    expected = mean_of(fed, quick_sites, "acd")
    for name, value in fed.start.items():
        torch.testing.assert_close(
            encoder[name], (value + expected[name]).float(), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("step", ["advertise", "share_keys", "accept"])
def test_a_site_may_drop_out_in_any_round(secured, quick_sites, monkeypatch, step):
    fed, records = secured()

    def gone(given, *more):
        name = given.site if step != "advertise" else more[0]
        if name == "c":
            raise KnowledgeError("c: the line is cut")
        return real(given, *more)

    real = getattr(module, step)
    monkeypatch.setattr(module, step, gone)
    METHODS["fedavg"](fed)
    assert records[0]["absent"] == [{"site": "c", "reason": "c: the line is cut"}]
    assert [*records[0]["sites"]] == ["a", "b", "d"]


def test_a_site_that_is_gone_at_the_end_has_taken_part(secured, quick_sites, monkeypatch):
    def gone(member, request):
        if member.site == "c":
            raise KnowledgeError("c: the line is cut")
        return real(member, request)

    real = module.reveal
    monkeypatch.setattr(module, "reveal", gone)
    fed, records = secured()
    encoder = METHODS["fedavg"](fed)["a"]
    assert records[0]["absent"] == []
    assert records[0]["sites"]["c"]["messages"] == 7
    expected = mean_of(fed, quick_sites, "abcd")
    assert all((encoder[k] - v - expected[k]).abs().max() < 1e-6 for k, v in fed.start.items())


def test_below_the_threshold_the_run_stops_and_says_who_was_absent(
    secured, quick_sites, monkeypatch
):
    failing(monkeypatch, quick_sites, "bd")
    fed, records = secured()
    with pytest.raises(
        RunError,
        match=r"fedavg, seed 3, stage 1: 2 of 4 sites sent a masked change, expected at least 3 "
        r"\(federation.secure_threshold\); .* resume .*\(b: b: the disk.*; d: d: the disk",
    ):
        METHODS["fedavg"](fed)
    assert records == []


def test_a_site_whose_ledger_cannot_be_written_sends_nothing(secured, quick_sites):
    fed, records = secured()
    fed.ledgers.mkdir(parents=True)
    (fed.ledgers / "b.jsonl").mkdir()
    METHODS["fedavg"](fed)
    (absent,) = records[0]["absent"]
    assert absent["site"] == "b"
    assert "cannot be written" in absent["reason"]


def test_a_masked_message_that_was_changed_is_refused(secured, quick_sites, monkeypatch):
    def tampered(knowledge, schema, site, masking):
        message = pack_masked(knowledge, schema, site, masking)
        return message + b"image" if site == "b" else message

    monkeypatch.setattr(exchange, "pack_masked", tampered)
    fed, records = secured()
    METHODS["fedavg"](fed)
    (absent,) = records[0]["absent"]
    assert absent["reason"].startswith("refused from site 'b': not a readable message")


# Planted: a source of random numbers that repeats.


def test_masks_that_are_used_again_are_refused(secured, quick_sites, monkeypatch):
    """b's machine was copied while it ran: in every stage, it draws the numbers of the first."""
    real = module.advertise

    def repeating(terms, name, identity, entropy):
        own = random.Random(0).randbytes if name == "b" else entropy
        return real(terms, name, identity, own)

    monkeypatch.setattr(module, "advertise", repeating)
    fed, records = secured(stages=3)
    METHODS["fedavg"](fed)
    assert records[0]["absent"] == []
    for record in records[1:]:
        (absent,) = record["absent"]
        assert absent["site"] == "b"
        assert absent["reason"].startswith("refused from site 'b': its keys were used before, and")
    # also after the server was started again
    fed, records = secured(stages=4)
    METHODS["fedavg"](fed)
    assert records[-1]["absent"][0]["reason"].startswith("refused from site 'b': its keys were us")


# Messages.


@pytest.fixture
def masking():
    return Masking(Masks([(1, bytes(32))]), quantisation("equal", 4, 1.0), "equal")


SCHEMA = schema_of({"b": torch.zeros(3), "a.w": torch.zeros(2, 2), "s": torch.zeros(())})
CHANGE = {"b": torch.ones(3), "a.w": torch.zeros(2, 2), "s": torch.tensor(0.5)}


def test_a_masked_message_reads_as_it_was_written(masking):
    message = pack_masked(Knowledge(CHANGE, SCALARS), SCHEMA, "north", masking)
    words, scalars = unpack_masked(message, SCHEMA, "north", 32)
    assert words.shape == (8,)
    assert scalars == SCALARS


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda m: m[:-4], r"not a readable message"),
        (lambda _: b"", r"not a readable message"),
        (lambda m: m.replace(b"U32", b"F32"), r"expected the declared tensors, as words of 32"),
        (lambda m: m.replace(b'"a.w"', b'"a.x"'), r"expected the declared tensors"),
        (lambda m: m.replace(b"examples", b"patients"), r"scalar `examples` is missing"),
        (lambda m: m.replace(b'\\"loss\\": 0.5', b'\\"loss\\":0.50'), r"it holds more than its"),
    ],
)
def test_a_masked_message_that_is_not_as_declared_is_refused(masking, damage, text):
    message = pack_masked(Knowledge(CHANGE, SCALARS), SCHEMA, "north", masking)
    changed = damage(message)
    assert changed != message
    with pytest.raises(KnowledgeError, match=rf"refused from site 'north': {text}"):
        unpack_masked(changed, SCHEMA, "north", 32)


@pytest.mark.parametrize(
    ("change", "scalars", "text"),
    [
        ({**CHANGE, "image": torch.zeros(4)}, SCALARS, r"tensor `image` is not declared"),
        ({**CHANGE, "b": torch.full((3,), torch.nan)}, SCALARS, r"`b` holds NaN or infinity"),
        (CHANGE, {**SCALARS, "patients": 3}, r"scalar `patients` is not declared"),
    ],
)
def test_what_is_not_declared_is_not_masked_either(masking, change, scalars, text):
    with pytest.raises(KnowledgeError, match=text):
        pack_masked(Knowledge(change, scalars), SCHEMA, "north", masking)


def test_what_a_site_is_told_of_masks_can_go_to_another_process(masking):
    knowledge = Knowledge(CHANGE, SCALARS)
    sent = pickle.loads(pickle.dumps(masking))
    assert pack_masked(knowledge, SCHEMA, "n", sent) == pack_masked(knowledge, SCHEMA, "n", masking)
    with pytest.raises(KnowledgeError, match=r"site 'n' sends nothing: these masks were used bef"):
        pack_masked(knowledge, SCHEMA, "n", masking)


def test_a_site_that_is_too_large_for_weights_by_size_says_so():
    masking = Masking(Masks([(1, bytes(32))]), quantisation("size", 4, 1.0), "size")
    many = {**SCALARS, "examples": 2.0 * MOST_EXAMPLES}
    with pytest.raises(KnowledgeError, match=r"examples` is 33554432.0, expected 1 to 16777216"):
        pack_masked(Knowledge(CHANGE, many), SCHEMA, "north", masking)


# What it needs.


def test_the_engine_refuses_what_needs_single_changes(secured):
    fed, _ = secured("universal", distil_every=1)
    with pytest.raises(
        ConfigError, match=r"universal: federation.secure: .*distil_every = 0, got 1"
    ):
        METHODS["universal"](fed)


def test_a_request_that_is_answered_is_json_of_keys_and_shares_alone(secured, quick_sites):
    fed, _ = secured()
    METHODS["fedavg"](fed)
    lines = (fed.ledgers / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["keys", "shares", "update", "unmasking"]
    update = json.loads(lines[2])
    assert update["tensors"]["stem.weight"][0] == "U64"
    assert all(json.loads(line)["tensors"] == {} for line in (lines[0], lines[1], lines[3]))
