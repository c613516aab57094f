"""Exact intervals of proportions, and the epsilon that an attack's guesses refute."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from polyclinic.errors import PrivacyError

LEVEL = 0.95
_MOST = 60.0  # epsilons beyond are not told apart: the accuracy of a guess rounds to 1


def clopper_pearson(hits: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact two-sided interval of a proportion (Clopper and Pearson 1934).

    >>> low, high = clopper_pearson(0, 20)
    >>> print(low, round(high, 3))
    0.0 0.168
    """
    if not 0 <= hits <= trials or trials < 1:
        raise ValueError(f"expected 0 to {trials} hits of 1 trial or more, got {hits}")
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def guesses_p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """How probable so many right guesses are, at most, where (`epsilon`, `delta`) holds.

    Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One (1) Training Run", theorem 5.2: each
    of `canaries` was in with probability 1/2 by itself; of `guesses` of them it was said whether it
    was, and `right` of these are right. Under pure differential privacy that is at most the tail of
    a binomial whose every guess is right with probability e^epsilon / (1 + e^epsilon); delta adds
    2 * canaries * delta times the steepest mean slope of the tail below `right`.
    """
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(
            f"expected right <= guesses <= canaries, got {right}, {guesses}, {canaries}"
        )
    accuracy = 1 / (1 + math.exp(-epsilon))
    tail = float(stats.binom.sf(right - 1, guesses, accuracy))
    slope = 0.0
    if delta > 0 and right > 0:
        lower = np.arange(right - 1, -1, -1)
        masses = np.cumsum(stats.binom.pmf(lower, guesses, accuracy))
        slope = float((masses / np.arange(1, right + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * slope)


def least_epsilon(
    canaries: int, guesses: int, right: int, delta: float, level: float = LEVEL
) -> float:
    """The largest epsilon that is refuted at `level`: with that confidence, the true one is above.

    0 where nothing is refuted. Found by bisection: the p-value rises with epsilon.
    """

    def refuted(epsilon: float) -> bool:
        return guesses_p_value(canaries, guesses, right, epsilon, delta) < 1 - level

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high) and high < _MOST:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def best_least_epsilon(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    delta: float,
    shares: tuple[float, ...] = (0.9, 0.25, 0.05),
    level: float = LEVEL,
) -> tuple[float, int, int]:
    """The bound from scores (m,), higher where more likely in: (epsilon, guesses, right guesses).

    Half of a share of the canaries, those with the highest scores, are guessed to be in; as many,
    with the lowest, to be out; about the rest nothing is said. All `shares` are tried, each at a
    level that pays for the others (Bonferroni). `PrivacyError` for scores that are not finite.
    """
    if not np.isfinite(scores).all():
        raise PrivacyError("canaries: expected finite scores; the update holds NaN or infinity")
    order = np.argsort(-scores, kind="stable")
    each = 1 - (1 - level) / len(shares)
    found = []
    for share in shares:
        half = max(1, round(share * len(scores) / 2))
        half = min(half, len(scores) // 2)
        right = int(included[order[:half]].sum() + (~included[order[len(order) - half :]]).sum())
        found.append((least_epsilon(len(scores), 2 * half, right, delta, each), 2 * half, right))
    return max(found)
