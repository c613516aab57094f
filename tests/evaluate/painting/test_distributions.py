"""KID against its double sums, about 0 for equal distributions; standardised differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.distributions import kid, mmd, standardised_difference


def rows(count, features=8, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (count, features))


def slow_mmd(x, y):
    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    between = sum(kernel(a, b) for a in x for b in y)
    return within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * between / (m * n)


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(st.integers(2, 7), st.integers(2, 7), st.integers(1, 5), st.integers(0, 99))
def test_mmd_matches_double_sums(m, n, features, seed):
    x, y = rows(m, features, seed), rows(n, features, seed + 1, shift=0.5)
    assert mmd(x, y) == pytest.approx(slow_mmd(x, y))
    assert mmd(x, y) == pytest.approx(mmd(y, x))


def test_mmd_is_unbiased():
    values = [mmd(rows(10, seed=2 * i), rows(15, seed=2 * i + 1)) for i in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


def test_kid_is_about_0_for_equal_distributions_and_grows_with_their_distance():
    real = rows(300)
    equal = kid(real, rows(300, seed=1), 50, 50)
    assert abs(equal.value) < 0.05
    near, far = (kid(real, rows(300, seed=1, shift=s), 50, 50).value for s in (0.5, 1.0))
    assert abs(equal.value) < near < far


def test_kid_is_the_mean_over_its_subsets():
    x, y = rows(6), rows(5, seed=1)
    every = kid(x[:5], y, subset=5, subsets=4)
    assert every.value == pytest.approx(mmd(x[:5], y))
    assert every.standard_error == pytest.approx(0, abs=1e-12)
    assert kid(x, y, 3, 10, seed=1) == kid(x, y, 3, 10, seed=1)
    assert kid(x, y, 3, 10, seed=1) != kid(x, y, 3, 10, seed=2)
    pooled = [kid(x, y, 3, 200, seed=s) for s in range(10)]
    spread = np.std([estimate.value for estimate in pooled], ddof=1)
    assert spread == pytest.approx(pooled[0].standard_error, rel=0.7)


def test_sets_that_kid_cannot_compare():
    with pytest.raises(DataError, match=r"2 to 5 rows, got 10 of 6; take smaller subsets"):
        kid(rows(9), rows(5), subset=6, subsets=10)
    with pytest.raises(DataError, match=r"features \(M, D\) and \(N, D\) .* \(9, 8\) and \(9, 7\)"):
        kid(rows(9), rows(9, 7), 3)
    with pytest.raises(DataError, match=r"mmd: .* at least 2 rows"):
        mmd(rows(1), rows(4))
    with pytest.raises(DataError, match=r"KID: expected finite numbers, got 72 of 72"):
        kid(rows(9) * np.nan, rows(9), 3)


def test_standardised_differences_match_the_formula():
    a, b = rows(30, 3, shift=1.0), 2 * rows(20, 3, seed=1)
    found = standardised_difference(a, b)
    for column in range(3):
        x, y = list(a[:, column]), list(b[:, column])
        mx, my = sum(x) / 30, sum(y) / 20
        vx = sum((v - mx) ** 2 for v in x) / 29
        vy = sum((v - my) ** 2 for v in y) / 19
        assert found[column] == pytest.approx((mx - my) / ((vx + vy) / 2) ** 0.5)
    np.testing.assert_allclose(standardised_difference(b, a), -found)
    np.testing.assert_allclose(standardised_difference(a, a), 0, atol=1e-12)


def test_features_that_do_not_vary_or_are_missing():
    a = np.array([[0.1, 1, 1, np.nan], [0.1, 1, 2, 5], [0.1, 1, np.nan, np.nan]])
    b = np.array([[0.1, 2, 1, 5], [0.1, 2, 2, 6], [0.1, 2, 7, 7], [0.1, 2, np.nan, 8]])
    found = standardised_difference(a, b)
    assert found[0] == 0
    assert np.isnan(found[[1, 3]]).all()
    expected = standardised_difference(a[:2, 2:3], b[:3, 2:3])[0]
    assert found[2] == pytest.approx(expected)
    with pytest.raises(DataError, match=r"\(M, F\) and \(N, F\)"):
        standardised_difference(a, b[:, :2])
