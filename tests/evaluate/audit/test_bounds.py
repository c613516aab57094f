"""Intervals and refuted epsilons against slow sums over every outcome."""

import math

import numpy as np
import pytest

from polyclinic.errors import PrivacyError
from polyclinic.evaluate.audit.bounds import (
    best_least_epsilon,
    clopper_pearson,
    guesses_p_value,
    least_epsilon,
)


def tail(n, p, least):
    """P[Binomial(n, p) >= least], summed up."""
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(max(0, least), n + 1))


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (3, 7), (7, 7), (11, 40)])
def test_the_interval_ends_where_a_tail_has_two_and_a_half_percent(hits, trials):
    low, high = clopper_pearson(hits, trials)
    if hits:
        assert tail(trials, low, hits) == pytest.approx(0.025, rel=1e-6)
    else:
        assert low == 0
    if hits < trials:
        assert 1 - tail(trials, high, hits + 1) == pytest.approx(0.025, rel=1e-6)
    else:
        assert high == 1


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"expected 0 to 3 hits of 1 trial or more, got 4"):
        clopper_pearson(4, 3)


def slow_p_value(m, r, v, epsilon, delta):
    """Steinke et al. 2023, theorem 5.2, term by term."""
    p = 1 / (1 + math.exp(-epsilon))
    slopes = [(tail(r, p, v - i) - tail(r, p, v)) / i for i in range(1, v + 1)]
    return min(1.0, tail(r, p, v) + 2 * m * delta * max(slopes, default=0.0))


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("m", "r", "v"), [(20, 20, 15), (50, 30, 29), (40, 10, 0)])
def test_the_p_value_is_the_theorems(m, r, v, epsilon):
    for delta in (0.0, 1e-3):
        expected = slow_p_value(m, r, v, epsilon, delta)
        assert guesses_p_value(m, r, v, epsilon, delta) == pytest.approx(expected, rel=1e-9)


def test_all_guesses_right_refute_what_the_formula_says():
    # accuracy^r < 0.05, without delta
    r = 200
    accuracy = 0.05 ** (1 / r)
    assert least_epsilon(r, r, r, 0.0) == pytest.approx(math.log(accuracy / (1 - accuracy)))


def test_half_of_the_guesses_right_refute_nothing():
    assert least_epsilon(100, 100, 50, 0.0) == 0


def test_the_bound_of_randomised_response_stays_below_its_epsilon():
    """Over many repetitions at most five percent may be above; the promise of the theorem."""
    rng = np.random.default_rng(0)
    epsilon, above = 1.0, 0
    for _ in range(200):
        included = rng.random(300) < 0.5
        honest = rng.random(300) < 1 / (1 + math.exp(-epsilon))
        scores = np.where(honest == included, 1.0, -1.0) + 1e-6 * rng.random(300)
        above += best_least_epsilon(scores, included, 0.0)[0] > epsilon
    assert above <= 16  # 10 expected at most, and three standard deviations


def test_scores_that_tell_everything_refute_a_lot_and_noise_nothing():
    included = np.arange(2000) % 2 == 0
    assert best_least_epsilon(included.astype(float), included, 1e-5)[0] > 5.5
    noise = np.random.default_rng(1).normal(size=2000)
    assert best_least_epsilon(noise, included, 1e-5)[0] < 0.3


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(PrivacyError, match=r"expected finite scores"):
        best_least_epsilon(np.array([0.0, np.nan]), np.array([True, False]), 0.0)
