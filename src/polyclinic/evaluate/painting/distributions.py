"""Are painted and real regions alike as populations: KID of features, differences of statistics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.checks import expect_finite

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Kid:
    """The mean over random subsets, and the standard error of that mean.

    The subsets share rows, so the error says how well the mean over subsets is known for these
    rows, and not what other patients would have given.
    """

    value: float
    standard_error: float


def mmd(a: Features, b: Features) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of two sets of rows.

    `a` (m, D), `b` (n, D), at least two rows each; the kernel is the cube of 1 plus the mean
    product. It may be below 0. Bińkowski et al. 2018, "Demystifying MMD GANs", equation 4.
    """
    _expect_rows("mmd", a, b)
    m, n = len(a), len(b)
    within_a, within_b, between = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    first = (within_a.sum() - np.trace(within_a)) / (m * (m - 1))
    second = (within_b.sum() - np.trace(within_b)) / (n * (n - 1))
    return float(first + second - 2 * between.mean())


def kid(a: Features, b: Features, subset: int = 100, subsets: int = 100, seed: int = 0) -> Kid:
    """Kernel distance of two sets of rows: `mmd` averaged over random subsets of both.

    `a` (M, D), `b` (N, D) are features of the same encoder; each of `subsets` draws takes
    `subset` rows of both without replacement (Bińkowski et al. 2018, section 4). Raises
    `DataError` where a set is smaller than a subset, or a feature is not finite.
    """
    _expect_rows("KID", a, b)
    if not 2 <= subset <= min(len(a), len(b)) or subsets < 2:
        raise DataError(
            f"KID: expected at least 2 subsets of 2 to {min(len(a), len(b))} rows, got {subsets} "
            f"of {subset}; take smaller subsets or more images"
        )
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        rows_a = rng.choice(len(a), subset, replace=False)
        rows_b = rng.choice(len(b), subset, replace=False)
        values.append(mmd(a[rows_a], b[rows_b]))
    return Kid(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets)))


def standardised_difference(a: Features, b: Features) -> Features:
    """How far the means of each feature lie apart, in pooled standard deviations: (F,).

    `a` (M, F), `b` (N, F); positive where `a` is higher. The pooled variance is the mean of the
    two (Austin 2009, "Balance diagnostics for comparing the distribution of baseline covariates",
    section 3). Rows in which a feature is NaN are left out for it; a feature that varies in
    neither set is 0 where both are the same and NaN where they are not, and NaN with fewer than
    two rows.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise DataError(
            f"standardised difference: expected (M, F) and (N, F), got {a.shape} and {b.shape}"
        )
    differences = np.full(a.shape[1], np.nan)
    for number in range(a.shape[1]):
        left, right = (rows[~np.isnan(rows[:, number]), number] for rows in (a, b))
        if len(left) < 2 or len(right) < 2:
            continue
        if np.ptp(left) > 0 or np.ptp(right) > 0:
            pooled = np.sqrt((left.var(ddof=1) + right.var(ddof=1)) / 2)
            differences[number] = (left.mean() - right.mean()) / pooled
        elif left[0] == right[0]:
            differences[number] = 0
    return differences


def _kernel(a: Features, b: Features) -> Features:
    kernel: Features = (a @ b.T / a.shape[1] + 1) ** 3
    return kernel


def _expect_rows(measure: str, a: Features, b: Features) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(
            f"{measure}: expected features (M, D) and (N, D) of at least 2 rows, got {a.shape} "
            f"and {b.shape}"
        )
    expect_finite(measure, a, b)
