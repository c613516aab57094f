"""What travels, what is recorded, and who is absent."""

import math
import re
from dataclasses import replace

import pytest
import torch

from polyclinic.config import FederationConfig
from polyclinic.errors import DataError, KnowledgeError, PolyclinicError, RunError
from polyclinic.federation import arrival, exchange
from polyclinic.federation.knowledge import Knowledge, encode, pack, schema_of
from polyclinic.federation.ledger import digest
from polyclinic.federation.methods import METHODS
from polyclinic.federation.site import train_stage
from polyclinic.federation.verification import verify


def test_what_travels_is_the_declared_knowledge_and_no_head(federate, make_site, monkeypatch):
    sites = [make_site("single-label", "a", n=16), make_site("segmentation", "b", n=16)]
    messages, heads = {}, {}

    def eavesdrop(message, schema, site, how):
        messages[site] = message
        return unpack(message, schema, site, how)

    unpack = arrival.unpack
    monkeypatch.setattr(arrival, "unpack", eavesdrop)
    fed, _ = federate("fedavg", sites)
    stages = fed.begin({"": fed.start})
    updates = fed.train(stages, fed.plan(stages))
    for update in updates:
        message = messages[update.site]
        assert len(message) == update.bytes_up
        assert update.bytes_down == len(encode(fed.start))
        heads[update.site] = update.head
        for key, value in update.head.items():
            assert f'"{key}"'.encode() not in message
            if value.numel() > 4:
                assert value.numpy().tobytes() not in message
        for image in fed.workers.sites[update.site].images[:2]:
            assert image.tobytes() not in message
        assert b"vertical" not in message
        assert b"square" not in message
    assert {*heads["a"]} > {"linear.weight", "linear.bias"}
    assert {*heads["b"]} > {"mix.weight", "out.weight"}


def failing(monkeypatch, *names, how):
    def stage(site, preset, received, head, plan, *seed):
        if site.name in names and how == "raises":
            raise DataError(f"{site.name}: the disk with the images is gone")
        trained = train_stage(site, preset, received, head, plan, *seed)
        if site.name in names:
            next(iter(trained.knowledge.tensors.values()))[0] = math.nan
        return trained

    monkeypatch.setattr(exchange, "train_stage", stage)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "b: the disk with the images is gone"),
        ("diverges", "site 'b' may not send: tensor `stem.weight` holds NaN or infinity"),
    ],
)
def test_a_failing_site_is_absent_with_its_reason(federate, monkeypatch, how, reason):
    failing(monkeypatch, "b", how=how)
    heard = []
    fed, records = federate("fedavg", stages=2, tell=lambda *what: heard.append(what[:3]))
    encoder = METHODS["fedavg"](fed)["b"]
    assert all(torch.isfinite(v).all() for v in encoder.values())
    for number, record in enumerate(records, start=1):
        assert record["absent"] == [{"site": "b", "reason": reason}]
        assert [*record["sites"]] == ["a"]
        assert ("absent", number, "b") in heard
    assert len(records) == 2


def test_a_message_that_was_tampered_with_is_refused(federate, monkeypatch):
    def tamper(knowledge, schema, site, how):
        if site == "a":
            wide = {**knowledge.tensors, "image": torch.zeros(1, 16, 16)}
            return pack(Knowledge(wide, knowledge.scalars), schema_of(wide), site, how)
        return pack(knowledge, schema, site, how)

    monkeypatch.setattr(exchange, "pack", tamper)
    fed, records = federate("fedavg")
    METHODS["fedavg"](fed)
    (absent,) = records[0]["absent"]
    assert absent == {
        "site": "a",
        "reason": "refused from site 'a': tensor `image` is not declared",
    }


def test_a_site_that_fails_alone_keeps_its_encoder(federate, monkeypatch):
    failing(monkeypatch, "b", how="raises")
    fed, _ = federate("local")
    encoders = METHODS["local"](fed)
    assert encoders["b"] is fed.start
    assert not torch.equal(encoders["a"]["stem.weight"], fed.start["stem.weight"])


def test_when_every_site_fails_the_run_says_why(federate, monkeypatch):
    failing(monkeypatch, "a", "b", how="raises")
    fed, records = federate("universal")
    with pytest.raises(RunError, match=r"universal: stage 1: every site failed \(a: .*; b: .*gone"):
        METHODS["universal"](fed)
    assert records == []


def test_learning_rates_fall_with_the_stages(federate):
    fed, _ = federate("fedavg", stages=4)
    stages = [exchange.Stages(done, 4, {}) for done in range(4)]
    rates = [fed.plan(s).learning_rate / fed.config.local.learning_rate for s in stages]
    assert rates == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-5)
    assert fed.plan(stages[0], anchor="feature").anchor == "feature"


def test_heads_go_on_from_stage_to_stage(federate, monkeypatch):
    received = []

    def stage(site, preset, encoder, head, plan, *seed):
        received.append(head)
        return train_stage(site, preset, encoder, head, plan, *seed)

    monkeypatch.setattr(exchange, "train_stage", stage)
    fed, _ = federate("fedavg", stages=2)
    METHODS["fedavg"](fed)
    assert received[:2] == [None, None]
    assert all("linear.weight" in head for head in received[2:])
    assert not torch.equal(received[2]["linear.weight"][:1], received[3]["linear.weight"])


# Arrival: refused by name, and the round goes on.


def four(make_site):
    return [make_site("single-label", name, n=16, seed=i) for i, name in enumerate("abcd")]


def test_a_change_that_is_far_too_long_is_refused_and_the_round_goes_on(
    federate, make_site, monkeypatch
):
    def scaled(site, preset, received, head, plan, *seed):
        trained = train_stage(site, preset, received, head, plan, *seed)
        if site.name == "c":
            for value in trained.knowledge.tensors.values():
                value *= 100
        return trained

    monkeypatch.setattr(exchange, "train_stage", scaled)
    heard = []
    fed, records = federate(
        "universal", four(make_site), tell=lambda *what: heard.append(what[:3]), distil_every=0
    )
    encoder = METHODS["universal"](fed)["a"]
    (absent,) = records[0]["absent"]
    assert absent["site"] == "c"
    assert absent["reason"].startswith("refused from site 'c': its change has length ")
    assert [*records[0]["sites"]] == ["a", "b", "d"]
    assert ("refused", 1, "c") in heard
    fed, _ = federate("universal", [s for s in four(make_site) if s.name != "c"], distil_every=0)
    fed.store.folder = fed.store.folder.with_name("never-joined")
    never_joined = METHODS["universal"](fed)["a"]
    assert all(torch.equal(encoder[k], v) for k, v in never_joined.items())


def test_the_limit_may_be_switched_off(federate, make_site):
    fed, records = federate("fedavg", four(make_site))
    fed.config = replace(fed.config, federation=FederationConfig(norm_factor=1.0))
    METHODS["fedavg"](fed)
    assert len(records[0]["absent"]) == 2  # those above the median
    fed, records = federate("fedprox", four(make_site))
    fed.config = replace(fed.config, federation=FederationConfig(norm_factor=0.0))
    METHODS["fedprox"](fed)
    assert records[0]["absent"] == []


class Relay:
    """`Workers` whose parcels and tasks pass through other hands."""

    def __init__(self, workers, parcel=lambda *p: p[-1], task=lambda *t: t[-1]):
        self.workers, self.parcel, self.task, self.calls = workers, parcel, task, 0

    def __getattr__(self, name):
        return getattr(self.workers, name)

    def map(self, work, tasks):
        self.calls += 1
        changed = [(name, self.task(name, given)) for name, given in tasks]
        for name, result in self.workers.map(work, changed):
            if isinstance(result, PolyclinicError):
                yield name, result
            else:
                sent, head = result
                yield name, (self.parcel(self.calls, name, sent), head)


def through(fed, **hands):
    fed.workers = Relay(fed.workers, **hands)


def test_a_replay_is_refused_also_after_a_restart(federate):
    kept = {}

    def replay(stage, name, parcel):
        if name != "b":
            return parcel
        return replace(parcel, message=kept.setdefault("first", parcel.message))

    fed, records = federate("fedavg", stages=3)
    through(fed, parcel=replay)
    METHODS["fedavg"](fed)
    reason = "refused from site 'b': the same message was let in before (a replay)"
    assert [r["absent"] for r in records] == [[], *[[{"site": "b", "reason": reason}]] * 2]
    # the server starts again, and still knows
    fed, records = federate("fedavg", stages=4)
    assert len(fed.store.latest(4).seen) == 4  # two of the first stage, one of each other
    through(fed, parcel=replay)
    METHODS["fedavg"](fed)
    assert records[-1]["absent"] == [{"site": "b", "reason": reason}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: replace(p, sender="a"), "it says to come from 'a'"),
        (lambda p: replace(p, label=replace(p.label, stage=9)), "stage 9, expected .*stage 1"),
        (lambda p: replace(p, label=replace(p.label, method="fedprox")), "of an update .*fedprox"),
    ],
)
def test_what_does_not_belong_here_is_refused_and_the_round_goes_on(federate, change, reason):
    fed, records = federate("fedavg")
    through(fed, parcel=lambda _, name, parcel: change(parcel) if name == "b" else parcel)
    METHODS["fedavg"](fed)
    (absent,) = records[0]["absent"]
    assert absent["site"] == "b"
    assert re.match(f"refused from site 'b': .*{reason}", absent["reason"])
    assert [*records[0]["sites"]] == ["a"]


def test_bytes_alone_are_let_in_from_a_carrier_that_knows_its_senders(federate):
    fed, records = federate("fedavg")
    through(fed, parcel=lambda *p: p[-1].message)
    METHODS["fedavg"](fed)
    assert records[0]["absent"] == []


# The broadcast: all sites train on the same encoder, or not at all.


def test_the_record_says_what_was_broadcast(federate):
    fed, records = federate("fedavg")
    METHODS["fedavg"](fed)
    assert records[0]["broadcast"] == digest(encode(fed.start))
    fed, records = federate("local")
    METHODS["local"](fed)
    assert records[0]["broadcast"] == ""


def test_a_site_that_receives_another_encoder_does_not_train(federate, monkeypatch):
    trained = []

    def stage(site, *given):
        trained.append(site.name)
        return train_stage(site, *given)

    def tampered(name, task):
        if name != "b":
            return task
        other = {k: v + 1e-6 for k, v in task[1].items()}
        return (task[0], other, *task[2:])

    monkeypatch.setattr(exchange, "train_stage", stage)
    fed, records = federate("fedavg")
    through(fed, task=tampered)
    METHODS["fedavg"](fed)
    reason = "site 'b' received another encoder than the other sites; it has not trained"
    assert records[0]["absent"] == [{"site": "b", "reason": reason}]
    assert trained == ["a"]


def test_a_server_that_singles_out_a_site_is_found_before_anyone_trains(federate, monkeypatch):
    monkeypatch.setattr(exchange, "train_stage", None)
    fed, _ = federate("fedavg")
    other = {k: v + 1e-6 for k, v in fed.start.items()}
    stages = fed.begin({"": fed.start, "b": other})
    with pytest.raises(KnowledgeError, match=r"did not receive the same encoder \(.*: a; .*: b\)"):
        fed.train(stages, fed.plan(stages))


# The wire.


def test_float32_is_what_was_always_sent(federate):
    fed, records = federate("fedavg")
    plain = METHODS["fedavg"](fed)["a"]
    again, _ = federate("fedavg")
    again.store.folder = again.store.folder.with_name("again")
    again.config = replace(again.config, federation=FederationConfig(compress="zlib"))
    squeezed = METHODS["fedavg"](again)["a"]
    assert all(torch.equal(plain[k], squeezed[k]) for k in plain)
    assert records[0]["sites"]["a"]["bytes_up"] > 4 * sum(v.numel() for v in plain.values())
    assert not any(k.startswith(exchange.RESIDUAL) for k in fed.store.latest(1).heads["a"])


@pytest.mark.parametrize(
    ("told", "most", "near"),
    [
        (FederationConfig("float16"), 0.51, 0.1),
        (FederationConfig("int8"), 0.27, 0.1),
        (FederationConfig(rank=8), 0.2, 0.5),
        (FederationConfig("int8", rank=8), 0.07, 0.5),
    ],
    ids=["float16", "int8", "rank 8", "int8, rank 8"],
)
def test_a_small_wire_is_near_and_carries_over_what_it_lost(federate, told, most, near):
    fed, records = federate("fedavg", stages=2)
    plain = METHODS["fedavg"](fed)["a"]
    whole = records[0]["sites"]["a"]["bytes_up"]
    small, records = federate("fedavg", stages=2)
    small.store.folder = small.store.folder.with_name("small")
    small.config = replace(small.config, federation=told)
    encoder = METHODS["fedavg"](small)["a"]
    assert records[0]["sites"]["a"]["bytes_up"] < most * whole
    moved = sum(float((plain[k] - v).square().sum()) for k, v in small.start.items())
    apart = sum(float((plain[k] - v).square().sum()) for k, v in encoder.items())
    assert 0 < apart < near * moved
    kept = small.store.latest(2).heads["a"]
    assert {k for k in kept if k.startswith(exchange.RESIDUAL)} == {
        exchange.RESIDUAL + k for k in encoder
    }


def test_a_killed_run_in_a_small_wire_ends_with_the_same_bits(federate):
    def build(folder, **options):
        fed, _ = federate("fedavg", stages=2, **options)
        fed.store.folder = fed.store.folder.with_name(folder)
        fed.config = replace(fed.config, federation=FederationConfig("int8"))
        return fed

    def killed(phase, stage, *_):
        if stage == 2:
            raise KeyboardInterrupt

    whole = METHODS["fedavg"](build("whole"))["a"]
    with pytest.raises(KeyboardInterrupt):
        METHODS["fedavg"](build("cut", tell=killed))
    resumed = METHODS["fedavg"](build("cut"))["a"]
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


# The ledgers.


def test_a_site_whose_ledger_cannot_be_written_sends_nothing(federate, tmp_path):
    fed, records = federate("fedavg")
    fed.ledgers = tmp_path / "ledgers"
    fed.ledgers.mkdir()
    (fed.ledgers / "b.jsonl").mkdir()  # no file can be opened there
    METHODS["fedavg"](fed)
    (absent,) = records[0]["absent"]
    assert absent["site"] == "b"
    assert re.search(r"b\.jsonl: cannot be written .*; nothing leaves site 'b'", absent["reason"])
    assert verify(fed.ledgers / "a.jsonl").sent == {records[0]["sites"]["a"]["digest"]}
