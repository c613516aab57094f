"""Pooled training: the ceiling that no federation may reach this way."""

import pytest
import torch

from polyclinic.federation.knowledge import SCALARS
from polyclinic.federation.pooled import train_pooled
from polyclinic.models.training import TrainPlan

PLAN = TrainPlan(16, epochs=1, min_steps=2, max_steps=3, batch_size=8, learning_rate=1e-3,
                 weight_decay=0.0)  # fmt: skip

pytestmark = pytest.mark.usefixtures("exact")


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_one_encoder_and_a_head_for_each_site(make_site, start):
    sites = {
        "a": make_site("single-label", "a", n=16),
        "b": make_site("segmentation", "b", n=16),
    }
    encoder, heads, scalars = train_pooled(sites, "small", start, {}, PLAN, 0, "centralised", 0)
    again = train_pooled(sites, "small", start, {}, PLAN, 0, "centralised", 0)
    assert equal(encoder, again[0])
    assert all(equal(heads[name], again[1][name]) for name in sites)
    assert set(encoder) == set(start)
    assert not equal(encoder, start)
    assert "linear.weight" in heads["a"]
    assert "mix.weight" in heads["b"]
    for told in scalars.values():
        assert set(told) == SCALARS
        assert told["examples"] == 8
        assert told["loss"] > 0


def test_heads_of_the_stage_before_go_on(make_site, start):
    sites = {"a": make_site("single-label", "a", n=16)}
    _, heads, _ = train_pooled(sites, "small", start, {}, PLAN, 0)
    _, after, _ = train_pooled(sites, "small", start, heads, PLAN, 1)
    _, fresh, _ = train_pooled(sites, "small", start, {}, PLAN, 1)
    change = (after["a"]["linear.weight"] - heads["a"]["linear.weight"]).abs().max()
    assert 0 < change < 0.05  # three steps of Adam
    assert not equal(after["a"], fresh["a"])
