"""Probing and fine-tuning: better than chance, chosen on validation, the test split untouched."""

from dataclasses import replace

import numpy as np
import pytest

from polyclinic.data.dataset import TASKS
from polyclinic.evaluate import protocols
from polyclinic.evaluate.metrics import primary_metric
from polyclinic.evaluate.predictions import score
from polyclinic.evaluate.protocols import PENALTIES, PROTOCOLS, fine_tune, linear_probe
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of
from polyclinic.models.training import TrainPlan

PLAN = TrainPlan(16, epochs=1, min_steps=8, max_steps=8, batch_size=8, learning_rate=1e-3,
                 weight_decay=0.0, dense_head_epochs=2)  # fmt: skip

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def state():
    return state_of(build_encoder("small", seed=0))


CHANCE = {"single-label": 0.5, "multi-label": 0.5, "regression": 0.0, "segmentation": 0.45}
"""Scores that an encoder must beat; a segmentation that is all foreground has Dice 0.44."""


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_easy_set_is_judged_better_than_chance(make_site, state, protocol, task):
    site = make_site(task, n=64)
    outcome = PROTOCOLS[protocol]("small", state, site, PLAN, 0)
    predictions, rows = outcome.predictions, site.split["test"]
    assert predictions.task == task
    assert (predictions.clusters == site.patients[rows]).all()
    shape = {"single-label": (16, 2), "multi-label": (16, 2), "regression": (16,),
             "segmentation": (16, 16, 16)}[task]  # fmt: skip
    assert outcome.outputs.shape == shape
    if task != "segmentation":
        np.testing.assert_array_equal(predictions.truth, site.targets[rows])
        np.testing.assert_allclose(predictions.scores, outcome.outputs)
    assert outcome.validation > CHANCE[task]
    assert score(predictions, primary_metric(task)) > CHANCE[task]


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_the_validation_split_chooses_the_penalty(make_site, state, monkeypatch, task):
    site = make_site(task, n=32)
    alone = {}
    for penalty in PENALTIES:
        monkeypatch.setattr(protocols, "PENALTIES", (penalty,))
        alone[penalty] = linear_probe("small", state, site, PLAN)
    monkeypatch.setattr(protocols, "PENALTIES", PENALTIES)
    chosen = linear_probe("small", state, site, PLAN)
    best = max(alone.values(), key=lambda outcome: outcome.validation)
    assert chosen.validation == best.validation
    np.testing.assert_array_equal(chosen.outputs, best.outputs)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_test_split_teaches_nothing(make_site, state, protocol, task):
    site = make_site(task, n=16)
    plan = replace(PLAN, min_steps=1, max_steps=1, dense_head_epochs=1)
    images, targets = site.images.copy(), site.targets.copy()
    rows = site.split["test"]
    images[rows] = 255 - images[rows]
    targets[rows] = targets[rows[::-1]]
    other = replace(site, images=images, targets=targets)
    run = PROTOCOLS[protocol]
    a, b = (run("small", state, s, plan, 0) for s in (site, other))
    assert a.validation == b.validation
    # and the very same model answers: asked about the same images, it says the same
    swapped = replace(other, images=site.images)
    np.testing.assert_array_equal(run("small", state, swapped, plan, 0).outputs, a.outputs)


def test_judging_leaves_the_encoder_as_it_is(make_site, state):
    before = {k: v.clone() for k, v in state.items()}
    for run in (linear_probe, fine_tune):
        run("small", state, make_site(n=16), replace(PLAN, min_steps=1, max_steps=1), 0)
    assert all((before[k] == v).all() for k, v in state.items())


def test_fine_tuning_repeats_with_its_seed(make_site, state):
    plan = replace(PLAN, min_steps=2, max_steps=2)
    site = make_site(n=16)
    a, b, c = (fine_tune("small", state, site, plan, seed).outputs for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_a_label_that_no_training_image_has(make_site, state):
    site = make_site("multi-label", n=32)
    targets = site.targets.copy()
    targets[site.split["train"], 1] = 0
    outcome = linear_probe("small", state, replace(site, targets=targets), PLAN)
    assert (outcome.outputs[:, 1] == 0).all()


def test_a_class_that_no_training_image_has(make_site, state):
    site = make_site(n=32)
    site = replace(site, classes=(*site.classes, "rare"))
    outcome = linear_probe("small", state, site, PLAN)
    assert outcome.outputs.shape == (8, 3)
    assert (outcome.outputs[:, 2] == 0).all()
    np.testing.assert_allclose(outcome.outputs.sum(1), 1)


def test_a_single_label(make_site, state):
    site = make_site("multi-label", n=32)
    site = replace(site, classes=site.classes[:1], targets=site.targets[:, :1])
    outcome = linear_probe("small", state, site, PLAN)
    assert outcome.outputs.shape == (8, 1)
    assert outcome.validation > 0.5
