"""A site's stage: pure, private, anchored."""

from dataclasses import replace

import pytest
import torch

from polyclinic.data.dataset import TASKS
from polyclinic.federation import site as module
from polyclinic.federation.knowledge import SCALARS, pack, schema_of
from polyclinic.federation.site import train_stage
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import load_into
from polyclinic.models.training import TrainPlan, embed

PLAN = TrainPlan(16, epochs=1, min_steps=3, max_steps=3, batch_size=8, learning_rate=1e-3,
                 weight_decay=0.0)  # fmt: skip

pytestmark = pytest.mark.usefixtures("exact")


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def norm(change):
    return sum(float(v.square().sum()) for v in change.values()) ** 0.5


@pytest.mark.parametrize("task", TASKS)
def test_same_inputs_same_result_to_the_last_bit(make_site, start, task):
    site, other = make_site(task, n=16), make_site("single-label", "other", n=16, seed=1)
    before = {k: v.clone() for k, v in start.items()}
    images = site.images.copy()
    first = train_stage(site, "small", start, None, PLAN, 3, "fedavg", 0, site.name)
    # whoever trained before, and whatever drew from the global generator, must not matter
    train_stage(other, "small", start, None, replace(PLAN, max_steps=1), 3, "fedavg", 0, "other")
    torch.rand(7)
    second = train_stage(site, "small", start, None, PLAN, 3, "fedavg", 0, site.name)
    assert equal(first.knowledge.tensors, second.knowledge.tensors)
    assert equal(first.head, second.head)
    assert first.knowledge.scalars == second.knowledge.scalars
    assert equal(start, before)  # what came in is as it was
    assert (site.images == images).all()


def test_other_seed_other_result(make_site, start):
    a, b = (train_stage(make_site(), "small", start, None, PLAN, seed) for seed in (1, 2))
    assert not equal(a.knowledge.tensors, b.knowledge.tensors)


@pytest.mark.parametrize("task", TASKS)
def test_what_a_site_says(make_site, start, task):
    trained = train_stage(make_site(task, n=24), "small", start, None, PLAN, 0)
    scalars = trained.knowledge.scalars
    assert set(scalars) == SCALARS
    assert scalars["examples"] == 12
    assert scalars["loss"] > 0
    message = pack(trained.knowledge, schema_of(start), "a")
    assert norm(trained.knowledge.tensors) > 0
    assert trained.head
    for key in trained.head:
        assert key not in trained.knowledge.tensors
        assert f'"{key}"'.encode() not in message


def test_the_head_does_not_depend_on_being_sent(make_site, start):
    trained = train_stage(make_site(), "small", start, None, PLAN, 0)
    assert "linear.weight" in trained.head
    assert trained.head["norm.running_mean"].shape == (240,)


def test_only_the_training_split_is_learnt_from(make_site, start):
    site = make_site(n=24)
    blank = site.images.copy()
    blank[site.split["val"]] = 0
    blank[site.split["test"]] = 255
    a = train_stage(site, "small", start, None, PLAN, 0)
    b = train_stage(replace(site, images=blank), "small", start, None, PLAN, 0)
    assert equal(a.knowledge.tensors, b.knowledge.tensors)
    assert equal(a.head, b.head)


def moved(site, start, **plan):
    """How far the encoder, and its embedding of the site's images, moved in a stage."""
    trained = train_stage(site, "small", start, None, replace(PLAN, **plan), 0)
    change = trained.knowledge.tensors
    before, after = build_encoder("small"), build_encoder("small")
    load_into(before, start)
    load_into(after, {k: v + change[k] for k, v in start.items()})
    features = embed(before, site.images), embed(after, site.images)
    return norm(change), float((features[0] - features[1]).norm())


def test_anchors_hold_the_encoder_near_what_was_received(make_site, start):
    site = make_site(n=16)
    steps = {"min_steps": 12, "max_steps": 12, "learning_rate": 3e-3}
    free = moved(site, start, **steps)
    near = moved(site, start, anchor="proximal", anchor_weight=100.0, **steps)
    assert near[0] < 0.8 * free[0]
    near = moved(site, start, anchor="feature", anchor_weight=100.0, **steps)
    assert near[1] < 0.8 * free[1]
    none = moved(site, start, anchor="proximal", anchor_weight=0.0, **steps)
    assert none == pytest.approx(free, rel=1e-3)


@pytest.mark.parametrize(
    ("head_known", "head_first", "fitted"), [(0, 0, 1), (0, 1, 1), (1, 0, 0), (1, 1, 1)]
)
def test_when_the_head_is_fitted_first(
    make_site, start, monkeypatch, head_known, head_first, fitted
):
    calls = []
    real = module.fit_head
    monkeypatch.setattr(module, "fit_head", lambda *a: (calls.append(a), real(*a)))
    site = make_site(n=16)
    head = train_stage(site, "small", start, None, PLAN, 0).head if head_known else None
    calls.clear()
    train_stage(site, "small", start, head, replace(PLAN, head_first=bool(head_first)), 1)
    assert len(calls) == fitted


def test_a_stage_starts_from_the_head_of_the_stage_before(make_site, start):
    site = make_site(n=16)
    head = train_stage(site, "small", start, None, PLAN, 0).head
    still = replace(PLAN, learning_rate=0.0)
    after = train_stage(site, "small", start, head, still, 1).head
    assert torch.equal(after["linear.weight"], head["linear.weight"])
