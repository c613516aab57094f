"""Volumes of every orientation: one order of axes, and back."""

import itertools
import struct
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest

from polyclinic.data import nifti
from polyclinic.data.nifti import (
    axial,
    axial_depth,
    from_axial,
    read_volume,
    room,
    values_of,
)
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


@pytest.mark.parametrize(
    "shape", [(10, 10, 2_000_000_000), (1, 1, 2**27), (30_000,) * 3, (0, 4, 4), (4, 4), (2,) * 5]
)
def test_slices_that_a_header_merely_claims_are_not_counted(tmp_path, claim_volume, shape):
    path = claim_volume(tmp_path / "v.nii", shape)
    for read in (axial_depth, read_volume):
        with pytest.raises(DataError, match=r"^v: shape \(.*of at most 134217728 voxels, 32767 al"):
            read(path, "v")


def test_the_depth_of_volumes_in_one_file(tmp_path):
    assert axial_depth(saved(tmp_path / "v.nii", np.zeros((2, 3, 4, 5), np.int16)), "v") == 4
    assert axial_depth(saved(tmp_path / "v.nii", np.zeros((2, 3, 4, 1, 1), np.int16)), "v") == 4


def saved(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def test_headers_that_no_volume_has(tmp_path, capfd):
    path = saved(tmp_path / "v.nii", np.zeros((2, 3, 4), np.int16))
    whole = bytearray(path.read_bytes())
    for place, code, values, message in (
        (280, "<f", (float("nan"),), r"its affine is not finite"),
        (70, "<hh", (1792, 128), r"voxels of type complex128; expected numbers of up to 64 bits"),
        (70, "<hh", (1536, 128), r"voxels of type .*up to 64 bits|not a readable"),
        (40, "<4h", (3, 32767, 32767, 32767), r"shape \(32767, 32767, 32767\)"),
        (344, "<4s", (b"no..",), r"not a readable NIfTI file"),
    ):
        damaged = bytearray(whole)
        struct.pack_into(code, damaged, place, *values)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            read_volume(path, "v")
    assert capfd.readouterr() == ("", "")


def test_no_other_format_that_nibabel_knows(tmp_path):
    nibabel.save(nibabel.MGHImage(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "v.mgz")
    (tmp_path / "v.mgz").rename(tmp_path / "v.nii.gz")
    with pytest.raises(
        DataError, match=r"^v: not a readable NIfTI file \(no header of NIfTI in it"
    ):
        read_volume(tmp_path / "v.nii.gz", "v")
    with pytest.raises(DataError, match=r"^v: not a readable NIfTI file \(no such file\)"):
        read_volume(tmp_path / "gone.nii", "v")


@pytest.mark.parametrize("values", [[0, 2, 4], [0.0, 1.0], [0, 1.5], [-1, 3], [0, 255], [0, 256]])
def test_the_values_of_a_volume(values):
    volume = np.array(values * 8).reshape(2, 2, -1)
    np.testing.assert_array_equal(values_of(volume), np.unique(volume))


def test_threads_wait_for_room(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "ROOM", 30)
    path = saved(tmp_path / "v.nii", np.zeros((2, 3, 4), np.int16))
    most = []

    def work(_):
        with room(path):
            most.append(sum(nifti._in_work))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(20)))
    assert set(most) == {24}
    assert nifti._in_work == []
