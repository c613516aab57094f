"""Temperature, calibration error and coverage against slow and obvious versions."""

import numpy as np
import pytest
import torch

from polyclinic.evaluate.calibration import (
    calibration_error,
    coverage_curve,
    errors_of,
    fit_temperature,
    likelihood,
    threshold,
)
from polyclinic.evaluate.metrics import Predictions


def drawn(n=4000, temperature=2.5):
    """Logits that are too sure by `temperature`, and labels drawn from what they should say."""
    gen = torch.Generator().manual_seed(0)
    right = torch.randn(n, 3, generator=gen, dtype=torch.float64)
    labels = torch.multinomial(right.softmax(1), 1, generator=gen)[:, 0].numpy()
    return right * temperature, labels


def test_the_temperature_finds_back_what_was_too_sure():
    logits, labels = drawn()
    found = fit_temperature("single-label", logits, labels)
    assert found == pytest.approx(2.5, rel=0.1)
    better = likelihood("single-label", logits / found, labels)
    for other in (0.8 * found, 1.2 * found, 1.0):
        assert better < likelihood("single-label", logits / other, labels)


def test_few_images_that_are_all_told_apart_are_no_certainty():
    labels = np.arange(16) % 2
    logits = torch.from_numpy(np.eye(2)[labels] * 4)
    temperature = fit_temperature("single-label", logits, labels)
    assert 0.9 < float((logits / temperature).softmax(1).max()) < 0.99


def test_several_labels_have_one_temperature():
    gen = torch.Generator().manual_seed(1)
    right = torch.randn(4000, 2, generator=gen, dtype=torch.float64)
    labels = torch.bernoulli(right.sigmoid(), generator=gen).numpy().astype(np.uint8)
    assert fit_temperature("multi-label", right * 3, labels) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("task", ["regression", "segmentation"])
def test_without_probabilities_it_is_one(task):
    assert fit_temperature(task, torch.zeros(3, 2), np.zeros(3)) == 1


def test_the_calibration_error_is_what_it_says():
    said = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    happened = np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    first, last = abs(0.05 - 0.5) * 2 / 5, abs(said[2:].mean() - 1) * 3 / 5
    assert calibration_error(said, happened) == pytest.approx(first + last)


def test_coverage_counts_the_surest_first():
    sure, wrong = np.array([0.9, 0.5, 0.8, 0.6]), np.array([0.0, 1, 0, 1])
    curve = {row.share: row for row in coverage_curve(sure, wrong)}
    assert curve[1.0].error == 0.5
    assert (curve[0.5].error, curve[0.5].confidence) == (0, 0.8)
    assert coverage_curve(sure, np.full(4, np.nan)) == ()
    assert threshold(sure, 1.0) == 0
    assert threshold(np.arange(11) / 10, 0.9) == pytest.approx(0.1)


def test_errors_are_those_of_each_task():
    one = Predictions("single-label", np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]),
                      np.arange(2))  # fmt: skip
    assert errors_of(one).tolist() == [0, 1]
    several = Predictions("multi-label", np.array([[1, 0], [1, 1]], np.uint8),
                          np.array([[0.9, 0.1], [0.9, 0.2]]), np.arange(2))  # fmt: skip
    assert errors_of(several).tolist() == [0, 1]
    masks = Predictions.segmentation(np.array([[[2, 2, 4]], [[0, 0, 0]]]), np.arange(2))
    np.testing.assert_allclose(errors_of(masks), [1 - 4 / 6, 0], atol=1e-6)
    number = Predictions("regression", np.zeros(2), np.zeros(2), np.arange(2))
    assert np.isnan(errors_of(number)).all()
