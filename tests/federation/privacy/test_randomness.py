"""Numbers from a secret: the same for the same name, distributed as they should be."""

import numpy as np
import pytest
from scipy import stats

from polyclinic.federation.privacy.randomness import normal, uniform


def test_the_same_name_gives_the_same_numbers_and_another_others():
    assert (uniform(50, b"s", "a", 1) == uniform(50, b"s", "a", 1)).all()
    for other in (uniform(50, b"t", "a", 1), uniform(50, b"s", "a", 2), uniform(50, b"s", "a1")):
        assert not (uniform(50, b"s", "a", 1) == other).any()


def test_uniform_numbers_are_uniform():
    values = uniform(100_000, b"s", "u")
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_normal_numbers_are_normal():
    values = normal(100_000, b"s", "n")
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert abs(np.corrcoef(values[:50_000], values[50_000:])[0, 1]) < 0.01


@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_any_number_of_them(number):
    assert normal(number, b"s").shape == (number,)
