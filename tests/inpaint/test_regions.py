"""Fill regions for training: what they ask for is what is there, and they stay where they may."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from polyclinic.inpaint.components import (
    CORE,
    ENHANCING,
    KEEP,
    MIXED,
    OEDEMA,
    TUMOUR_FREE,
)
from polyclinic.inpaint.regions import (
    Mixture,
    box_around,
    brush,
    deform,
    draw_region,
    empty,
    healthy_shape,
    overlay,
    ring,
    stamp,
    warp,
)

QUICK = settings(max_examples=60, derandomize=True, database=None, deadline=None)


def crop(seed, tumour=True, side=32):
    """Components and head of a made-up crop, and outlines to draw from."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    head = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (0.45 * side) ** 2
    components = np.zeros((side, side), np.uint8)
    if tumour:
        distance = np.hypot(rows - rng.uniform(10, 20), columns - rng.uniform(10, 20))
        components[distance < 7] = OEDEMA
        components[distance < 4] = ENHANCING
        components[distance < 2] = CORE
    shapes = [np.ones((4, 6), bool), np.eye(5, dtype=bool)]
    return components, head, shapes


@QUICK
@given(seed=st.integers(0, 10_000), tumour=st.booleans())
def test_exact_regions_ask_for_what_is_there(seed, tumour):
    components, head, shapes = crop(seed, tumour)
    region = draw_region(components, head, shapes, np.random.default_rng(seed), Mixture(boxed=0))
    assert (region.fill_map != KEEP).any()
    assert not region.boxed.any()
    painted = region.fill_map > TUMOUR_FREE
    as_mixture = region.fill_map[painted] == MIXED
    assert ((region.fill_map[painted] == components[painted]) | as_mixture).all()
    assert (components[painted] > 0).all()
    assert (components[region.fill_map == TUMOUR_FREE] == 0).all()


@QUICK
@given(seed=st.integers(0, 10_000))
def test_boxes_hold_the_whole_part_and_no_other_part(seed):
    components, head, shapes = crop(seed)
    mixture = Mixture(on_tumour=1, boxed=1, as_mixture=0, also_healthy=0)
    region = draw_region(components, head, shapes, np.random.default_rng(seed), mixture)
    assert region.boxed.any()
    for asked in np.unique(region.fill_map[region.boxed]):
        box = region.fill_map == asked
        if asked == MIXED:  # of a part that others lie in or around
            assert box[components > 0].all()
            continue
        assert set(np.unique(components[box])) <= {0, asked}
        assert box[components == asked].all()


def test_a_part_alone_gets_a_box_without_holes():
    components, head, shapes = crop(1)
    components[components > 0] = CORE
    mixture = Mixture(on_tumour=1, boxed=1, as_mixture=0, also_healthy=0, ringed=0)
    sizes = set()
    for seed in range(20):
        region = draw_region(components, head, shapes, np.random.default_rng(seed), mixture)
        box = region.fill_map == CORE
        assert np.array_equal(box, box_around(box))
        assert box[components > 0].all()
        sizes.add(int(box.sum()))
    assert min(sizes) < 1.5 * box_around(components > 0).sum() < max(sizes)


@QUICK
@given(seed=st.integers(0, 10_000), width=st.integers(1, 4))
def test_a_ring_is_tumour_free_and_as_wide_as_it_says(seed, width):
    components, _, _ = crop(seed)
    tumour = components > 0
    painted = overlay(empty(tumour.shape), tumour, MIXED)
    around = ring(painted, tumour, width).fill_map == TUMOUR_FREE
    distance = ndimage.distance_transform_cdt(~tumour, metric="taxicab")
    assert np.array_equal(around, (distance > 0) & (distance <= width))


@QUICK
@given(seed=st.integers(0, 10_000))
def test_a_box_around_a_mixture_holds_the_whole_tumour(seed):
    components, head, shapes = crop(seed)
    mixture = Mixture(on_tumour=1, boxed=1, as_mixture=1, also_healthy=0)
    region = draw_region(components, head, shapes, np.random.default_rng(seed), mixture)
    assert set(np.unique(region.fill_map)) <= {KEEP, TUMOUR_FREE, MIXED}
    assert region.boxed[components > 0].all()


@QUICK
@given(seed=st.integers(0, 10_000))
def test_tumour_free_regions_keep_to_the_free_part_of_the_head(seed):
    components, head, shapes = crop(seed)
    free = head & (components == 0)
    drawn = healthy_shape(free, shapes, np.random.default_rng(seed), Mixture())
    assert drawn.shape == free.shape
    assert not (drawn & ~free).any()


def test_a_crop_of_air_still_gets_a_region():
    nothing = np.zeros((16, 16))
    region = draw_region(
        nothing.astype(np.uint8), nothing > 0, [], np.random.default_rng(0), Mixture()
    )
    assert (region.fill_map == TUMOUR_FREE).any()


def test_the_same_seed_draws_the_same():
    components, head, shapes = crop(3)
    one, other = (
        draw_region(components, head, shapes, np.random.default_rng(5), Mixture()) for _ in "ab"
    )
    assert np.array_equal(one.fill_map, other.fill_map)
    assert np.array_equal(one.boxed, other.boxed)


def test_later_regions_win():
    first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    first[:2], second[1:3] = True, True
    region = overlay(overlay(empty((4, 4)), first, CORE), second, OEDEMA, boxed=True)
    assert region.fill_map[:, 0].tolist() == [CORE, OEDEMA, OEDEMA, KEEP]
    assert region.boxed[:, 0].tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("margins", "expected"),
    [((0, 0, 0, 0), 6), ((1, 1, 1, 1), 20), ((9, 9, 9, 9), 30), ((0, 1, 0, 1), 12)],
)
def test_boxes(margins, expected):
    mask = np.zeros((5, 6), bool)
    mask[1, 2], mask[2, 4] = True, True
    box = box_around(mask, margins)
    assert box[mask].all()
    assert box.sum() == min(expected, box.size)


@QUICK
@given(row=st.integers(-3, 8), column=st.integers(-3, 8))
def test_a_stamp_is_cut_at_the_edge(row, column):
    outline = np.array([[1, 1, 0], [0, 1, 1]], bool)
    placed = stamp((6, 6), outline, np.array([row, column]))
    expected = np.zeros((6, 6), bool)
    for r in range(2):
        for c in range(3):
            at = (r - 1 + row, c - 1 + column)
            if outline[r, c] and all(0 <= x < 6 for x in at):
                expected[at] = True
    assert np.array_equal(placed, expected)


@QUICK
@given(seed=st.integers(0, 10_000))
def test_a_deformed_outline_is_cut_out_and_of_like_size(seed):
    outline = np.hypot(*(np.mgrid[:15, :21] - np.array([[[7]], [[10]]]))) < 7
    bent = deform(outline, np.random.default_rng(seed))
    assert bent.any(0)[[0, -1]].all()
    assert bent.any(1)[[0, -1]].all()
    assert 0.15 < bent.sum() / outline.sum() < 5


def test_a_brush_starts_where_it_is_put():
    stroke = brush((40, 40), np.array([20, 11]), np.random.default_rng(1))
    assert stroke[20, 11]
    assert 0 < stroke.mean() < 0.5


@pytest.mark.parametrize("shape", [(40, 40), (1, 7), (13, 96), (3, 2)])
def test_a_warp_turns_stretches_and_bends(shape):
    source, extent, zoom = (20, 30), 25, 1.5
    found = warp(shape, source, extent, np.random.default_rng(3), zoom)
    rng = np.random.default_rng(3)
    angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.2, 2))
    stretch = stretch * rng.choice([-1, 1], 2) / zoom
    bends = [
        ndimage.zoom(coarse, np.array(shape) / 4, order=1, mode="nearest")
        for coarse in rng.normal(0, 1, (2, 4, 4))
    ]
    for number, (row, column) in enumerate(np.ndindex(*shape)):
        y, x = (row - (shape[0] - 1) / 2) * stretch[0], (column - (shape[1] - 1) / 2) * stretch[1]
        turned = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
        for axis in (0, 1):
            bend = 0.08 * extent * bends[axis][row, column]
            expected = turned[axis] + (source[axis] - 1) / 2 + bend
            assert found[axis, number] == pytest.approx(expected, abs=1e-9)
