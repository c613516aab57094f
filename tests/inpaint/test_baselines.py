"""Baselines: they paint the region from its surroundings, and nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.baselines import BASELINES, regression_plan
from polyclinic.inpaint.components import KEEP, TUMOUR_FREE
from polyclinic.inpaint.objectives import OBJECTIVES
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Settings, paint
from polyclinic.inpaint.regions import Region
from polyclinic.inpaint.training import PaintPlan, Trainer
from polyclinic.seeding import generator

pytestmark = pytest.mark.usefixtures("exact")

QUICK = settings(max_examples=12, derandomize=True, database=None, deadline=None)


def example(slices=2, side=20):
    """A slope along the columns, and a square to fill in every slice but the last."""
    ramp = np.linspace(-1, 1.3, side, dtype=np.float32)
    planes = np.broadcast_to(ramp, (slices, side, side)).copy()
    fill_mask = np.zeros(planes.shape, bool)
    fill_mask[: slices - 1, 7:12, 6:11] = True
    return planes, fill_mask


@pytest.mark.parametrize("name", BASELINES)
@QUICK
@given(data=st.data())
def test_only_the_region_changes_and_its_content_does_not_matter(name, data):
    shape = (data.draw(st.integers(1, 3)), 12, 15)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    planes = rng.normal(0, 1, shape).astype(np.float32)
    fill_mask = rng.random(shape) < data.draw(st.sampled_from([0.0, 0.1, 0.6]))
    before = planes.copy()
    painted = BASELINES[name](planes, fill_mask)
    assert painted.dtype == np.float32
    assert np.array_equal(painted[~fill_mask], before[~fill_mask])
    assert np.array_equal(planes, before)
    planes[fill_mask] = np.float32(np.nan)
    assert np.array_equal(BASELINES[name](planes, fill_mask), painted)


@pytest.mark.parametrize(("name", "tolerance"), [("biharmonic", 1e-4), ("telea", 0.25)])
def test_a_slope_is_continued(name, tolerance):
    planes, fill_mask = example()
    painted = BASELINES[name](planes, fill_mask)
    assert np.abs(painted - planes).max() < tolerance


@pytest.mark.parametrize("name", BASELINES)
def test_one_tissue_stays_one_tissue(name):
    planes, fill_mask = example()
    planes[:] = 0.37
    np.testing.assert_allclose(BASELINES[name](planes, fill_mask), planes, atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
def test_what_cannot_be_painted(name):
    planes, fill_mask = example()
    with pytest.raises(DataError, match=r"slices of shape .*fill mask of shape .*expected \(Z, H"):
        BASELINES[name](planes, fill_mask[:1])
    fill_mask[1] = True
    with pytest.raises(DataError, match=r"slice 1: all of it is to be painted; expected surround"):
        BASELINES[name](planes, fill_mask)


def tumour_free(fill_mask):
    """What `paint` is asked for where a baseline has a fill mask."""
    return [
        Region(np.where(plane, TUMOUR_FREE, KEEP).astype(np.int8), np.zeros(plane.shape, bool))
        for plane in fill_mask
    ]


def test_a_regression_sees_no_noise_and_cannot_be_sampled(painter):
    planes, fill_mask = example(side=32)
    regions = tumour_free(fill_mask)
    regressor = dataclasses.replace(painter, objective=OBJECTIVES["regression"])
    painted = [
        paint(regressor, planes, regions, 1, 28, Settings(mode="mean", seed=s)).slices
        for s in (0, 1)
    ]
    assert np.array_equal(painted[0], painted[1])
    with pytest.raises(ConfigError, match=r"`regression` has only the mode `mean`"):
        paint(regressor, planes, regions, 1, 28, Settings())


def test_regression_corrupts_to_nothing_and_counts_squares():
    objective = OBJECTIVES["regression"]
    x, guess = torch.randn(2, 3, 2, 4, 4, generator=generator(0))
    level = objective.draw_levels(3, generator(0)).view(-1, 1, 1, 1)
    state = objective.corrupt(x, objective.draw_noise(x, level, generator(0)), level)
    assert bool((level == 1).all())
    assert not state.any()
    torch.testing.assert_close(objective.loss(guess, state, level, x, state), (guess - x) ** 2)
    assert objective.estimate(guess, state, level) is guess


@pytest.mark.usefixtures("tiny")
def test_the_painter_s_own_training_makes_it(cases):
    plan = regression_plan(PaintPlan(steps=2, batch_size=2))
    assert plan.views.dropped == 0
    trainer = Trainer(cases, plan)
    assert len(list(trainer.run(2))) == 2
    trained = Painter(trainer.average, trainer.objective, digest="")
    planes, fill_mask = example(side=32)
    painted = paint(trained, planes, tumour_free(fill_mask), 1, 28, Settings(mode="mean"))
    assert np.isfinite(painted.slices).all()
