"""Intervals: against slow and obvious code, and what is not defined."""

import math

import numpy as np
import pytest

from polyclinic.evaluate.bootstrap import cluster_weights
from polyclinic.run.painter_evaluation import intervals

PATIENTS = ["b", "a", "a", "c", "b", "d"]
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=6), RNG.normal(1, 1, size=6)


def by_repeating(statistic, seed):
    """Quantiles of a statistic of rows that are really repeated."""
    clusters = np.unique(PATIENTS, return_inverse=True)[1]
    weights = cluster_weights(clusters, intervals.RESAMPLES, seed)
    values = [statistic(np.repeat(np.arange(6), row)) for row in weights]
    defined = [value for value in values if np.isfinite(value)]
    return np.quantile(defined, [0.025, 0.975])


def standardised_difference(a, b):
    """Austin 2009, "Balance diagnostics for comparing the distribution of baseline covariates",
    section 3; not finite where neither varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)


def kernel(x, y):
    return (x @ y / len(x) + 1) ** 3


def mmd(a, b):
    """The unbiased estimate for independent sets: Bińkowski et al. 2018, "Demystifying MMD GANs",
    equation 4."""

    def within(rows):
        return np.mean([kernel(x, y) for i, x in enumerate(rows) for y in np.delete(rows, i, 0)])

    return within(a) + within(b) - 2 * np.mean([kernel(x, y) for x in a for y in b])


@pytest.mark.parametrize(
    ("found", "statistic"),
    [
        (lambda: intervals.mean(A, PATIENTS, 3), lambda rows: A[rows].mean()),
        (lambda: intervals.ratio(A, B, PATIENTS, 3), lambda rows: A[rows].mean() / B[rows].mean()),
        (
            lambda: intervals.standardised_difference(A, B, PATIENTS, 3),
            lambda rows: standardised_difference(A[rows], B[rows]),
        ),
    ],
)
def test_weights_give_what_repeating_edits_gives(found, statistic):
    estimate = found()
    assert estimate.value == pytest.approx(statistic(np.arange(6)))
    assert [estimate.low, estimate.high] == pytest.approx(by_repeating(statistic, 3))
    assert (estimate.edits, estimate.patients) == (6, 4)


def test_the_kernel_distance_is_that_of_gretton():
    a, b = RNG.normal(size=(6, 5)), RNG.normal(0.5, 1, size=(6, 5))
    terms = [
        kernel(a[i], a[j]) + kernel(b[i], b[j]) - kernel(a[i], b[j]) - kernel(a[j], b[i])
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    found = intervals.kernel_distance(a, b, range(6), PATIENTS, 0)
    assert found.value == pytest.approx(np.mean(terms))
    assert found.low < found.value
    same = intervals.kernel_distance(a, a, range(6), PATIENTS, 0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    of_one_slice = {(0, 1), (1, 0), (2, 4), (4, 2)}
    apart = [terms[5 * i + j - (j > i)] for i in range(6) for j in range(6)
             if i != j and (i, j) not in of_one_slice]  # fmt: skip
    found = intervals.kernel_distance(a, b, [0, 0, 1, 2, 1, 3], PATIENTS, 0)
    assert found.value == pytest.approx(np.mean(apart))


def test_a_region_that_counts_several_times_is_no_coincidence():
    """A painter that draws from the truth, three times where a real region is: nothing to find."""
    rng = np.random.default_rng(2)
    real = np.repeat(rng.normal(size=(60, 20)), 3, axis=0)
    painted = rng.normal(size=(180, 20))
    patients = [str(n // 12) for n in range(180)]
    found = intervals.kernel_distance(painted, real, [n // 3 for n in range(180)], patients, 0)
    assert found.low < 0 < found.high
    careless = intervals.kernel_distance(painted, real, range(180), patients, 0)
    assert careless.value > 3 * abs(found.value)


def test_for_independent_sets_it_estimates_the_same_as_kid():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(400, 4)), rng.normal(0.6, 1, size=(400, 4))
    found = intervals.kernel_distance(a, b, range(400), [str(n) for n in range(400)], 0)
    assert found.value == pytest.approx(mmd(a, b), rel=0.02)
    assert found.low > 0


def test_one_patient_has_no_interval_and_nothing_has_no_value():
    one = intervals.mean(A, ["a"] * 6, 0)
    assert one.value == pytest.approx(A.mean())
    assert math.isnan(one.low)
    none = intervals.mean(np.empty(0), [], 0)
    assert math.isnan(none.value)
    assert (none.edits, none.patients) == (0, 0)
    assert math.isnan(intervals.kernel_distance(A[:1, None], B[:1, None], [0], ["a"], 0).value)
    assert math.isnan(intervals.ratio(A, np.zeros(6), PATIENTS, 0).low)
