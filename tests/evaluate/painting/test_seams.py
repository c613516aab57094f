"""Steps across borders: against loops over pairs of neighbours, and with planted seams."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.seams import (
    border_patches,
    border_step,
    displaced,
    seam_ratio,
)


def slow_step(image, region):
    if image.ndim == 2:
        image, region = image[None], region[None]
    steps = []
    for z, row, column in np.ndindex(image.shape):
        for down, right in ((1, 0), (0, 1)):
            if row + down < image.shape[1] and column + right < image.shape[2]:
                here, there = (z, row, column), (z, row + down, column + right)
                if region[here] != region[there]:
                    steps.append(abs(float(image[here]) - float(image[there])))
    return sum(steps) / len(steps) if steps else math.nan


@settings(max_examples=25, derandomize=True, database=None, deadline=None)
@given(
    st.one_of(
        st.tuples(st.integers(1, 8), st.integers(1, 8)),
        st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    ),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_steps_match_loops_over_neighbours(shape, share, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, shape).astype(np.uint8)
    region = rng.random(shape) < share
    assert border_step(image, region) == pytest.approx(slow_step(image, region), nan_ok=True)


def head(seed=0):
    """Smooth tissue (40, 40), a square region in it, and where copies of it may lie."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.05, (40, 40)).cumsum(0).cumsum(1) / 10
    region = np.zeros((40, 40), bool)
    region[5:13, 6:15] = True
    allowed = np.ones((40, 40), bool)
    allowed[4:14, 5:16] = False
    return image, region, allowed


def test_a_seam_is_seen():
    image, region, _ = head()
    seam = image + 0.5 * region
    assert seam_ratio(image, image, region) == pytest.approx(1)
    assert seam_ratio(seam, image, region) > 5
    expected = slow_step(seam, region) / slow_step(image, region)
    assert seam_ratio(seam, image, region) == pytest.approx(expected)


def test_ratios_that_are_undefined():
    image, region, _ = head()
    assert math.isnan(seam_ratio(image, np.zeros_like(image), region))
    assert math.isnan(seam_ratio(image, image, np.ones_like(region)))


def slow_places(region, allowed):
    """All shifts that keep the region, and a ring of 1 px around it, in what is allowed."""
    pixels = np.argwhere(region)
    ring = {(r + i, c + j) for r, c in pixels for i in (-1, 0, 1) for j in (-1, 0, 1)}
    H, W = region.shape
    found = []
    for down in range(-H, H + 1):
        for right in range(-W, W + 1):
            moved = [(r + down, c + right) for r, c in ring]
            if all(0 <= r < H and 0 <= c < W and allowed[r, c] for r, c in moved):
                found.append((down, right))
    return found


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(st.integers(0, 999))
def test_copies_lie_wherever_they_fit_and_nowhere_else(seed):
    rng = np.random.default_rng(seed)
    region = np.zeros((9, 11), bool)
    region[2:4, 3:6] = rng.random((2, 3)) < 0.7
    region[2, 3] = True
    allowed = rng.random((9, 11)) < 0.9
    copies = displaced(region, allowed, 1000, seed)
    expected = {np.roll(region, shift, (0, 1)).tobytes() for shift in slow_places(region, allowed)}
    assert {copy.tobytes() for copy in copies} == expected
    assert len(copies) == len(expected)


def test_copies_are_drawn_and_the_draw_can_be_repeated():
    _, region, allowed = head()
    copies = displaced(region, allowed, 7, seed=1)
    assert copies.shape == (7, 40, 40)
    assert not (copies & ~allowed).any()
    np.testing.assert_array_equal(copies, displaced(region, allowed, 7, seed=1))
    assert (copies != displaced(region, allowed, 7, seed=2)).any()


def test_no_room_gives_no_copies():
    _, region, allowed = head()
    assert displaced(region, allowed & False, 5, 0).shape == (0, 40, 40)
    assert displaced(region & False, allowed, 5, 0).shape == (0, 40, 40)
    assert displaced(np.ones((6, 6), bool), np.ones((6, 6), bool), 5, 0).shape == (0, 6, 6)


def test_patches_are_centred_on_the_regions_rim():
    image, region, _ = head()
    patches, insides = border_patches(image, region, 5, 1000, seed=0)
    rim = {
        (r, c)
        for r, c in np.argwhere(region)
        if not all(region[r + i, c + j] for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    }
    assert len(patches) == len(rim) == 2 * (8 + 9) - 4
    found = {patch.tobytes() for patch in patches}
    assert found == {image[r - 2 : r + 3, c - 2 : c + 3].tobytes() for r, c in rim}
    assert insides[:, 2, 2].all()
    assert not insides.all(axis=(1, 2)).any()
    assert len(border_patches(image, region, 5, 10, seed=0)[0]) == 10


def test_patches_stay_in_the_image_and_its_edge_is_no_border():
    region = np.zeros((9, 9), bool)
    region[:, :4] = True
    patches, insides = border_patches(np.zeros((9, 9)), region, 3, 100, seed=0)
    assert len(patches) == 7  # rows 1 to 7 of column 3
    assert (insides == [True, True, False]).all()
    assert border_patches(np.zeros((9, 9)), region, 11, 100, seed=0)[0].shape == (0, 11, 11)


def test_shapes_that_do_not_fit():
    image, region, _ = head()
    with pytest.raises(DataError, match=r"border step: expected images and a region of one shape"):
        border_step(image[1:], region)
    with pytest.raises(DataError, match=r"displaced: .* one shape \(H, W\), got \(1, 40, 40\)"):
        displaced(region[None], region[None], 3, 0)
    with pytest.raises(DataError, match=r"seam ratio: .* finite"):
        seam_ratio(image, np.full_like(image, np.inf), region)
