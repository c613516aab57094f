"""Distillation: the student comes near its teachers, repeatably, and never without a teacher."""

from dataclasses import replace

import pytest
import torch

from polyclinic.errors import RunError
from polyclinic.federation.distillation import (
    DistilPlan,
    _fit_projectors,
    _keep,
    _standardised,
    distil,
)
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of
from polyclinic.seeding import generator

PLAN = DistilPlan(epochs=2, batch_size=4, learning_rate=1e-3, teacher_drop=0.5)

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def teachers():
    """Encoders whose blocks do something: fresh ones are the identity."""
    states = []
    for seed in (1, 2):
        encoder = build_encoder("small", seed)
        gen = generator(seed, "noise")
        with torch.no_grad():
            for name, value in encoder.named_parameters():
                if name.endswith("conv2.weight"):
                    value.normal_(0, 0.2, generator=gen)
        states.append(state_of(encoder))
    return states


def test_deterministic_and_pure(start, teachers, corpus):
    before = {k: v.clone() for k, v in start.items()}
    first, loss = distil("small", start, teachers, corpus, PLAN, 0, "universal", 1)
    torch.rand(5)
    second, again = distil("small", start, teachers, corpus, PLAN, 0, "universal", 1)
    other, _ = distil("small", start, teachers, corpus, PLAN, 1, "universal", 1)
    assert loss == again > 0
    assert all(torch.equal(first[k], second[k]) for k in start)
    assert any(not torch.equal(first[k], other[k]) for k in start)
    assert all(torch.equal(before[k], start[k]) for k in start)
    assert any(not torch.equal(first[k], start[k]) for k in start)


def test_the_loss_falls(start, teachers, corpus):
    losses = [
        distil("small", start, teachers, corpus, replace(PLAN, epochs=n, teacher_drop=0.0), 0)[1]
        for n in (1, 8)
    ]
    assert losses[1] < 0.9 * losses[0]  # means over the epochs


def alignment(state, teacher, corpus):
    """How alike two encoders order the images, 0..1 (linear CKA, Kornblith et al. 2019)."""
    grams = []
    for weights in (state, teacher):
        features = _standardised("small", weights, corpus)
        grams.append(features @ features.T)
    a, b = grams
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_a_student_comes_near_its_only_teacher(start, teachers, corpus):
    plan = replace(PLAN, epochs=10, learning_rate=3e-3)
    state, _ = distil("small", start, teachers[:1], corpus, plan, 0)
    before, after = (alignment(s, teachers[0], corpus) for s in (start, state))
    assert 1 - after < 0.95 * (1 - before)


def test_a_teacher_that_is_the_student_leaves_it_nearly_alone(start, corpus):
    plan = replace(PLAN, learning_rate=1e-5)
    state, loss = distil("small", start, [start], corpus, plan, 0)
    assert loss < 0.01
    assert all((state[k] - v).abs().max() < 1e-3 for k, v in start.items())


def test_projectors_begin_at_the_ridge_solution():
    gen = generator(0)
    x, w = torch.randn(60, 5, generator=gen) * 3 + 2, torch.randn(2, 5, 5, generator=gen)
    targets = torch.stack([x @ m.T + 1 for m in w])
    projectors = torch.nn.ModuleList(torch.nn.Linear(5, 5) for _ in w)
    _fit_projectors(projectors, x, targets)
    for projector, target in zip(projectors, targets, strict=True):
        error = (projector(x) - target).square().mean() / target.var()
        assert error < 1e-3


def test_teachers_count_alike_whatever_their_scale(teachers, corpus):
    found = _standardised("small", teachers[0], corpus)
    assert found.mean(0).abs().max() < 1e-4
    alive = found.std(0) > 0.5
    assert alive.float().mean() > 0.8  # some units are off for every image
    torch.testing.assert_close(found.std(0)[alive], torch.ones(int(alive.sum())), atol=1e-3, rtol=0)


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.99])
def test_teacher_drop_never_drops_all(drop):
    gen = generator(0, "drop")
    draws = [_keep(4, drop, gen) for _ in range(300)]
    assert all(draws)
    assert all(set(kept) <= {0, 1, 2, 3} and kept == sorted(set(kept)) for kept in draws)
    kept = sum(map(len, draws)) / len(draws)
    assert {0.0: kept == 4, 0.5: 1.8 < kept < 2.3, 0.99: kept < 1.1}[drop]
    assert {t for kept in draws for t in kept} == {0, 1, 2, 3}
    assert _keep(1, drop, gen) == [0]


def test_a_student_that_diverges_is_refused(start, teachers, corpus):
    with pytest.raises(RunError, match=r"lower universal\.distil_learning_rate"):
        distil("small", start, teachers, corpus, replace(PLAN, learning_rate=1e30), 0)
