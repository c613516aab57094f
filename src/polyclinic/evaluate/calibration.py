"""Whether probabilities mean what they say, and how many questions are worth answering."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from polyclinic.data.dataset import Task
from polyclinic.evaluate.metrics import Predictions

BINS = 10
SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Coverages at which the error is told."""
_LOW, _HIGH = -3.0, 3.0  # of the temperature's logarithm


@dataclass(frozen=True)
class Coverage:
    """Of the surest `share` of images, with confidence of at least `confidence`: their `error`."""

    share: float
    confidence: float
    error: float


def fit_temperature(task: Task, logits: Tensor, truth: NDArray[np.generic]) -> float:
    """The temperature that makes held-out `logits` (N, K) most likely (Guo et al. 2017).

    1 for tasks without probabilities. Truths are smoothed as if two more images were there that
    could be anything (after Platt 1999): few images that are all told apart are no proof of
    certainty. The likelihood is smooth in the logarithm of the temperature, with one minimum.
    """
    if task not in ("single-label", "multi-label") or not len(logits):
        return 1.0
    N, K = logits.shape
    doubt = 2 / (N + 2)
    if task == "single-label":
        target = F.one_hot(torch.from_numpy(truth).long(), K).double() * (1 - doubt) + doubt / K
    else:
        target = torch.from_numpy(truth).double() * (1 - doubt) + doubt / 2

    def loss(log_temperature: float) -> float:
        return _negative_log_likelihood(task, logits.double() / np.exp(log_temperature), target)

    from scipy.optimize import minimize_scalar

    found = minimize_scalar(loss, bounds=(_LOW, _HIGH), method="bounded")
    return float(np.exp(found.x))


def likelihood(task: Task, logits: Tensor, truth: NDArray[np.generic]) -> float:
    """Mean negative log-likelihood of the truth under logits (N, K)."""
    return _negative_log_likelihood(task, logits.double(), torch.from_numpy(truth))


def calibration_error(probabilities: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Expected calibration error of `probabilities` (N,) that `right` (N,), 0 or 1, happens.

    Naeini et al. 2015, with `BINS` bins of equal width: the mean distance between what was said
    and what happened, weighted by images.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    total = 0.0
    for number in range(BINS):
        chosen = bins == number
        if chosen.any():
            total += abs(float(probabilities[chosen].mean() - right[chosen].mean())) * chosen.mean()
    return float(total)


def errors_of(predictions: Predictions) -> NDArray[np.float64]:
    """How wrong each image's answer is, 0..1, (N,).

    One label: 1 where it is another; several: 1 where any of them is wrong; a label map: 1 minus
    Dice of all its foreground; a number: NaN, because no size of error is wrong in itself.
    """
    if predictions.task == "single-label":
        wrong = predictions.scores.argmax(1) != predictions.truth
        return np.asarray(wrong, np.float64)
    if predictions.task == "multi-label":
        wrong = ((predictions.scores >= 0.5) != (predictions.truth == 1)).any(1)
        return np.asarray(wrong, np.float64)
    if predictions.task == "segmentation":
        overlap, said, true = predictions.counts.sum(1).T
        return np.asarray(1 - (2 * overlap + 1e-9) / (said + true + 1e-9), np.float64)
    return np.full(len(predictions), np.nan)


def coverage_curve(
    confidence: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[Coverage, ...]:
    """The error of the surest images at each of `SHARES`; empty where errors are not defined."""
    if not len(errors) or np.isnan(errors).any():
        return ()
    order = np.argsort(-confidence, kind="stable")
    rows = []
    for share in SHARES:
        chosen = order[: max(1, round(share * len(order)))]
        rows.append(Coverage(share, float(confidence[chosen[-1]]), float(errors[chosen].mean())))
    return tuple(rows)


def threshold(confidence: NDArray[np.float64], coverage: float) -> float:
    """The confidence that the surest share `coverage` of images reach; 0 for all of them."""
    if coverage >= 1 or not len(confidence):
        return 0.0
    return float(np.quantile(confidence, 1 - coverage))


def _negative_log_likelihood(task: Task, logits: Tensor, target: Tensor) -> float:
    if task == "single-label":  # targets are classes, or probabilities of each
        return float(
            F.cross_entropy(logits, target if target.is_floating_point() else target.long())
        )
    return float(F.binary_cross_entropy_with_logits(logits, target.double()))
