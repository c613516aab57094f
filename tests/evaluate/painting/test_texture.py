"""Statistics of a region: against loops over pairs of neighbours, and of known textures."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.texture import TEXTURE_FEATURES, texture_features


def named(*arguments, **options):
    return dict(zip(TEXTURE_FEATURES, texture_features(*arguments, **options), strict=True))


def slow(image, region, low, high, levels):
    inside = [tuple(place) for place in np.argwhere(region)]
    values = [float(image[place]) for place in inside]
    n, mean = len(values), sum(values) / len(values)
    moment = {k: sum((v - mean) ** k for v in values) / n for k in (2, 3, 4)}
    spread = math.sqrt(moment[2])

    def grey(place):
        return min(max(math.floor((image[place] - low) / (high - low) * levels), 0), levels - 1)

    shares = [sum(grey(p) == g for p in inside) / n for g in range(levels)]
    pairs = np.zeros((levels, levels))
    for row, column in inside:
        for i, j in ((0, 1), (1, 0), (1, 1), (1, -1)):
            other = (row + i, column + j)
            if other in inside:
                pairs[grey((row, column)), grey(other)] += 1
                pairs[grey(other), grey((row, column))] += 1
    p = pairs / pairs.sum()
    i, j = np.indices(p.shape)
    mu = (i * p).sum()
    sd = math.sqrt(((i - mu) ** 2 * p).sum())
    return {
        "mean": mean,
        "standard deviation": spread,
        "skewness": moment[3] / spread**3,
        "excess kurtosis": moment[4] / spread**4 - 3,
        "median": sorted(values)[n // 2] if n % 2 else sum(sorted(values)[n // 2 - 1 :][:2]) / 2,
        "entropy": -sum(s * math.log2(s) for s in shares if s),
        "GLCM contrast": ((i - j) ** 2 * p).sum(),
        "GLCM homogeneity": (p / (1 + (i - j) ** 2)).sum(),
        "GLCM energy": math.sqrt((p**2).sum()),
        "GLCM correlation": ((i - mu) * (j - mu) * p).sum() / sd**2 if sd > 1e-12 else 1,
    }


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(st.integers(3, 9), st.integers(3, 9), st.integers(2, 8), st.integers(0, 99))
def test_features_match_loops(height, width, levels, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.6, (height, width)).astype(np.float32)
    region = rng.random((height, width)) < 0.6
    region[1, 0:3] = True
    found = named(image, region, -1, 1, levels)
    for name, value in slow(image.astype(float), region, -1, 1, levels).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_pixels_outside_the_region_do_not_count():
    rng = np.random.default_rng(0)
    image, region = rng.random((12, 12)), np.zeros((12, 12), bool)
    region[3:9, 4:8] = True
    other = np.where(region, image, 0.77)
    np.testing.assert_array_equal(
        texture_features(image, region, 0, 1), texture_features(other, region, 0, 1)
    )


def test_a_chequerboard_differs_from_its_halves():
    whole = np.ones((6, 6), bool)
    board = np.indices((6, 6)).sum(0) % 2 * 1.0
    halves = np.repeat([0.0, 1.0], 3)[None] * np.ones((6, 1))
    a, b = named(board, whole, 0, 1), named(halves, whole, 0, 1)
    assert a["mean"] == b["mean"] == 0.5
    assert a["entropy"] == b["entropy"] == 1
    assert a["GLCM contrast"] > b["GLCM contrast"]
    assert a["GLCM correlation"] < b["GLCM correlation"]


def test_regions_without_contrast_without_neighbours_without_pixels():
    flat = named(np.full((4, 4), 0.1), np.ones((4, 4), bool), 0, 1)
    assert flat["standard deviation"] == flat["skewness"] == flat["excess kurtosis"] == 0
    assert (flat["entropy"], flat["GLCM energy"], flat["GLCM contrast"]) == (0, 1, 0)
    lone = np.zeros((4, 4), bool)
    lone[1, 1] = True
    single = named(np.full((4, 4), 0.1), lone, 0, 1)
    assert single["mean"] == pytest.approx(0.1)
    assert math.isnan(single["GLCM contrast"])
    assert np.isnan(texture_features(np.zeros((4, 4)), np.zeros((4, 4), bool), 0, 1)).all()


def test_limits_that_make_no_sense():
    image, region = np.zeros((4, 4)), np.ones((4, 4), bool)
    with pytest.raises(DataError, match=r"limits low < high and at least 2 levels, got 1, 1 and"):
        texture_features(image, region, 1, 1)
    with pytest.raises(DataError, match=r"texture: .* one shape \(H, W\)"):
        texture_features(image[None], region[None], 0, 1)
