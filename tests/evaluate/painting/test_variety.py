"""Diversity over seeds, and copies that are found wherever they were shifted or mirrored."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.variety import (
    copy_rate,
    diversity,
    nearest_of,
    standardised,
    variants,
)


def square(*shape):
    region = np.zeros(shape, bool)
    region[..., 1:-1, 1:-1] = True
    return region


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(
    st.integers(2, 5),
    st.one_of(st.just((5, 6)), st.just((2, 4, 5))),
    st.integers(0, 99),
)
def test_diversity_matches_loops_over_pairs(count, shape, seed):
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(count, *shape)).astype(np.float32)
    region = rng.random(shape) < 0.5
    region.flat[3] = True
    places = [tuple(place) for place in np.argwhere(region)]
    distances = [
        math.sqrt(sum((float(a[p]) - float(b[p])) ** 2 for p in places) / len(places))
        for a, b in itertools.combinations(samples, 2)
    ]
    found = diversity(samples, region)
    assert found.distance == pytest.approx(np.mean(distances), rel=1e-6)
    for place in np.ndindex(shape):
        expected = np.std([float(s[place]) for s in samples], ddof=1) if region[place] else 0
        assert found.deviation[place] == pytest.approx(expected, abs=1e-6)
    assert found.mean_deviation == pytest.approx(found.deviation[region].mean())


def test_equal_samples_have_no_diversity():
    found = diversity(np.ones((3, 5, 5)), square(5, 5))
    assert (found.distance, found.mean_deviation) == (0, 0)
    assert math.isnan(diversity(np.ones((3, 5, 5)), np.zeros((5, 5), bool)).distance)
    with pytest.raises(DataError, match=r"at least 2 samples, got 1"):
        diversity(np.ones((1, 5, 5)), square(5, 5))
    with pytest.raises(DataError, match=r"diversity: .* one shape"):
        diversity(np.ones((3, 5, 4)), square(5, 5))
    with pytest.raises(DataError, match=r"finite"):
        diversity(np.full((3, 5, 5), np.nan), square(5, 5))


def nearest(patch, region, candidates):
    return nearest_of(patch[region], standardised(candidates[:, region]))


def slow_nearest(patch, region, candidates):
    def standard(image):
        values = [float(image[tuple(p)]) for p in np.argwhere(region)]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        return [(v - mean) / spread if spread else 0.0 for v in values]

    target = standard(patch)
    found = []
    for candidate in candidates:
        values = standard(candidate)
        squares = [(a - b) ** 2 for a, b in zip(target, values, strict=True)]
        found.append(math.sqrt(sum(squares) / len(squares)))
    return min(found)


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(st.integers(3, 7), st.integers(3, 7), st.integers(1, 6), st.integers(0, 99))
def test_nearest_distances_match_loops(height, width, count, seed):
    rng = np.random.default_rng(seed)
    patch, candidates = rng.normal(size=(height, width)), rng.normal(size=(count, height, width))
    region = rng.random((height, width)) < 0.6
    region.flat[:2] = True
    found = nearest(patch, region, candidates)
    assert found == pytest.approx(slow_nearest(patch, region, candidates))


def test_variants_are_all_shifts_and_their_mirror_images():
    sources = np.arange(2 * 5 * 6).reshape(2, 5, 6)
    found = {candidate.tobytes() for candidate in variants(sources, 1)}
    expected = set()
    for source, row, column in itertools.product(sources, range(3), range(3)):
        window = np.ascontiguousarray(source[row : row + 3, column : column + 4])
        expected |= {window.tobytes(), np.ascontiguousarray(window[:, ::-1]).tobytes()}
    assert found == expected
    assert variants(sources, 1).shape == (2 * 9 * 2, 3, 4)
    assert variants(sources, 0).shape == (2 * 2, 5, 6)


def test_a_copy_is_found_whatever_its_place_side_and_brightness():
    rng = np.random.default_rng(0)
    training = rng.normal(size=(20, 14, 14))
    region, candidates = square(10, 10), variants(training, 2)
    copied = 3 * training[7, 4:14, 1:11][:, ::-1] - 2  # moved by 2 rows and -1 column, mirrored
    assert nearest(copied, region, candidates) == pytest.approx(0, abs=1e-6)
    assert nearest(copied, region, variants(training[:, 2:-2, 2:-2], 0)) > 0.5
    fresh = rng.normal(size=(10, 10))
    assert 0.5 < nearest(fresh, region, candidates) < math.sqrt(2)


def test_regions_that_have_no_nearest():
    patch, region = np.ones((4, 4)), square(4, 4)
    assert math.isnan(nearest(patch, region, np.ones((0, 4, 4))))
    assert math.isnan(nearest(patch, region & False, np.ones((2, 4, 4))))
    assert nearest(patch, region, np.full((1, 4, 4), 0.1)) == 0  # neither has contrast
    with pytest.raises(DataError, match=r"nearest distance: expected finite"):
        nearest(patch, region, np.full((2, 4, 4), np.nan))
    with pytest.raises(DataError, match=r"for a shift of 2 px"):
        variants(np.ones((2, 4, 9)), 2)


def test_copy_rate_counts_what_is_nearer_than_real_ones_are():
    real = np.linspace(1, 2, 101)
    found = copy_rate(np.array([0.0, 1.04, 1.06, 3.0]), real)
    assert found.threshold == pytest.approx(1.05)
    assert (found.share, found.expected) == (0.5, 0.05)
    rng = np.random.default_rng(0)
    honest = copy_rate(rng.normal(5, 1, 4000), rng.normal(5, 1, 4000))
    assert honest.share == pytest.approx(0.05, abs=0.015)
    with pytest.raises(DataError, match=r"at least one region, got \(0,\)"):
        copy_rate(np.zeros(0), real)
    with pytest.raises(DataError, match=r"finite"):
        copy_rate(np.array([np.nan]), real)
