"""Intervals: what another sample of patients could have given.

The bootstrap draws patients, not images, because images of one patient resemble each other
(Field and Welsh 2007, "Bootstrapping clustered data"). One table of draws serves every method
and seed of a site, so that differences between methods are paired patient by patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.evaluate.metrics import METRICS, Metric, Predictions, Values, Weights

_CHUNK = 2**17
"""Weights that a metric sees at a time: 1 MiB as float64, so that memory stays bounded."""


@dataclass(frozen=True)
class Estimate:
    """A number, its percentile interval, and the number for each training seed."""

    value: float
    low: float
    high: float
    per_seed: tuple[float, ...]


def cluster_weights(clusters: NDArray[np.int64], resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each image counts in each resample: int32 (resamples, N).

    Each resample draws as many patients as there are, with replacement; all images of a patient
    come along each time. `clusters` (N,) are group numbers, any integers. The same arguments give
    the same draws.
    """
    names, group = np.unique(clusters, return_inverse=True)
    G = len(names)
    if G == 0:
        return np.zeros((resamples, 0), np.int32)
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, G), np.int32)
    for row in drawn:
        row[:] = np.bincount(rng.integers(0, G, G), minlength=G)
    return drawn[:, group]


def interval(
    predictions_by_seed: Sequence[Predictions],
    metric: str,
    weights: Weights,
    level: float = 0.95,
) -> Estimate:
    """A metric on one test set: the mean over training seeds, with a percentile interval.

    `metric` is a name in `METRICS`; `weights` (B, N) come from `cluster_weights`. Each replicate
    is the mean over seeds under the same weights. Replicates in which the metric is undefined are
    dropped; the limits are NaN when more than half of them are, or when there are fewer than two
    patients. The value is NaN when the metric is undefined for any seed.
    """
    _check([predictions_by_seed], metric, level)
    per_seed = _full(predictions_by_seed, metric)
    replicates = _replicates(predictions_by_seed, metric, weights)
    return _estimate(per_seed, replicates, level, predictions_by_seed[0])


def paired_gain(
    a_by_seed: Sequence[Predictions],
    b_by_seed: Sequence[Predictions],
    metric: str,
    weights: Weights,
    level: float = 0.95,
) -> Estimate:
    """How much better `a` is than `b` on the same test set; seeds are paired in order.

    As `interval`, for the difference: both see the same patients in each replicate, so whatever
    makes a resample hard for both cancels. Raises `DataError` when the two are not predictions
    for the same images with equally many seeds.
    """
    _check([a_by_seed, b_by_seed], metric, level)
    per_seed = _full(a_by_seed, metric) - _full(b_by_seed, metric)
    replicates = _replicates(a_by_seed, metric, weights) - _replicates(b_by_seed, metric, weights)
    return _estimate(per_seed, replicates, level, a_by_seed[0])


def _full(by_seed: Sequence[Predictions], metric: str) -> Values:
    """The metric on the full test set: (seeds,)."""
    return np.concatenate([METRICS[metric](p, None) for p in by_seed])


def _replicates(by_seed: Sequence[Predictions], metric: str, weights: Weights) -> Values:
    """Mean over seeds of the metric in each resample: (B,)."""
    compute: Metric = METRICS[metric]
    rows = max(1, _CHUNK // max(1, weights.shape[-1]))
    parts = [
        np.mean([compute(p, weights[start : start + rows]) for p in by_seed], axis=0)
        for start in range(0, len(weights), rows)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _estimate(per_seed: Values, replicates: Values, level: float, site: Predictions) -> Estimate:
    defined = replicates[~np.isnan(replicates)]
    low = high = float("nan")
    # Every resample of a single patient is that patient: no width would look like certainty.
    enough = len(np.unique(site.clusters)) > 1 and 2 * len(defined) >= len(replicates)
    if enough and len(defined):
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Estimate(float(per_seed.mean()), low, high, tuple(per_seed.tolist()))


def _check(groups: Sequence[Sequence[Predictions]], metric: str, level: float) -> None:
    if metric not in METRICS:
        raise DataError(f"bootstrap: expected a metric of {', '.join(METRICS)}; got {metric!r}")
    if not 0 < level < 1:
        raise DataError(f"bootstrap: expected a level between 0 and 1, got {level}")
    counts = [len(group) for group in groups]
    if min(counts) == 0 or min(counts) != max(counts):
        raise DataError(
            f"bootstrap: expected predictions of the same seeds, at least one; got {counts} seeds"
        )
    first = groups[0][0]
    for group in groups:
        for other in group:
            if not _same_images(first, other):
                raise DataError(
                    "bootstrap: expected predictions for the same test images, got others; "
                    "evaluate all methods on one split"
                )


def _same_images(a: Predictions, b: Predictions) -> bool:
    return (
        a.task == b.task
        and np.array_equal(a.clusters, b.clusters)
        and np.array_equal(a.truth, b.truth)
        and np.array_equal(a.counts[..., 2:], b.counts[..., 2:])  # of segmentation: true pixels
    )
