"""Grids turn there and back; stored values survive their meaning."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.data.nifti import axial, read_volume
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.files.source import Grid, Storage, from_arrays, sequence_number

AXES = st.permutations([0, 1, 2])
SIGNS = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)


@settings(max_examples=30, derandomize=True, database=None, deadline=None)
@given(axes=AXES, signs=SIGNS, tilt=st.sampled_from([0.0, 0.2]))
def test_any_orientation_turns_there_and_back(axes, signs, tilt):
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, axes] + tilt * np.eye(3)[[1, 2, 0]]
    grid = Grid((2, 3, 4), affine)
    stored = np.arange(24).reshape(grid.shape)
    slices = grid.to_axial(stored)
    assert np.array_equal(grid.from_axial(slices), stored)
    turns = nibabel.orientations.io_orientation(affine)
    upright = nibabel.orientations.apply_orientation(stored, turns)
    assert np.array_equal(slices, axial(upright))


def test_slices_are_those_that_training_sees(tmp_path, write_nifti):
    affine = np.array([[0, 0, -2.0, 0], [3, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = write_nifti(tmp_path / "a.nii", volume, affine)
    expected = axial(read_volume(path, "a"))
    assert np.array_equal(Grid((2, 3, 4), affine).to_axial(volume), expected)


@pytest.mark.parametrize("dtype", ["u1", "i1", ">u2", "i2", "u4", "i8", "u8", "f4"])
def test_values_are_clipped_to_what_the_type_holds(dtype):
    storage = Storage("a", slope=-0.5, intercept=3)
    stored = storage.stored(np.array([-1e30, 3.0, 1e30]), np.dtype(dtype))
    assert stored.dtype == np.dtype(dtype)
    assert stored[1] == 0
    if stored.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        assert stored[0] >= limits.max - 2**11
        assert stored[2] == limits.min


def test_real_and_stored_are_inverse():
    storage = Storage("a", slope=-0.25, intercept=7, lowest=0, highest=4095)
    stored = np.arange(4096, dtype=np.uint16)
    assert np.array_equal(storage.stored(storage.real(stored), stored.dtype), stored)


def test_arrays_are_a_source_too():
    source = from_arrays({"flair": np.ones((4, 5)), "unknown": np.ones((1, 4, 5))})
    assert (sorted(source.volumes), source.shape) == ([3, 4], (1, 4, 5))


def test_arrays_of_other_shapes_and_unknown_sequences_are_refused():
    with pytest.raises(DataError, match=r"arrays: expected axial slices \(Z, H, W\) of one shape"):
        from_arrays({"t1n": np.ones((4, 5)), "t2w": np.ones((5, 4))})
    with pytest.raises(ConfigError, match=r"no sequence 'flare'.*did you mean `flair`"):
        sequence_number("flare")
    with pytest.raises(ConfigError, match=r"'dwi': expected one of t1n, t1c, t2w, t2f, unknown"):
        sequence_number("dwi")
    assert sequence_number(" Unknown") == 4
