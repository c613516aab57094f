"""Frozen encoders: few labels are few, and neighbours vote as they should."""

import numpy as np
import pytest

from polyclinic.evaluate import frozen
from polyclinic.evaluate.frozen import draw_few, few_labels, nearest_neighbours
from polyclinic.evaluate.predictions import score
from polyclinic.evaluate.protocols import PROTOCOLS
from polyclinic.models.encoder import build_encoder
from polyclinic.models.side_by_side import beside
from polyclinic.models.state import state_of
from polyclinic.models.training import TrainPlan

PLAN = TrainPlan(16, 1, 1, 2, 8, 1e-3, 0.0)


@pytest.fixture
def state(exact):
    return state_of(build_encoder("small", seed=0))


@pytest.mark.parametrize("task", ["single-label", "multi-label", "segmentation", "regression"])
def test_few_labels_are_as_many_as_asked_for(make_site, task):
    site = make_site(task, n=64)
    few = draw_few(site, 3, 0)
    rows = few.split["train"]
    assert set(rows) <= set(site.split["train"])
    assert len(rows) <= {"single-label": 6, "multi-label": 9, "segmentation": 3}.get(task, 15)
    if task == "single-label":
        assert np.bincount(site.targets[rows]).tolist() == [3, 3]
    assert (few.split["test"] == site.split["test"]).all()
    assert (draw_few(site, 3, 0).split["train"] == rows).all()
    assert len(draw_few(site, 500, 0).split["train"]) == 32


@pytest.mark.parametrize("task", ["single-label", "multi-label", "segmentation", "regression"])
def test_every_task_is_judged_on_its_test_split(make_site, state, task):
    site = make_site(task, n=32)
    outcome = few_labels("small", state, site, PLAN, 4, 0)
    assert len(outcome.predictions) == 8
    if task != "segmentation":
        assert len(nearest_neighbours("small", state, site, PLAN).predictions) == 8


def test_neighbours_find_what_is_alike(make_site, state):
    site = make_site(n=64)
    predictions = nearest_neighbours("small", state, site, PLAN).predictions
    np.testing.assert_allclose(predictions.scores.sum(1), 1)
    assert score(predictions, "auroc") > 0.9


def test_few_labels_choose_nothing_on_validation(make_site, state, monkeypatch):
    site = make_site(n=32)
    seen = []
    scores_of = frozen.scores_of

    def watched(site, model, features, rows):
        seen.append(rows)
        return scores_of(site, model, features, rows)

    monkeypatch.setattr(frozen, "scores_of", watched)
    few_labels("small", state, site, PLAN, 2, 0)
    assert [rows.tolist() for rows in seen] == [site.split["test"].tolist()]


@pytest.mark.parametrize("task", ["single-label", "segmentation"])
def test_two_encoders_side_by_side_are_judged_as_one(make_site, state, task):
    other = state_of(build_encoder("small", seed=1))
    site = make_site(task, n=32)
    pair = beside(state, other)
    if task == "single-label":
        both = frozen.features_of("small", pair, site)
        own = [frozen.features_of("small", one, site) for one in (state, other)]
        # whatever the order of the features
        np.testing.assert_allclose(both @ both.T, sum(x @ x.T for x in own), rtol=1e-3, atol=1e-3)
    for judge in PROTOCOLS.values():
        assert len(judge("small", pair, site, PLAN, 0, "pair").predictions) == 8
    assert len(few_labels("small", pair, site, PLAN, 4, 0).predictions) == 8
