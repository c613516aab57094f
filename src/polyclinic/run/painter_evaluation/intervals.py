"""Numbers of many edits with intervals: what another sample of patients could have given.

All take values of N edits and the patient of each, and draw patients, not edits. A statistic is a
function from weights (B, N), how often each edit counts, to B values.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.evaluate.bootstrap import cluster_weights

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A number and its percentile interval; NaN where it is not defined, or for one patient."""

    value: float
    low: float
    high: float
    edits: int
    patients: int


NONE = Interval(float("nan"), float("nan"), float("nan"), 0, 0)


def bootstrap(statistic: Statistic, patients: Sequence[str], seed: int) -> Interval:
    """The statistic of all edits, and its interval over patients."""
    if not len(patients):
        return NONE
    names, clusters = np.unique(np.asarray(patients), return_inverse=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(np.ones((1, len(patients))))[0])
        low = high = float("nan")
        if len(names) > 1:
            weights = _draws(len(names), RESAMPLES, seed)[:, clusters]
            replicates = statistic(weights)
            defined = replicates[np.isfinite(replicates)]
            if 2 * len(defined) >= RESAMPLES:
                low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Interval(value, low, high, len(patients), len(names))


@functools.lru_cache(maxsize=16)
def _draws(patients: int, resamples: int, seed: int) -> Values:
    """How often each patient is drawn, (B, patients): the same for every table, hence kept."""
    return cluster_weights(np.arange(patients), resamples, seed).astype(np.float64)


def mean(values: Values, patients: Sequence[str], seed: int) -> Interval:
    """The mean of values (N,)."""
    return bootstrap(lambda weights: weights @ values / weights.sum(axis=1), patients, seed)


def ratio(above: Values, below: Values, patients: Sequence[str], seed: int) -> Interval:
    """The mean of `above` (N,) over that of `below` (N,): paired, as they come from one edit."""
    return bootstrap(lambda weights: (weights @ above) / (weights @ below), patients, seed)


def standardised_difference(a: Values, b: Values, patients: Sequence[str], seed: int) -> Interval:
    """How far the means of `a` (N,) and `b` (N,) lie apart, in pooled standard deviations.

    Austin 2009, "Balance diagnostics for comparing the distribution of baseline covariates",
    section 3, for weighted edits.
    """

    def moments(weights: Values, values: Values) -> tuple[Values, Values]:
        total = weights.sum(axis=1)
        centre = weights @ values / total
        squares = weights @ values**2 / total - centre**2
        return centre, np.maximum(squares, 0) * total / (total - 1)

    def statistic(weights: Values) -> Values:
        (mean_a, variance_a), (mean_b, variance_b) = moments(weights, a), moments(weights, b)
        return np.asarray((mean_a - mean_b) / np.sqrt((variance_a + variance_b) / 2))

    return bootstrap(statistic, patients, seed)


def kernel_distance(
    a: Values, b: Values, places: Sequence[Hashable], patients: Sequence[str], seed: int
) -> Interval:
    """The squared maximum mean discrepancy of features `a` and `b`, both (N, D), row by row paired.

    Gretton et al. 2012, "A kernel two-sample test", equation 4, with the kernel of KID (Bińkowski
    et al. 2018). Pairs of rows of one of `places` (N,), the slice that they show, are left out
    everywhere: a row is not compared with itself, and two requests at one tumour, whose real
    regions are the same, do not pass for a coincidence of two. So two equal sets have a distance of
    exactly 0. The shared surroundings of a painted and a real crop cancel. NaN for less than two
    places.
    """
    width = a.shape[1] if a.ndim == 2 else 1

    def kernel(left: Values, right: Values) -> Values:
        return np.asarray((left @ right.T / width + 1) ** 3)

    if len(set(places)) < 2:
        return NONE
    number = {place: n for n, place in enumerate(dict.fromkeys(places))}
    where = np.array([number[place] for place in places])
    apart = where[:, None] != where
    between = kernel(a, b)
    terms = np.where(apart, kernel(a, a) + kernel(b, b) - between - between.T, 0.0)
    own = np.eye(len(number))[where]  # (N, places)

    def statistic(weights: Values) -> Values:
        pairs = weights.sum(axis=1) ** 2 - ((weights @ own) ** 2).sum(axis=1)
        return np.asarray(((weights @ terms) * weights).sum(axis=1) / pairs)

    return bootstrap(statistic, patients, seed)
