"""Cases with new and old names; sequences of one geometry."""

import nibabel
import numpy as np
import pytest

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.files import FORMATS, read_source


@pytest.fixture
def volume(make_numbers):
    return make_numbers((3, 4, 5), np.int16)


@pytest.mark.parametrize("names", [("t1n", "t1c", "t2w", "t2f"), ("t1", "t1ce", "t2", "flair")])
def test_all_sequences_are_read_and_written_under_their_names(
    tmp_path, write_nifti, volume, record, names
):
    case, out = tmp_path / "c", tmp_path / "out"
    case.mkdir()
    out.mkdir()
    for number, name in enumerate((*names, "seg")):
        write_nifti(case / f"c_{name}.nii.gz", volume + number)
    source = read_source(case)
    assert (source.format, list(source.volumes)) == ("brats", [0, 1, 2, 3])
    FORMATS["brats"].write(source, dict(source.volumes), out, record)
    assert sorted(p.name for p in out.iterdir()) == sorted(f"c_{n}.nii.gz" for n in names)
    for number, name in enumerate(names):
        written = nibabel.load(out / f"c_{name}.nii.gz")
        assert np.array_equal(np.asarray(written.dataobj), volume + number)


def test_sequences_of_another_geometry_are_refused(tmp_path, write_nifti, volume):
    write_nifti(tmp_path / "c-t1n.nii", volume)
    write_nifti(tmp_path / "c-t2f.nii", volume, np.diag([2.0, 1, 1, 1]))
    with pytest.raises(DataError, match=r"c-t2f\.nii: shape .* in the same geometry"):
        read_source(tmp_path)


def test_a_sequence_that_is_there_twice_is_refused(tmp_path, write_nifti, volume):
    write_nifti(tmp_path / "c-t1.nii", volume)
    write_nifti(tmp_path / "c-t1n.nii", volume)
    with pytest.raises(DataError, match=r"c-t1\.nii and c-t1n\.nii are both t1n; expected one"):
        read_source(tmp_path)


def test_the_sequence_is_not_to_be_named(tmp_path, write_nifti, volume):
    write_nifti(tmp_path / "c-t1.nii", volume)
    with pytest.raises(ConfigError, match=r"leave out --sequence"):
        read_source(tmp_path, "t1n")
