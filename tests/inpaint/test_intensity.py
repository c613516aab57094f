"""Intensities: robust, linear, and undone to the very values that were stored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyclinic.errors import DataError
from polyclinic.inpaint.intensity import scaling_of


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(data=st.data())
def test_scaling_is_undone(dtype, data):
    limits = np.iinfo(dtype)
    stored = data.draw(arrays(dtype, (4, 5), elements=st.integers(limits.min, limits.max)))
    if not stored.any():
        return
    scaling = scaling_of(stored, "a")
    # float32 has 24 bits: more than a step of 16 unless the percentiles lie close together
    if abs(stored.astype(float)).max() < 1e4 * (scaling.high - scaling.low):
        np.testing.assert_array_equal(scaling.undo(scaling.apply(stored), stored.dtype), stored)


@pytest.mark.parametrize("shift", [100, -20], ids=["from air up", "standardised"])
def test_the_ends_are_the_same_whatever_the_scanner(shift):
    rng = np.random.default_rng(0)
    tissue = rng.normal(shift, 20, 10_000)
    one, other = scaling_of(tissue, "a"), scaling_of(tissue * 37.0, "b")
    np.testing.assert_allclose(one.apply(tissue), other.apply(tissue * 37.0), atol=1e-5)
    scaled = one.apply(tissue)
    assert (scaled > 1).mean() == pytest.approx(0.005, abs=1e-3)
    if shift > 0:
        assert one.apply(np.zeros(1))[0] == -1
    else:
        assert (scaled < -1).mean() == pytest.approx(0.005, abs=1e-3)


def test_air_does_not_count():
    head = np.array([0] * 1000 + [10, 20, 30, 40])
    assert scaling_of(head, "a") == scaling_of(head[head != 0], "a")


@pytest.mark.parametrize("values", [[0, 5, 5], [5, 5, 5], [-5, 0, -5]])
def test_one_tissue_alone(values):
    assert np.isfinite(scaling_of(np.array(values), "a").apply(np.array(values))).all()


def test_out_of_range_values_are_clipped_to_the_type():
    scaling = scaling_of(np.array([10, 250], np.uint8), "a")
    back = scaling.undo(np.array([-3.0, 3.0], np.float32), np.dtype(np.uint8))
    assert back.tolist() == [0, 255]


def test_what_cannot_be_scaled():
    with pytest.raises(DataError, match=r"^a: all values are 0"):
        scaling_of(np.zeros((2, 2)), "a")
    with pytest.raises(DataError, match=r"^a: values that are NaN or infinite"):
        scaling_of(np.array([1.0, np.nan]), "a")
