"""Folds by patient: nobody on two sides, and every label in as many folds as it has patients."""

from dataclasses import replace

import numpy as np
import pytest

from polyclinic.evaluate.folds import labels_shown, patient_folds


def test_a_patient_is_in_one_fold(make_site):
    site = replace(make_site(n=40), patients=np.arange(40) // 4)
    folds = patient_folds(site, 5, seed=0)
    assert all(len(set(folds[site.patients == p])) == 1 for p in range(10))
    assert np.bincount(folds).tolist() == [8] * 5


def test_a_rare_class_is_spread(make_site):
    site = make_site(n=40)
    targets = np.zeros(40, np.int64)
    targets[[1, 2, 3]] = 1
    folds = patient_folds(replace(site, targets=targets), 3, seed=0)
    assert sorted(folds[[1, 2, 3]].tolist()) == [0, 1, 2]


def test_the_draw_is_by_seed_and_nothing_else(make_site):
    site = make_site(n=32)
    assert (patient_folds(site, 4, 1) == patient_folds(site, 4, 1)).all()
    assert (patient_folds(site, 4, 1) != patient_folds(site, 4, 2)).any()


@pytest.mark.parametrize(
    ("task", "width"),
    [("single-label", 2), ("multi-label", 2), ("segmentation", 1), ("regression", 0)],
)
def test_every_task_has_folds(make_site, task, width):
    site = make_site(task, n=16)
    assert labels_shown(site).shape == (16, width)
    assert set(patient_folds(site, 4, 0).tolist()) == {0, 1, 2, 3}
