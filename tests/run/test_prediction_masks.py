"""Masks that `predict` writes: DICOM Segmentations for DICOM, volumes for volumes."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from polyclinic.data.readers import scan_site
from polyclinic.errors import ConfigError, RunError
from polyclinic.models.adopted import load_adopted
from polyclinic.run import prediction_masks
from polyclinic.run.predicting import predict
from polyclinic.run.prediction_inputs import find_inputs


@pytest.fixture(autouse=True)
def _exact(exact):
    """One thread: what is drawn twice is the same."""


def asked(model: Path, data: Path, out: Path, **options) -> list[dict[str, str]]:
    inputs = find_inputs(data, task="segmentation")
    done = predict(load_adopted(model), model, inputs, out, **options)
    with done.table.open(newline="") as file:
        return list(csv.DictReader(file))


def bright_square(shape: tuple[int, ...]) -> np.ndarray:
    """Voxels with a square, as in `west`, in every slice of the last two axes."""
    voxels = np.random.default_rng(5).integers(0, 60, shape).astype(np.uint8)
    voxels[..., 3:8, 2:9] += 127
    return voxels


def test_masks_of_a_dicom_series_are_a_segmentation_that_can_be_read(
    drawing: Path, tmp_path: Path, write_image
):
    slices = bright_square((3, 16, 16))
    for z, pixels in enumerate(slices):
        write_image(tmp_path / "new" / f"{z}.dcm", z, size=(16, 16), PixelData=pixels.tobytes())
    frames = {"frames": 2, "size": (16, 16), "SOPInstanceUID": "1.8", "SeriesInstanceUID": "1.7"}
    write_image(tmp_path / "new" / "film.dcm", PixelData=slices[:2].tobytes(), **frames)
    (tmp_path / "new" / "torn.dcm").write_bytes((tmp_path / "new" / "0.dcm").read_bytes()[:-60])
    rows = asked(drawing, tmp_path / "new", tmp_path / "out", batch=2)
    assert [row["file"] for row in rows] == [
        *("0.dcm", "1.dcm", "2.dcm", "torn.dcm"),  # one series
        *("film.dcm#0", "film.dcm#1"),
    ]
    assert {row["patient"] for row in rows} == {"P1"}
    assert [row["mask"] for row in rows] == [
        *(3 * ["masks/1.2.5.dcm"]),
        "",
        *(2 * ["masks/film.dcm"]),
    ]
    assert rows[3]["why"] == "unreadable"
    (tmp_path / "new" / "torn.dcm").unlink()
    for mask in (tmp_path / "out" / "masks").iterdir():
        (tmp_path / "new" / f"mask-{mask.name}").write_bytes(mask.read_bytes())
    scan = scan_site(tmp_path / "new")
    assert (scan.format, scan.classes) == ("dicom-seg", ("background", "foreground"))
    found = {i.key: int(scan.load(i)[1].sum()) for i in scan.items}
    told = {row["file"]: int(row["pixels foreground"] or 0) for row in rows}
    assert sum(told.values()) > 0
    assert all(told[key] == found.get(key, 0) for key in told)
    asked(drawing, tmp_path / "new", tmp_path / "again", batch=3)  # Segmentations are no inputs
    for mask in (tmp_path / "out" / "masks").iterdir():
        assert (tmp_path / "again" / "masks" / mask.name).read_bytes() == mask.read_bytes()


def test_masks_of_a_volume_have_its_geometry(drawing: Path, tmp_path: Path):
    affine = np.array([[0, 0, 3.0, -7], [-1, 0, 0, 5], [0, 2, 0, 1], [0, 0, 0, 1]])
    path = tmp_path / "new" / "head.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(bright_square((16, 6, 16)), affine), path)
    rows = asked(drawing, path.parent, tmp_path / "out")
    assert [row["file"] for row in rows] == [f"head.nii.gz#{z}" for z in range(6)]
    assert {row["mask"] for row in rows} == {"masks/head.nii.gz"}
    mask = nibabel.load(tmp_path / "out" / "masks" / "head.nii.gz")
    assert mask.shape == (16, 6, 16)
    assert np.array_equal(mask.affine, affine)
    count = sum(int(row["pixels foreground"]) for row in rows)
    assert int((np.asarray(mask.dataobj) == 1).sum()) == count


def test_masks_do_not_become_inputs(drawing: Path, tmp_path: Path):
    image = tmp_path / "new" / "a.png"
    image.parent.mkdir()
    Image.fromarray(bright_square((16, 16))).save(image)
    with pytest.raises(ConfigError, match=r"out: lies in .*new, where its masks would be taken"):
        asked(drawing, image.parent, image.parent / "out")
    assert [path.name for path in image.parent.iterdir()] == ["a.png"]
    (row,) = asked(drawing, image, image.parent / "out")  # of one file nothing else is an input
    assert row["mask"] == "masks/a.png.png"


def test_a_mask_that_cannot_be_written_is_a_reason_and_not_the_end(
    drawing: Path, tmp_path: Path, monkeypatch
):
    path = tmp_path / "new" / "head.nii"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(bright_square((16, 16, 2)), np.eye(4)), path)
    Image.fromarray(bright_square((16, 16))).save(tmp_path / "new" / "z.png")

    def fails(*_):
        raise ValueError("no\nway")

    with monkeypatch.context() as patch:
        patch.setattr(prediction_masks, "from_axial", fails)
        rows = asked(drawing, path.parent, tmp_path / "out")
    assert [row["mask"] for row in rows] == ["", "", "masks/z.png.png"]
    assert rows[0]["problem"] == "no mask: head.nii: its geometry cannot be used (no way)"
    assert rows[0]["prediction"]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction_masks, "writing", full)
    with pytest.raises(RunError, match=r"disk is full"):
        asked(drawing, path.parent, tmp_path / "full")
