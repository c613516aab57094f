"""The Mahalanobis distance against its formula, and what it is calibrated by."""

import numpy as np
import pytest
import torch

from polyclinic.models.familiarity import calibrated, fit_familiarity


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    values = rng.normal(0, [1, 2, 5, 0.1], (80, 4))
    values[40:, 0] += 6
    return torch.from_numpy(values).float(), np.repeat([3, 7], 40)


def test_the_distance_is_that_of_the_paper(features):
    values, groups = features
    known = fit_familiarity(values, groups)
    x = (values.double().numpy() - known.centre.numpy()) / known.scale.numpy()
    expected = [
        min(
            (row - x[groups == g].mean(0))
            @ known.precision.numpy()
            @ (row - x[groups == g].mean(0))
            for g in (3, 7)
        )
        for row in x
    ]
    np.testing.assert_allclose(known.distance(values).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_each_class_is_near_itself_and_what_lies_between_is_not(features):
    values, groups = features
    known = fit_familiarity(values, groups)
    between = torch.tensor([[3.0, 0, 0, 0]])
    assert float(known.distance(between)) > float(known.distance(values).median())


def test_strangeness_is_a_share_of_the_held_out_images(features):
    values, groups = features
    known = calibrated(fit_familiarity(values, groups), np.array([3.0, 1.0, 2.0, 4.0]))
    assert known.held_out.tolist() == [1, 2, 3, 4]
    far = torch.full((1, 4), 1000.0)
    assert float(known.strangeness(far)) == 1
    centre = torch.tensor([[0.0, 0, 0, 0]])
    assert float(known.strangeness(centre)) < 0.5


def test_a_feature_that_never_varies_does_no_harm(features):
    values, groups = features
    known = fit_familiarity(torch.cat([values, torch.ones(80, 1)], 1), groups)
    assert bool(known.distance(torch.cat([values, torch.ones(80, 1)], 1)).isfinite().all())
