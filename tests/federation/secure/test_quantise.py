"""Integers in place of numbers: the sum cannot overflow, and the error is what was declared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import KnowledgeError
from polyclinic.federation.secure.quantise import Quantisation, to_mean, to_words

HOW = st.builds(
    Quantisation,
    sites=st.integers(3, 64),
    clip=st.floats(1e-4, 1000),
    heaviest=st.sampled_from([1.0, 4096.0, 2.0**24]),
    bits=st.sampled_from([32, 64]),
)


def summed(vectors, weights, how):
    total = np.zeros(vectors.shape[1], f"u{how.bits // 8}")
    for vector, weight in zip(vectors, weights, strict=True):
        words = to_words(vector, weight, how)
        assert words.dtype == total.dtype
        total += words
    return total


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(how=HOW, seed=st.integers(0, 999), there=st.integers(1, 64))
def test_the_mean_is_within_the_bound(how, seed, there):
    rng = np.random.default_rng(seed)
    there = min(there, how.sites)
    vectors = rng.normal(0, how.clip, (there, 30)).astype(np.float32)
    weights = rng.uniform(1, how.heaviest, there)
    cut = np.clip(vectors.astype(np.longdouble), -how.clip, how.clip)
    exact = (cut * weights[:, None]).sum(0) / weights.sum()
    found = to_mean(summed(vectors, weights, how), weights.sum(), how)
    assert np.abs(found - exact).max() <= how.bound(there, weights.sum())


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(how=HOW, sign=st.sampled_from([-1.0, 1.0]))
def test_the_largest_sum_does_not_overflow_and_twice_the_scale_would(how, sign):
    vectors = np.full((how.sites, 2), sign * how.clip)
    weights = np.full(how.sites, how.heaviest)
    found = to_mean(summed(vectors, weights, how), weights.sum(), how)
    assert found == pytest.approx(
        sign * how.clip, rel=1e-12, abs=how.bound(how.sites, sum(weights))
    )
    assert 2 * how.scale * how.clip * how.heaviest * how.sites >= 2.0 ** (how.bits - 1) * (1 - 1e-4)


def test_equal_weights_in_32_bits_are_finer_than_float32_at_1():
    how = Quantisation(sites=8, clip=1.0)
    assert how.scale == 2.0**27
    assert how.bound(8, 8.0) < np.finfo(np.float32).eps


def test_what_is_beyond_the_clip_is_cut():
    how = Quantisation(sites=3, clip=0.5)
    words = to_words(np.array([0.25, 7.0, -7.0], np.float32), 1.0, how)
    assert to_mean(words, 1.0, how) == pytest.approx([0.25, 0.5, -0.5])


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, float("nan")])
def test_a_weight_that_could_overflow_is_refused(weight):
    with pytest.raises(KnowledgeError, match=r"a site's weight is .*expected above 0 and at"):
        to_words(np.zeros(2), weight, Quantisation(3, 1.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(KnowledgeError, match=r"a change holds NaN or infinity"):
        to_words(np.array([0.0, value]), 1.0, Quantisation(3, 1.0))
