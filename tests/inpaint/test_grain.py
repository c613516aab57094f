import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from polyclinic.inpaint.components import KEEP, MIXED, TUMOUR_FREE
from polyclinic.inpaint.grain import AIR, CALM, USUAL, grained
from polyclinic.inpaint.grain import strength as strength_at
from polyclinic.inpaint.intensity import BLACK

ROWS, COLUMNS = np.indices((64, 64))
DISC = (ROWS - 32) ** 2 + (COLUMNS - 30) ** 2 < 100
EVERYWHERE = np.ones((64, 64), bool)


def noisy(amplitude, seed=0, level=0.2):
    noise = np.random.default_rng(seed).standard_normal((64, 64))
    return (level + amplitude * noise).astype(np.float32)


def smooth_inside(amplitude, level=0.2):
    return np.where(DISC, np.float32(level), noisy(amplitude))


def strength(plane, where, quantile=USUAL):
    found = strength_at(plane, where, quantile)
    assert found is not None
    return found


def add(plane, painted=DISC, seed=1, what=TUMOUR_FREE):
    fill_map = np.where(painted, what, KEEP).astype(np.int8)
    return grained(plane, fill_map, 60.0, np.random.default_rng(seed))


def slow_strength(plane, where, enough, quantile):
    padded = np.pad(plane, 1, mode="symmetric")
    squares = []
    for row in range(64):
        for column in range(64):
            window = [
                (r, c)
                for r in range(max(0, row - 2), min(64, row + 3))
                for c in range(max(0, column - 2), min(64, column + 3))
                if where[r, c]
            ]
            if where[row, column] and len(window) > enough:
                found = 0.0
                for r, c in window:
                    here = padded[r : r + 3, c : c + 3]
                    around = here[0, 1] + here[2, 1] + here[1, 0] + here[1, 2]
                    found += float(around - 4 * here[1, 1]) ** 2
                squares.append(found / len(window))
    return np.sqrt(np.quantile(squares, quantile))


@pytest.mark.parametrize("quantile", [CALM, USUAL])
def test_strength_is_that_of_the_windows(quantile):
    plane = noisy(0.1).astype(np.float64)
    stripe = (ROWS > 30) & (ROWS < 34)  # too narrow for a whole window
    for where, enough in ((EVERYWHERE, 24), (DISC, 24), (stripe, 12)):
        slow = slow_strength(plane, where, enough, quantile)
        assert strength(plane, where, quantile) == pytest.approx(slow)
    assert strength_at(plane, (ROWS == 30) & (COLUMNS < 60), quantile) is None


@given(factor=st.floats(0.01, 10))
def test_strength_grows_with_the_noise(factor):
    plane = noisy(1.0, level=0).astype(np.float64)
    assert strength(factor * plane, DISC) == pytest.approx(factor * strength(plane, DISC))


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("quantile", [CALM, USUAL])
def test_flat_pixels_beside_rough_ones_have_no_strength(quantile):
    plane = np.where(COLUMNS < 20, noisy(0.5), np.float32(0.2))
    assert strength(plane, EVERYWHERE, quantile) == pytest.approx(0, abs=1e-6)


def test_the_skull_gives_no_grain():
    away = np.hypot(ROWS - 32, COLUMNS - 32)
    painted = np.hypot(ROWS - 32, COLUMNS - 47) < 6
    plane = np.where(away < 24, noisy(0.02), noisy(0.5, 3, level=1.5))
    plane = np.where(away < 30, np.maximum(plane, AIR + 0.1), BLACK)
    plane = np.where(painted, 0.2 + noisy(0.001, 5, level=0), plane).astype(np.float32)
    fill_map = np.where(painted, TUMOUR_FREE, KEEP).astype(np.int8)
    after = grained(plane, fill_map, 96.0, np.random.default_rng(1))
    told = strength(after, ndimage.binary_erosion(painted))
    assert told == pytest.approx(strength(noisy(0.02), EVERYWHERE), rel=0.4)


def test_pixels_beside_painted_ones_do_not_count():
    painted = (COLUMNS % 6 < 3) & (ROWS > 10) & (ROWS < 50)
    plane = np.where(painted, np.float32(1.5), noisy(0.02)).astype(np.float32)
    changed = (add(plane, painted) - plane)[painted]
    assert 0 < changed.std() < 0.05


@pytest.mark.parametrize("side", [4, 5, 6, 7, 9])
def test_small_regions_that_are_brighter_than_around_get_grain_too(side):
    painted = (abs(ROWS - 30) <= side // 2) & (abs(COLUMNS - 30) <= (side - 1) // 2)
    plane = np.where(painted, np.float32(0.5), noisy(0.05)).astype(np.float32)
    assert (add(plane, painted) - plane)[painted].std() > 0.02


@pytest.mark.parametrize("radius", [9, 14, 20])
def test_small_sections_of_a_head_get_grain_too(radius):
    away = np.hypot(ROWS - 32, COLUMNS - 32)
    plane = np.where(away < radius, noisy(0.05), BLACK).astype(np.float32)
    painted = away < 4
    plane = np.where(painted, np.float32(0.2), plane)
    fill_map = np.where(painted, MIXED, KEEP).astype(np.int8)
    after = grained(plane, fill_map, 180.0, np.random.default_rng(1))
    assert 0.02 < (after - plane)[painted].std() < 0.1


def test_dark_fluid_around_does_not_count():
    dark = (abs(ROWS - 46) < 12) & (abs(COLUMNS - 32) < 28)
    plane = np.where(dark, np.float32(BLACK), noisy(0.05))
    plane = np.where(DISC, np.float32(0.2), plane).astype(np.float32)
    assert 0.03 < (add(plane, what=MIXED) - plane)[DISC].std() < 0.15


def test_where_all_is_equally_rough_tumours_and_the_rest_get_the_same():
    plane = np.where(DISC, 0.2 + 0.001 * noisy(1, 5, 0), noisy(0.05)).astype(np.float32)
    tumour, rest = ((add(plane, what=what) - plane)[DISC].std() for what in (MIXED, TUMOUR_FREE))
    assert tumour == pytest.approx(rest, rel=0.05)


def test_where_the_surroundings_are_painted_the_whole_brain_gives_grain():
    left, around = DISC & (COLUMNS < 34), ndimage.binary_dilation(DISC, iterations=12)
    plane = np.where(around, noisy(0.001), noisy(0.1)).astype(np.float32)
    pieces = left | (around & ~ndimage.binary_dilation(left, iterations=2))
    changed = (add(plane, pieces) - plane)[left]
    assert changed.std() > 0.03


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
    ours = strength(folded, EVERYWHERE, CALM) / strength(plane, EVERYWHERE, CALM)
    mean = np.abs(ndimage.laplace(folded)).mean() / np.abs(ndimage.laplace(plane)).mean()
    assert ours < 1.5 < 2 < mean


def test_tumours_are_as_rough_as_calm_tissue_and_the_rest_as_usual_tissue():
    calm = ROWS < 30  # less than half of what is around
    plane = np.where(calm, noisy(0.02), noisy(0.06, 3)).astype(np.float32)
    plane = np.where(DISC, 0.2 + 0.001 * noisy(1, 5, 0), plane).astype(np.float32)
    inner = ndimage.binary_erosion(DISC, iterations=2)
    tumour, rest = (strength(add(plane, what=what), inner) for what in (MIXED, TUMOUR_FREE))
    low, high = (strength(noisy(rough), EVERYWHERE) for rough in (0.02, 0.06))
    assert tumour == pytest.approx(low, rel=0.5)
    assert rest == pytest.approx(high, rel=0.3)


def test_a_box_has_both():
    tumour = DISC & (COLUMNS < 30)
    calm = ROWS < 30
    plane = np.where(calm, noisy(0.01), noisy(0.1, 3)).astype(np.float32)
    plane = np.where(DISC, 0.2 + 0.001 * noisy(1, 5, 0), plane).astype(np.float32)
    fill_map = np.where(tumour, MIXED, np.where(DISC, TUMOUR_FREE, KEEP)).astype(np.int8)
    added = grained(plane, fill_map, 60.0, np.random.default_rng(0)) - plane
    assert added[DISC & ~tumour].std() > 3 * added[tumour].std() > 0
