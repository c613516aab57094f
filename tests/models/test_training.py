"""Supervised training: batches, heads fitted to their optimum, small sets learnt by heart."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from polyclinic.data.dataset import TASKS
from polyclinic.errors import RunError
from polyclinic.models import training as module
from polyclinic.models.encoder import build_encoder
from polyclinic.models.heads import build_head
from polyclinic.models.state import state_of
from polyclinic.models.training import (
    Batches,
    TrainPlan,
    embed,
    fit_head,
    predict,
    remeasure,
    site_weights,
    train,
)

PLAN = TrainPlan(16, epochs=1, min_steps=0, max_steps=0, batch_size=8, learning_rate=1e-3,
                 weight_decay=0.0)  # fmt: skip

pytestmark = pytest.mark.usefixtures("exact")


def network(site):
    encoder = build_encoder("small", seed=0)
    return encoder, build_head(site.task, len(site.classes), encoder.config, seed=0)


@pytest.mark.parametrize(
    ("minimum", "maximum", "epochs", "steps"),
    [(0, 0, 1, 3), (0, 2, 1, 2), (7, 0, 1, 9), (7, 5, 1, 5), (0, 0, 4, 12), (7, 5, 2, 10)],
)
def test_number_of_steps(make_site, minimum, maximum, epochs, steps):
    # 26 images train: three batches of 8, and 2 left out; thrice for at least 7 batches, so 9
    site = make_site(n=52)
    batches = Batches(site, replace(PLAN, min_steps=minimum, max_steps=maximum))
    assert len(batches.rows) % len(site.split["train"]) == 0
    found = [*batches.epochs(epochs, 0)]
    assert batches.steps(epochs) == steps <= len(found)
    assert len(found) == steps
    assert all(images.shape == (8, 1, 16, 16) for images, _ in found)


def test_fewer_images_than_a_batch(make_site):
    batches = Batches(make_site(n=12), PLAN)
    ((images, targets),) = batches.epochs(1, 0)
    assert len(images) == len(targets) == 6


def test_images_larger_than_a_view_give_several(make_site):
    site = make_site("segmentation", n=8, size=32)
    batches = Batches(site, replace(PLAN, batch_size=4))
    assert len(batches.rows) == 4 * 2  # half of the area, (32 / 16)^2 / 2 views an image
    for images, label_maps in batches.epochs(1, 0):
        assert images.shape == (4, 1, 16, 16)
        assert label_maps.shape == (4, 16, 16)
        assert label_maps.dtype == torch.uint8


def test_a_view_is_never_larger_than_the_image(make_site):
    ((images, _), *_) = Batches(make_site(n=16, size=16), replace(PLAN, size=64)).epochs(1, 0)
    assert images.shape[2:] == (16, 16)


def test_batches_hold_the_training_split_once_an_epoch_with_its_targets(make_site, monkeypatch):
    site = make_site("regression", n=32)
    plain = module.Augmentation(0, 0, 0, 0, 0, 0)
    monkeypatch.setattr(module, "_VIEWS", plain)
    batches = Batches(site, PLAN)
    drawn = [*batches.epochs(1, 0)]
    images = torch.cat([i for i, _ in drawn]).mul(255).round().to(torch.uint8).numpy()
    targets = torch.cat([t for _, t in drawn]).tolist()
    rows = site.split["train"]
    known = {site.images[r].tobytes(): float(site.targets[r]) for r in rows}
    assert sorted(targets) == sorted(known.values())
    assert [known[i.tobytes()] for i in images] == targets


def test_epochs_differ_and_repeat_with_the_seed(make_site):
    batches = Batches(make_site(n=16), PLAN)
    first, second = (i for i, _ in batches.epochs(2, 5))
    again, _ = (i for i, _ in batches.epochs(2, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_a_fitted_head_is_at_the_optimum_of_logistic_regression(make_site):
    gen = np.random.default_rng(0)
    n, width = 90, 240
    features = gen.normal(size=(n, width)).astype(np.float32)
    targets = (features[:, :3] + gen.normal(0, 1, (n, 3))).argmax(1)
    head = build_head("single-label", 3, build_encoder("small").config, seed=0)
    module._fit_pooled(
        head,
        torch.from_numpy(features),
        lambda out: torch.nn.functional.cross_entropy(out, torch.from_numpy(targets)),
    )
    standard = (features - features.mean(0)) / features.std(0, ddof=1)
    # mean loss + 0.02 |w|^2 is sklearn's 1/2 |w|^2 + C * sum of losses, C = 1 / (0.04 n)
    model = LogisticRegression(C=1 / (0.04 * n), max_iter=500, tol=1e-8).fit(standard, targets)
    found = head.linear(head.norm(torch.from_numpy(features))).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, model.predict_proba(standard), atol=0.02)


def test_fitting_a_head_leaves_the_encoder_alone(make_site):
    for task in TASKS:
        site = make_site(task, n=16)
        encoder, head = network(site)
        before, fresh = state_of(encoder), state_of(head)
        fit_head(encoder, head, site, PLAN, 0)
        assert all(torch.equal(before[k], v) for k, v in state_of(encoder).items())
        assert any(not torch.equal(fresh[k], v) for k, v in state_of(head).items())


@pytest.mark.parametrize("task", TASKS)
def test_predictions_have_the_declared_shapes(make_site, task):
    site = make_site(task, n=20)
    encoder, head = network(site)
    remeasure(encoder, head, site)
    found = predict(encoder, head, site, "test", batch_size=2)
    whole = predict(encoder, head, site, "test")
    shape = {"single-label": (5, 2), "multi-label": (5, 2), "regression": (5,),
             "segmentation": (5, 16, 16)}[task]  # fmt: skip
    assert found.shape == shape
    assert found.dtype == (np.uint8 if task == "segmentation" else np.float32)
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_that_diverged_has_no_predictions(make_site, task):
    site = make_site(task, n=20)
    encoder, head = network(site)
    with torch.no_grad():
        encoder.stem.weight.fill_(torch.nan)
    with pytest.raises(RunError, match="its training diverged; lower the learning rates"):
        predict(encoder, head, site, "test")


def test_embeddings_do_not_depend_on_the_batches(make_site):
    site = make_site(n=10)
    encoder, _ = network(site)
    a, b = embed(encoder, site.images, batch_size=3), embed(encoder, site.images)
    assert a.shape == (10, 240)
    assert not a.requires_grad
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("task", TASKS)
def test_a_tiny_set_is_learnt_by_heart(make_site, monkeypatch, task):
    monkeypatch.setattr(module, "_VIEWS", module.Augmentation(0, 0, 0, 0, 0, 0))
    site = make_site(task, n=16)
    encoder, head = network(site)
    plan = replace(PLAN, min_steps=60, learning_rate=2e-3, dense_head_epochs=2)
    fit_head(encoder, head, site, replace(plan, min_steps=0), 0)
    look = replace(plan, min_steps=0, learning_rate=0.0)  # the loss, and nothing learnt
    first = train(encoder, head, site, look, 0)
    train(encoder, head, site, plan, 1)
    last = train(encoder, head, site, look, 2)
    assert last < 0.5 * first or last < 0.05
    rows = site.split["train"]
    found, truth = predict(encoder, head, site, "train"), site.targets[rows]
    if task == "single-label":
        assert (found.argmax(1) == truth).all()
    elif task == "multi-label":
        assert ((found > 0.5) == truth).all()
    elif task == "regression":
        assert np.abs(found - truth).mean() < 0.35 * truth.std()
    else:
        known = truth != 255
        assert (found == truth)[known].mean() > 0.95


def test_training_needs_no_step(make_site):
    site = make_site(n=16)
    encoder, head = network(site)
    before = state_of(encoder)
    assert train(encoder, head, site, replace(PLAN, epochs=0), 0) == 0
    assert all(torch.equal(before[k], v) for k, v in state_of(encoder).items())


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rates_warm_up(schedule):
    plan = replace(PLAN, schedule=schedule)
    rates = [module.rate_share(step, 40, plan) for step in range(40)]
    assert rates[0] == pytest.approx(1 / 11)
    assert all(a < b for a, b in pairwise(rates[:9]))
    if schedule == "constant":
        assert rates[10:] == [1.0] * 30
    else:
        assert 0 < rates[-1] <= 0.011
    assert [module.rate_share(step, 1, PLAN) for step in range(1)] == [1.0]


def test_weights_come_from_the_training_split_alone(make_site):
    site = make_site("regression", n=24)
    other = site.targets.copy()
    other[site.split["val"]] = 1e6
    other[site.split["test"]] = -1e6
    assert torch.equal(site_weights(site), site_weights(replace(site, targets=other)))
