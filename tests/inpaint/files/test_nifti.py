"""NIfTI in every type and orientation: all bytes stay, but for edited voxels and `descrip`."""

import gzip

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic.errors import DataError
from polyclinic.inpaint.files import FORMATS, read_source

DTYPES = ["u1", "i1", "<i2", ">i2", "u2", "i4", "u4", "i8", "u8", "<f4", ">f8"]
TILTED = np.array([[0, 0.1, -2, 5], [3, 0, 0.1, -7], [0.1, -1, 0, 2], [0, 0, 0, 1.0]])


@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    dtype=st.sampled_from(DTYPES),
    affine=st.sampled_from([np.eye(4), TILTED, np.diag([-1.0, -1, 2, 1])]),
    ending=st.sampled_from([".nii", ".nii.gz"]),
    version=st.sampled_from([1, 2]),
)
def test_all_other_bytes_stay(
    tmp_path, write_nifti, make_numbers, record, dtype, affine, ending, version
):
    volume = make_numbers((3, 4, 5), dtype)
    path = write_nifti(tmp_path / f"a{ending}", volume, affine, version=version)
    source = read_source(path)
    edited = next(iter(source.volumes.values())).copy()
    edited[1, 0, 2] = 5
    out = tmp_path / f"out{ending}"
    FORMATS["nifti"].write(source, dict.fromkeys(source.volumes, edited), out, record)
    unpack = gzip.decompress if ending == ".nii.gz" else bytes
    before, after = (np.frombuffer(unpack(p.read_bytes()), np.uint8) for p in (path, out))
    where = np.flatnonzero(before != after)
    descrip = 148 if version == 1 else 240
    in_text = (where >= descrip) & (where < descrip + 80)
    offset = 352 if version == 1 else 544
    marked = np.zeros(source.shape, bool)
    marked[1, 0, 2] = True
    (voxel,) = np.flatnonzero(source.grid.from_axial(marked).ravel(order="F"))
    size = np.dtype(dtype).itemsize
    assert in_text.any()
    assert set((where[~in_text] - offset) // size) == {voxel}
    image = nibabel.load(out)
    assert np.array_equal(image.affine, nibabel.load(path).affine)
    assert bytes(image.header["descrip"]).startswith(b"SYNTHETIC")


def test_scaled_voxels_keep_their_stored_numbers_and_their_scaling(tmp_path, write_nifti, record):
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = write_nifti(tmp_path / "a.nii", volume, slope=0.5, intercept=-3.0)
    source = read_source(path, "t2w")
    assert set(source.volumes) == {2}
    assert (source.storage[2].slope, source.storage[2].intercept) == (0.5, -3.0)
    assert np.array_equal(source.grid.from_axial(source.volumes[2]), volume)
    FORMATS["nifti"].write(source, dict(source.volumes), tmp_path / "b.nii", record)
    again = nibabel.load(tmp_path / "b.nii")
    assert np.array_equal(np.asarray(again.dataobj), np.asarray(nibabel.load(path).dataobj))
    assert (again.dataobj.slope, again.dataobj.inter) == (0.5, -3.0)


def test_the_mask_lies_where_the_volume_lies(tmp_path, write_nifti):
    volume = np.ones((3, 4, 5), np.int16)
    source = read_source(write_nifti(tmp_path / "a.nii", volume, TILTED))
    labels = np.zeros(source.shape, np.uint8)
    labels[1, 0, 2] = 4
    for name in ("m.nii.gz", "n.nii.gz"):
        FORMATS["nifti"].write_mask(source, labels, tmp_path / name)
    mask = nibabel.load(tmp_path / "m.nii.gz")
    assert np.allclose(mask.affine, TILTED, atol=1e-5)
    assert np.array_equal(source.grid.to_axial(np.asarray(mask.dataobj)), labels)
    assert (tmp_path / "m.nii.gz").read_bytes() == (tmp_path / "n.nii.gz").read_bytes()


def test_names_say_the_sequence(tmp_path, write_nifti):
    for name, number in {"x_t1ce.nii": 1, "flair.nii.gz": 3, "brain.nii": 4}.items():
        source = read_source(write_nifti(tmp_path / name, np.ones((2, 2, 2), np.int16)))
        assert list(source.volumes) == [number]


def test_what_is_no_single_volume_is_refused(tmp_path, write_nifti):
    write_nifti(tmp_path / "4d.nii", np.ones((2, 2, 2, 3), np.int16))
    whole = write_nifti(tmp_path / "a.nii", np.ones((9, 9, 9), np.int16)).read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[:600])
    (tmp_path / "flat.nii").write_bytes(whole[:280] + bytes(16) + whole[296:])  # srow_x
    for name, expected in {
        "4d.nii": r"4d\.nii: shape \(2, 2, 2, 3\); expected one volume",
        "flat.nii": r"flat\.nii: its affine says no place in space",
        "cut.nii": r"cut\.nii: not a readable NIfTI file",
    }.items():
        with pytest.raises(DataError, match=expected):
            read_source(tmp_path / name)
