"""The ring classifier: features against loops, blind on equal sets, sharp on a planted seam."""

import numpy as np
import pytest
from scipy import ndimage

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.ring import RING_FEATURES, ring_auc, ring_features


def borders(count, seam=0.0, seed=0, size=9):
    """Patches of smooth tissue with a slanted border through the middle, `seam` higher inside."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] - size // 2
    turn = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    insides = rows * np.sin(turn) + columns * np.cos(turn) >= 0
    patches = ndimage.gaussian_filter(rng.normal(size=(count, size, size)), (0, 1, 1))
    return patches + seam * insides, insides


def slow_features(patch, inside):
    """Of one patch; the direction of the border comes from the same smoothed region."""
    S = len(patch)
    soft = ndimage.gaussian_filter(inside.astype(float), 1.5)

    def at(row, column):
        return patch[min(max(row, 0), S - 1), min(max(column, 0), S - 1)]

    def slope(values, row, column):
        parts = []
        for i, j in ((1, 0), (0, 1)):
            lower, upper = (row - i, column - j), (row + i, column + j)
            lower = (row, column) if min(lower) < 0 else lower
            upper = (row, column) if max(upper) >= S else upper
            distance = sum(upper) - sum(lower)
            parts.append((values[upper] - values[lower]) / distance)
        return parts

    across, along, means, curved = [], [], {True: [], False: []}, []
    bends, values = {True: [], False: []}, {True: [], False: []}
    for row, column in np.ndindex(S, S):
        near = [(row + i, column + j) for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        side = bool(inside[row, column])
        bend = sum(at(*place) for place in near) - 4 * patch[row, column]
        bends[side].append(bend)
        values[side].append(patch[row, column])
        inner = [place for place in near if min(place) >= 0 and max(place) < S]
        if any(inside[place] != side for place in inner):
            down, right = slope(patch, row, column)
            normal = np.array(slope(soft, row, column))
            normal /= np.linalg.norm(normal)
            across.append(down * normal[0] + right * normal[1])
            along.append(right * normal[0] - down * normal[1])
            curved.append(bend)
            means[side].append(patch[row, column])

    def rms(numbers):
        return np.sqrt(np.mean(np.square(numbers)))

    step = abs(np.mean(means[True]) - np.mean(means[False]))
    spreads = np.std(values[True]), np.std(values[False])
    return [rms(across), rms(along), step, rms(curved), rms(bends[True]), rms(bends[False]),
            *spreads]  # fmt: skip


@pytest.mark.parametrize("size", [5, 7, 8])
def test_features_match_loops(size):
    patches, insides = borders(6, seam=0.4, seed=size, size=size)
    found = ring_features(patches, insides)
    assert found.shape == (6, len(RING_FEATURES))
    slow = [slow_features(*one) for one in zip(patches, insides, strict=True)]
    np.testing.assert_allclose(found, slow)


def test_a_straight_step_lies_across_the_border_and_not_along_it():
    inside = np.zeros((1, 9, 9), bool)
    inside[:, :, 5:] = True
    found = dict(zip(RING_FEATURES, ring_features(2.0 * inside, inside)[0], strict=True))
    assert found["step over the border"] == 2
    assert found["gradient across the border"] == pytest.approx(1)  # central differences
    assert found["gradient along the border"] == pytest.approx(0)
    assert found["spread inside"] == found["spread outside"] == 0


def case(seam, count=100):
    """The estimate for `count` borders of either kind, of 20 patients."""
    real = ring_features(*borders(count))
    painted = ring_features(*borders(count, seam=seam, seed=1))
    kinds = np.repeat([False, True], count)
    owners = np.tile(np.arange(count) % 20, 2)
    return ring_auc(np.concatenate([real, painted]), kinds, owners, resamples=200)


def test_equal_borders_cannot_be_told_and_a_seam_can():
    blind = case(0.0)
    assert 0.35 < blind.value < 0.65
    assert blind.low < 0.5 < blind.high
    sharp = case(3.0)
    assert sharp.value > 0.97
    assert blind.high < sharp.low <= sharp.value <= sharp.high <= 1


def test_the_same_borders_twice_cannot_be_told():
    features = ring_features(*borders(60))
    owners = np.tile(np.arange(60) % 12, 2)
    estimate = ring_auc(np.tile(features, (2, 1)), np.repeat([True, False], 60), owners)
    assert estimate.value == pytest.approx(0.5)


def test_patients_that_are_recognised_do_not_help():
    """Features that name the patient tell nothing about patients who were not trained on."""
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(10), 10)
    named = np.eye(10)[owners] + 0.01 * rng.normal(size=(100, 10))
    painted = owners % 2 == 0
    assert ring_auc(named, painted, owners).value < 0.75


def test_the_same_arguments_give_the_same_estimate():
    assert case(0.3, 40) == case(0.3, 40)


def test_what_cannot_be_told_apart_at_all():
    patches, insides = borders(4)
    insides[2] = True
    with pytest.raises(DataError, match=r"1 of 4 that lie on one side, the first is patch 2"):
        ring_features(patches, insides)
    with pytest.raises(DataError, match=r"patches and insides \(N, S, S\)"):
        ring_features(patches[0], insides[0])
    features, kinds = np.zeros((6, 2)), np.array([True, False] * 3)
    with pytest.raises(DataError, match=r"at least 2 patients of either kind, got 1"):
        ring_auc(features, kinds, np.array([1, 2, 1, 3, 1, 4]))
    with pytest.raises(DataError, match=r"features \(N, F\)"):
        ring_auc(features, kinds, np.arange(5))
    with pytest.raises(DataError, match=r"finite"):
        ring_auc(np.full((6, 2), np.nan), kinds, np.arange(6))
