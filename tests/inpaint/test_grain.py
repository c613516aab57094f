import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from polyclinic.inpaint.grain import AIR, grained, strength
from polyclinic.inpaint.intensity import BLACK

ROWS, COLUMNS = np.indices((64, 64))
DISC = (ROWS - 32) ** 2 + (COLUMNS - 30) ** 2 < 100
EVERYWHERE = np.ones((64, 64), bool)


def noisy(amplitude, seed=0, level=0.2):
    noise = np.random.default_rng(seed).standard_normal((64, 64))
    return (level + amplitude * noise).astype(np.float32)


def smooth_inside(amplitude, level=0.2):
    return np.where(DISC, np.float32(level), noisy(amplitude))


def add(plane, painted=DISC, seed=1):
    return grained(plane, painted, 60.0, np.random.default_rng(seed))


@pytest.mark.parametrize("amplitude", [0.02, 0.1])
def test_strength_is_the_deviation_of_the_laplacian(amplitude):
    plane = noisy(amplitude).astype(np.float64)
    slow = np.zeros_like(plane)
    padded = np.pad(plane, 1, mode="symmetric")
    for row in range(64):
        for column in range(64):
            here = padded[row : row + 3, column : column + 3]
            slow[row, column] = here[0, 1] + here[2, 1] + here[1, 0] + here[1, 2] - 4 * here[1, 1]
    assert strength(plane, EVERYWHERE) == pytest.approx(slow.std(), rel=0.05)


@pytest.mark.parametrize("amplitude", [0.02, 0.1])
def test_a_smooth_region_gets_the_grain_of_its_surroundings(amplitude):
    plane = smooth_inside(amplitude)
    plane = plane + np.where(DISC, 0.002 * noisy(1, seed=5, level=0), 0).astype(np.float32)
    inner = ndimage.binary_erosion(DISC, iterations=2)
    told = strength(add(plane), inner) / strength(plane, ~ndimage.binary_dilation(DISC))
    assert strength(plane, inner) < 0.2 * strength(plane, ~DISC)
    assert told == pytest.approx(1, abs=0.2)


@given(seed=st.integers(0, 2**32 - 1), top=st.integers(0, 60), size=st.integers(1, 20))
def test_pixels_outside_keep_every_bit(seed, top, size):
    painted = np.zeros((64, 64), bool)
    painted[top : top + size, 10 : 10 + size] = True
    plane = noisy(0.1, seed)
    after = add(plane, painted, seed)
    assert after.dtype == np.float32
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(after[~painted], plane[~painted])


def test_what_is_as_rough_stays_as_it_is():
    plane = np.where(DISC, noisy(0.2), noisy(0.02))
    np.testing.assert_array_equal(add(plane), plane)


def test_air_neither_takes_nor_gives_grain():
    plane = smooth_inside(0.1)
    plane[32:] = np.float32(BLACK)
    after = add(plane)
    np.testing.assert_array_equal(after[plane <= AIR], plane[plane <= AIR])
    dark = np.full((64, 64), BLACK, np.float32)
    np.testing.assert_array_equal(add(dark), dark)


def test_pieces_get_what_each_of_them_lacks():
    left, right = DISC & (COLUMNS < 24), DISC & (COLUMNS > 36)
    plane = np.where(COLUMNS < 30, noisy(0.02), noisy(0.15))
    plane = np.where(left | right, 0.2 + 0.001 * noisy(1, 3, 0), plane).astype(np.float32)
    after = add(plane, left | right)
    assert (after - plane)[right].std() > 3 * (after - plane)[left].std() > 0


def test_the_same_seed_gives_the_same_grain_and_another_another():
    plane = smooth_inside(0.1) + np.where(DISC, 0.001 * noisy(1, 2, 0), 0).astype(np.float32)
    np.testing.assert_array_equal(add(plane), add(plane))
    assert (add(plane)[DISC] != add(plane, seed=2)[DISC]).any()


def test_edges_are_no_noise():
    plane = noisy(0.02)
    folded = plane + np.where((COLUMNS // 8) % 2, np.float32(0.5), np.float32(0))
    ours = strength(folded, EVERYWHERE) / strength(plane, EVERYWHERE)
    mean = np.abs(ndimage.laplace(folded)).mean() / np.abs(ndimage.laplace(plane)).mean()
    assert ours < 1.5 < 2 < mean
