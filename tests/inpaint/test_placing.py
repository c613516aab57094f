"""Placing: a new tumour lies in the head, about where the real one lay, clear of others."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.components import CORE, ENHANCING, OEDEMA
from polyclinic.inpaint.placing import (
    CLEARANCE,
    MARGIN,
    MIN_PIXELS,
    REACH,
    SCATTER,
    deform_parts,
    fitting_corners,
    frame_of,
    place_shape,
    shape_of,
)

SIDE = 64


def head_case(key="a", *, tumour=None, side=SIDE, slices=9, radius=0.45, shift=(0, 0)):
    """A round head in the middle slices, with a disc of oedema at (slice, row, column, radius)."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    disc = np.hypot(rows - shift[0], columns - shift[1]) < radius * side
    head = np.zeros((slices, side, side), bool)
    head[1:-1] = disc
    components = np.zeros(head.shape, np.uint8)
    if tumour is not None:
        z, row, column, size = tumour
        components[z - 1 : z + 2] = OEDEMA * (
            np.hypot(*np.mgrid[:side, :side] - np.array([[[row]], [[column]]])) < size
        )
    return Case(key, {}, components, head, {}, 2 * radius * side)


def middle(corner, parts):
    return np.array(corner) + np.array(parts.shape) / 2


def placed(target, shape, count=40, **options):
    rng = np.random.default_rng(0)
    options = {"removes": False, "anywhere": False} | options
    found = [place_shape(target, shape, rng, **options) for _ in range(count)]
    return [place for place in found if place is not None]


def put(place, target):
    (z, row, column), parts = place
    volume = np.zeros(target.components.shape, bool)
    n, h, w = parts.shape
    volume[z : z + n, row : row + h, column : column + w] = parts > 0
    return volume


def test_a_frame_is_the_box_around_a_head():
    head = np.zeros((5, 10, 12), bool)
    head[1:4, 2, 3] = True
    head[2, 6, 9] = True
    frame = frame_of(head)
    assert frame.first.tolist() == [1, 2, 3]
    assert frame.extent.tolist() == [3, 5, 7]
    assert frame.middle.tolist() == [2.5, 4.5, 6.5]


def test_a_shape_knows_its_place_in_the_head():
    case = head_case(tumour=(3, 20, 20, 5))
    shape = shape_of(case, [OEDEMA])
    assert shape.parts.shape == (3, 9, 9)
    # slices 2 to 4 of a head in 1 to 7; rows 16 to 24 of one in 3 to 60
    assert shape.place == pytest.approx([(3.5 - 4.5) / 7, (20.5 - 32) / 58, (20.5 - 32) / 58])
    depth = ndimage.distance_transform_edt(case.head[3])[case.components[3] > 0].min()
    assert shape.margin == pytest.approx(depth / case.head_px)
    assert shape_of(case, [CORE]) is None
    assert shape_of(head_case(tumour=(3, 20, 20, 1.2)), [OEDEMA]).parts.sum() >= MIN_PIXELS
    assert shape_of(head_case(tumour=(3, 20, 20, 0.5)), [OEDEMA]) is None


def test_a_tumour_lies_where_the_real_one_lay_or_on_the_other_side():
    shape = shape_of(head_case(tumour=(3, 18, 24, 5)), [OEDEMA])
    # another head: twice the size, moved, with more slices
    target = head_case("b", side=2 * SIDE, slices=16, shift=(4, -6))
    frame = frame_of(target.head)
    places = [(middle(*p) - frame.middle) / frame.extent for p in placed(target, shape, 200)]
    assert len(places) > 180
    assert all(abs(p[1] - shape.place[1]) < 4 * SCATTER + REACH for p in places)
    found = np.mean(places, axis=0)
    assert found[:2] == pytest.approx(shape.place[:2], abs=0.03)
    sides = np.array([p[2] for p in places])
    assert 60 < (sides < 0).sum() < 140
    assert np.abs(sides).mean() == pytest.approx(abs(shape.place[2]), abs=0.03)


@pytest.mark.parametrize("anywhere", [False, True])
def test_a_tumour_keeps_clear_of_the_edge_and_of_others(anywhere):
    shape = shape_of(head_case(tumour=(3, 18, 24, 5)), [OEDEMA])
    target = head_case("b", tumour=(4, 22, 40, 6))
    found = placed(target, shape, 60, anywhere=anywhere)
    assert len(found) > 20
    margin = MARGIN if anywhere else max(MARGIN, shape.margin)
    for place in found:
        added = put(place, target)
        inside = np.stack([ndimage.distance_transform_edt(plane) for plane in target.head])
        assert inside[added].min() > margin * target.head_px
        shown = np.flatnonzero(added.any((1, 2)))
        other = (target.components[shown[0] : shown[-1] + 1] > 0).any(0)
        near = ndimage.binary_dilation(added.any(0), iterations=CLEARANCE)
        assert not (near & other).any()


def test_a_tumour_that_goes_does_not_stand_in_the_way():
    shape = shape_of(head_case(tumour=(4, 32, 32, 8)), [OEDEMA])
    full = head_case("b", tumour=(4, 32, 32, 20))
    assert not placed(full, shape, 20)
    assert len(placed(full, shape, 20, removes=True)) > 15


def test_a_tumour_that_fits_only_elsewhere_is_placed_anywhere_alone():
    shape = shape_of(head_case(tumour=(4, 32, 18, 5)), [OEDEMA])
    target = head_case("b")
    rest = target.head & (np.arange(SIDE)[:, None] > 12)  # all but the front is tumour
    target = dataclasses.replace(target, components=OEDEMA * rest.astype(np.uint8))
    assert not placed(target, shape, 20)
    assert placed(target, shape, 40, anywhere=True)


def test_slices_follow_the_depth_of_the_head():
    shape = shape_of(head_case(tumour=(4, 32, 32, 6)), [OEDEMA])  # 3 slices of 7
    deep = head_case("b", slices=30)  # 28 slices
    assert {len(parts) for _, parts in placed(deep, shape, 10)} == {12}
    flat = head_case("c", slices=3)
    assert {len(parts) for _, parts in placed(flat, shape, 10)} == {1}


@given(
    arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)),
    arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=4)),
)
def test_a_shape_fits_where_no_pixel_of_it_is_taken(free, footprint):
    footprint[0, 0] = footprint[-1, -1] = True  # cut to its pixels, as footprints are
    height, width = footprint.shape
    expected = [
        (row, column)
        for row in range(free.shape[0] - height + 1)
        for column in range(free.shape[1] - width + 1)
        if free[row : row + height, column : column + width][footprint].all()
    ]
    assert list(map(tuple, fitting_corners(free, footprint))) == expected


def test_a_head_that_shows_nothing_has_no_room():
    shape = shape_of(head_case(tumour=(4, 32, 32, 6)), [OEDEMA])
    empty = dataclasses.replace(head_case("b"), head=np.zeros((9, SIDE, SIDE), bool))
    assert not placed(empty, shape, 3)


@pytest.mark.parametrize("seed", range(6))
def test_parts_of_a_tumour_stay_in_contact(seed):
    rows, columns = np.mgrid[:25, :25] - 12
    distance = np.hypot(rows, columns)
    plane = np.select([distance < 4, distance < 8, distance < 12], [CORE, ENHANCING, OEDEMA], 0)
    parts = np.stack([plane, plane]).astype(np.uint8)
    moved = deform_parts(parts, 1.0, np.random.default_rng(seed))
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) == {0, CORE, ENHANCING, OEDEMA}
    assert np.array_equal(moved[0], moved[1])
    tumour = moved[0] > 0
    assert np.array_equal(ndimage.binary_fill_holes(tumour), tumour)
    beside_core = ndimage.binary_dilation(moved[0] == CORE) & (moved[0] != CORE)
    assert set(np.unique(moved[0][beside_core])) <= {ENHANCING}
    assert all(tumour.any(axis)[[0, -1]].all() for axis in (0, 1))
    half = deform_parts(parts, 0.5, np.random.default_rng(seed))
    assert (half > 0).sum() == pytest.approx((moved > 0).sum() / 4, rel=0.15)
