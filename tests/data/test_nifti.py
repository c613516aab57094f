"""Volumes of every orientation: one order of axes, and back."""

import itertools

import nibabel
import numpy as np
import pytest

from polyclinic.data.nifti import axial, axial_depth, from_axial, read_volume
from polyclinic.errors import DataError

ORIENTATIONS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def affine_of(axes, signs):
    affine = np.zeros((4, 4))
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, column] = sign * (axis + 1.5)
    affine[3, 3] = 1
    return affine


def test_every_orientation_gives_the_same_slices_and_the_way_back(tmp_path):
    upright = np.random.default_rng(0).integers(0, 999, (3, 4, 5)).astype(np.int16)
    slices = axial(upright)
    assert slices.shape == (5, 4, 3)
    assert slices[1, 0, 0] == upright[2, 3, 1]  # anterior at the top, the right on the left
    for axes, signs in ORIENTATIONS:
        # index `i` of the stored axis runs along axis `axes[i]`, forwards or backwards
        stored = np.transpose(upright, axes)[tuple(slice(None, None, sign) for sign in signs)]
        affine = affine_of(axes, signs)
        path = tmp_path / "v.nii"
        nibabel.save(nibabel.Nifti1Image(stored, affine), path)
        assert np.array_equal(axial(read_volume(path, "v")), slices), (axes, signs)
        assert np.array_equal(from_axial(slices, affine), stored), (axes, signs)
        assert axial_depth(path, "v") == 5


def test_a_header_that_cannot_be_read(tmp_path):
    (tmp_path / "v.nii").write_bytes(b"no")
    with pytest.raises(DataError, match=r"^v: not a readable NIfTI file \("):
        axial_depth(tmp_path / "v.nii", "v")
