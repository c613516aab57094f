"""What travels, what is recorded, and who is absent."""

import math

import pytest
import torch

from polyclinic.errors import DataError, RunError
from polyclinic.federation import exchange
from polyclinic.federation.knowledge import Knowledge, encode, pack, schema_of
from polyclinic.federation.methods import METHODS
from polyclinic.federation.site import train_stage


def test_what_travels_is_the_declared_knowledge_and_no_head(federate, make_site, monkeypatch):
    sites = [make_site("single-label", "a", n=16), make_site("segmentation", "b", n=16)]
    messages, heads = {}, {}

    def eavesdrop(message, schema, site):
        messages[site] = message
        return unpack(message, schema, site)

    unpack = exchange.unpack
    monkeypatch.setattr(exchange, "unpack", eavesdrop)
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
        for image in fed.sites[update.site].images[:2]:
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
    def tamper(knowledge, schema, site):
        if site == "a":
            wide = {**knowledge.tensors, "image": torch.zeros(1, 16, 16)}
            return pack(Knowledge(wide, knowledge.scalars), schema_of(wide), site)
        return pack(knowledge, schema, site)

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
