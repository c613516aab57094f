"""Volumes stay whole, and their masks lie where the images lay."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from polyclinic.data.dataset import Item, Scan
from polyclinic.data.nifti import axial, read_volume
from polyclinic.errors import DataError
from polyclinic.run.prediction_inputs import Inputs, find_inputs
from polyclinic.run.prediction_masks import write_volume
from polyclinic.run.prediction_rows import mask_name, restored


def case(folder: Path, name: str) -> Path:
    """A BraTS-like case of 12 x 10 x 4 voxels, stored from left to right and head to foot."""
    (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    affine = np.diag([-1.0, 1, -3, 1])
    for kind in ("t1n", "t1c", "t2f", "seg"):
        high = 3 if kind == "seg" else 200
        voxels = rng.integers(0, high, (12, 10, 4)).astype(np.uint8)
        path = folder / name / f"{name}-{kind}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return folder / name


def test_the_slices_of_a_volume_are_one_group(tmp_path):
    for name in ("A", "B"):
        case(tmp_path, name)
    inputs = find_inputs(tmp_path)
    groups = [[item.key for item in group] for group in inputs.groups(3)]
    assert groups == [[f"{name}#{z}" for z in range(4)] for name in ("A", "B")]
    assert mask_name(inputs, inputs.items[0]) == "masks/A.nii.gz"
    assert inputs.patients["A#0"] == "A"


def test_a_volume_of_masks_has_the_geometry_of_the_input(tmp_path):
    reference = next(case(tmp_path, "A").glob("*t1n*"))
    slices = {z: np.full((10, 12), z, np.uint8) for z in (1, 3)}
    slices[3][0, :] = 7
    out = tmp_path / "out" / "A.nii.gz"
    write_volume(slices, reference, out)
    mine, theirs = nibabel.load(out), nibabel.load(reference)
    assert (mine.affine == theirs.affine).all()
    assert mine.shape == theirs.shape
    back = axial(read_volume(out, "A"))
    assert (back[0] == 0).all()
    assert (back[1] == 1).all()
    assert (back[3] == slices[3]).all()
    content = out.read_bytes()
    write_volume(slices, reference, out)
    assert out.read_bytes() == content


def test_a_reference_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.nii\.gz: its geometry cannot be used"):
        write_volume({}, tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")


def test_images_on_their_own_come_in_runs_of_the_batch(tmp_path):
    items = tuple(Item(f"{n}.png", f"{n}") for n in range(5))
    inputs = Inputs(Scan(tmp_path, "corpus", "single-label", (), items, lambda _: None))
    assert [len(group) for group in inputs.groups(2)] == [2, 2, 1]


@pytest.mark.parametrize("size", [(20, 12), (16, 16), (48, 96), (5, 31)])
def test_a_label_map_is_cut_out_of_its_padding(size):
    from polyclinic.data.resize import fit_labels, pad

    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 2] = 2
    square = pad(fit_labels(labels, 32), 32, 9)
    back = restored(square, size)
    assert back.shape == size
    assert 9 not in back
    assert (back == labels).mean() > 0.9
