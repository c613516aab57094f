"""Volumes stay whole, and their masks lie where the images lay."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from polyclinic.data.dataset import Item, Scan
from polyclinic.data.nifti import axial, read_volume
from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError
from polyclinic.run.prediction_inputs import find_inputs
from polyclinic.run.prediction_items import Inputs, Whole, left_out_line
from polyclinic.run.prediction_masks import write_volume
from polyclinic.run.prediction_rows import restored


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
    inputs = find_inputs(tmp_path, task="segmentation")
    groups = [[item.key for item in group] for group in inputs.groups(3)]
    assert groups == [[f"{name}#{z}" for z in range(4)] for name in ("A", "B")]
    assert inputs.wholes["A#0"].mask == "A.nii.gz"
    assert inputs.wholes["A#0"].reference.name.startswith("A-t2f")
    assert inputs.patients["A#0"] == "A"


def test_volumes_need_no_labels(tmp_path):
    """The same slices, with and without a segmentation beside them, as the site's reader sees."""
    case(tmp_path, "A")
    labelled = find_inputs(tmp_path, task="segmentation")
    pixels = [labelled.scan.load(item)[0] for item in labelled.items]
    site = scan_site(tmp_path)
    assert [np.array_equal(site.load(i)[0], p) for i, p in zip(site.items, pixels, strict=True)]
    next((tmp_path / "A").glob("*seg*")).unlink()
    inputs = find_inputs(tmp_path, task="segmentation", layout="brats")
    assert [item.key for item in inputs.items] == [item.key for item in labelled.items]
    assert np.array_equal(inputs.scan.load(inputs.items[2])[0], pixels[2])
    alone = find_inputs(tmp_path / "A", task="segmentation", layout="brats")
    assert [item.key for item in alone.items] == [f"A#{z}" for z in range(4)]


def volume(path: Path, shape: tuple[int, ...] = (12, 10, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(1).integers(0, 900, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-2.0, 2, 3, 1])), path)
    return path


def test_a_plain_volume_becomes_slices(tmp_path):
    one = volume(tmp_path / "new" / "a.nii.gz")
    volume(tmp_path / "new" / "a.nii")
    inputs = find_inputs(one, task="segmentation")
    assert [item.key for item in inputs.items] == [f"a.nii.gz#{z}" for z in range(20)]
    assert inputs.scan.load(inputs.items[3])[0].shape == (10, 12)
    fifths = find_inputs(tmp_path / "new", task="single-label")
    expected = [f"{name}#{z}" for name in ("a.nii", "a.nii.gz") for z in (5, 10)]
    assert [item.key for item in fifths.items] == expected
    assert not fifths.wholes
    both = find_inputs(tmp_path / "new", task="segmentation")
    assert len({whole.mask for whole in both.wholes.values()}) == 2


def test_channels_of_a_volume_lie_in_files_or_in_one(tmp_path):
    for number in range(2):
        volume(tmp_path / "new" / "imagesTs" / f"liver_07_{number:04}.nii.gz")
    inputs = find_inputs(tmp_path / "new", task="segmentation", layout="msd")
    assert inputs.items[0].key == "imagesTs/liver_07#0"
    assert inputs.patients["imagesTs/liver_07#0"] == "liver_07"
    image = inputs.scan.load(inputs.items[0])[0]
    assert image.shape == (10, 12, 3)
    assert image[..., 1].any()
    assert not image[..., 2].any()
    volume(tmp_path / "four.nii.gz", (12, 10, 5, 4))
    inputs = find_inputs(tmp_path / "four.nii.gz", task="segmentation")
    assert inputs.scan.load(inputs.items[0])[0].shape == (10, 12, 3)


def test_what_cannot_be_read_is_a_row_and_not_the_end(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    (tmp_path / "b.npz").write_bytes(b"x")
    volume(tmp_path / "c.nii")
    inputs = find_inputs(tmp_path)
    assert [item.key for item in inputs.items][:2] == ["a.nii.gz", "b.npz"]
    for item in inputs.items[:2]:
        with pytest.raises(DataError, match=rf"{item.key}: .*not a readable"):
            inputs.scan.load(item)
    with pytest.raises(DataError, match=r"a\.nii\.gz: not a readable NIfTI file"):
        find_inputs(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("shape", [(10, 10, 2_000_000_000), (1, 1, 2**27), (30_000,) * 3])
def test_a_volume_that_claims_any_size_is_one_row(tmp_path, claim_volume, shape):
    claim_volume(tmp_path / "a.nii", shape)
    volume(tmp_path / "b.nii")
    inputs = find_inputs(tmp_path, task="segmentation")
    assert [item.key for item in inputs.items] == ["a.nii", *(f"b.nii#{z}" for z in range(20))]
    with pytest.raises(DataError, match=r"^a\.nii: shape \("):
        inputs.scan.load(inputs.items[0])


def test_files_without_an_answer_are_named_with_the_reason(tmp_path, write_image):
    folder, elsewhere = tmp_path / "new", tmp_path / "elsewhere.png"
    volume(folder / "a.nii")
    elsewhere.touch()
    (folder / "link.png").symlink_to(elsewhere)
    os.mkfifo(folder / "pipe.png")
    (folder / "two\nlines.png").touch()
    (folder / "notes.txt").touch()
    (folder / "labels.csv").touch()
    np.savez(folder / "no.npz", images=np.zeros((0, 4, 4), np.uint8))
    write_image(folder / "seg.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    (folder / "report.dcm").write_bytes(bytes(128) + b"DICM" + bytes(40))
    (folder / "empty.dcm").touch()
    inputs = find_inputs(folder)
    assert {item.patient for item in inputs.items} == {"a.nii", "empty.dcm"}
    assert inputs.left_out == {
        "link.png": "is a link that leads out of the site's folder; refused",
        "no.npz": "holds no image",
        "notes.txt": "not an image",
        "pipe.png": "is a pipe or a device; not opened",
        "report.dcm": "DICOM without an image (no modality)",
        "seg.dcm": "a DICOM Segmentation, not an image",
        r"two\x0alines.png": "the file's name holds control characters",
    }
    assert left_out_line(inputs.left_out) == (
        "7 files left out: link.png (is a link that leads out of the site's folder; refused), "
        "no.npz (holds no image), notes.txt (not an image), and 4 more"
    )
    (folder / "a.nii").unlink()
    (folder / "empty.dcm").unlink()
    with pytest.raises(DataError, match=r"no image in it; .* \(7 files left out: link\.png"):
        find_inputs(folder)
    with pytest.raises(DataError, match=r"seg\.dcm: a DICOM Segmentation, not an image; expected"):
        find_inputs(folder / "seg.dcm")


def test_files_beside_the_images_of_a_site_are_named(tmp_path):
    for name in ("images/a.png", "images/b.txt", "masks/a.png", "c.png", "classes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name, format="PNG")
    (tmp_path / "classes.txt").write_text("background\ncell\n")
    inputs = find_inputs(tmp_path, task="segmentation")
    assert [item.key for item in inputs.items] == ["images/a.png"]
    why = "no image of the site, which was read as image-masks"
    assert inputs.left_out == {"c.png": why, "images/b.txt": why}


def test_a_place_in_a_case_that_is_taken_is_said(tmp_path):
    case(tmp_path, "A")
    volume(tmp_path / "A" / "B-t1c.nii")
    inputs = find_inputs(tmp_path, task="segmentation")
    assert inputs.left_out == {"A/B-t1c.nii": "its case has A/A-t1c.nii.gz as t1c already"}


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
    wholes = dict.fromkeys(("1.png", "2.png", "3.png"), Whole("a.dcm"))
    mixed = Inputs(inputs.scan, wholes=wholes)
    assert [len(group) for group in mixed.groups(2)] == [4, 1]


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
