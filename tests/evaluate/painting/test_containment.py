"""Boxes, components and Dice: against loops over pixels; 0 of 0 is nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.containment import (
    box_containment,
    component_dice,
    component_shares,
)

SHAPES = st.one_of(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
)
quick = settings(max_examples=30, derandomize=True, database=None, deadline=None)


@st.composite
def maps(draw):
    shape = draw(SHAPES)
    labels = arrays.arrays(np.int8, shape, elements=st.integers(-1, 4))
    return draw(labels), draw(labels), draw(arrays.arrays(np.bool_, shape))


@quick
@given(maps())
def test_everything_matches_loops(drawn):
    asked, found, region = drawn
    pairs = list(zip(asked.flat, found.flat, region.flat, strict=True))
    in_box = [bool(inside) for number, _, inside in pairs if number > 0]
    expected = sum(in_box) / len(in_box) if in_box else math.nan
    assert box_containment(asked > 0, region) == pytest.approx(expected, nan_ok=True)
    dice = component_dice(asked, found, region, range(1, 5))
    for component in range(1, 5):
        seen = [other for number, other, _ in pairs if number == component]
        shares = component_shares(asked, found, component)
        assert shares.pixels == len(seen)
        if seen:
            assert shares.as_asked == pytest.approx(seen.count(component) / len(seen))
            assert shares.as_none == pytest.approx(sum(n <= 0 for n in seen) / len(seen))
            assert shares.as_asked + shares.as_another + shares.as_none == pytest.approx(1)
        else:
            assert math.isnan(shares.as_asked)
        both = sum(a == b == component for a, b, inside in pairs if inside)
        size = sum([a, b].count(component) for a, b, inside in pairs if inside)
        expected = 2 * both / size if size else math.nan
        assert dice[component] == pytest.approx(expected, nan_ok=True)


def test_a_mixture_is_right_wherever_there_is_tumour():
    asked, found = np.array([[4, 4, 4, 4, 1]]), np.array([[1, 2, 0, 4, 1]])
    assert component_shares(asked, found, 4).as_another == 0.5
    mixed = component_shares(asked, found, 4, also_right=(1, 2, 3))
    assert (mixed.as_asked, mixed.as_another, mixed.as_none) == (0.75, 0, 0.25)


def test_tumour_outside_the_region_does_not_count():
    asked, found = np.array([[1, 0, -1]]), np.array([[1, 0, 1]])
    assert component_dice(asked, found, np.array([[True, True, False]]), [1]) == {1: 1.0}
    assert component_dice(asked, found, np.ones((1, 3), bool), [1])[1] == pytest.approx(2 / 3)


def test_shapes_and_kinds_that_do_not_fit():
    labels, mask = np.zeros((2, 3), np.int8), np.zeros((2, 3), bool)
    with pytest.raises(DataError, match=r"one shape, got \(2, 3\), \(2, 2\)"):
        component_shares(labels, labels[:, :2], 1)
    with pytest.raises(DataError, match=r"box containment: expected a region of truth values"):
        box_containment(labels, mask)
    with pytest.raises(DataError, match=r"component Dice: .* one shape"):
        component_dice(labels, labels, mask[:1], [1])
