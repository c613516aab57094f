"""Masks of DICOM images are Segmentations that our own reader lays on the same images."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError
from polyclinic.run.prediction_dicom import Drawer, write_segmentations
from polyclinic.run.prediction_inputs import find_inputs

AXIAL = [1, 0, 0, 0, 1, 0]  # as `write_image` writes them
TURNED = [-1, 0, 0, 0, -1, 0]
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
DRAWER = Drawer(("background", "tumour", "Ödem"), "0123456789abcdef0123")


def item(**elements):
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def drawn(key: str, size=(5, 7)) -> np.ndarray:
    """A label map as seen, of both classes, another for every key."""
    rng = np.random.default_rng(sum(key.encode()))
    return rng.integers(0, 3, size).astype(np.uint8)


def read_back(folder: Path) -> dict[str, np.ndarray]:
    """Names instead of numbers: a Segmentation's classes are in the order of the alphabet."""
    scan = scan_site(folder, format="dicom-seg")
    names = {name: number for number, name in enumerate(DRAWER.classes)}
    values = np.array([names[name] for name in scan.classes])
    return {i.key: values[scan.load(i)[1]] for i in scan.items}


@pytest.mark.parametrize("turn", [AXIAL, TURNED])
def test_a_series_is_one_segmentation_that_lies_on_its_slices(tmp_path, write_image, turn):
    keys = [f"ct/{9 - z}.dcm" for z in range(3)]
    for z, key in enumerate(keys):
        write_image(tmp_path / key, z, turn=turn)
    inputs = find_inputs(tmp_path, task="segmentation")
    assert sorted(item.key for item in inputs.items) == sorted(keys)
    assert inputs.patients[keys[0]] == "P1"
    (whole,) = set(inputs.wholes.values())
    assert whole.mask == "ct/1.2.5.dcm"
    labels = {key: drawn(key) for key in keys}
    paths = write_segmentations(tmp_path, labels.items(), tmp_path / "masks.dcm", DRAWER)
    assert set(paths.values()) == {tmp_path / "masks.dcm"}
    found = read_back(tmp_path)
    assert found.keys() == labels.keys()
    assert all(np.array_equal(found[key], labels[key]) for key in keys)


def test_what_the_segmentation_says_of_its_source(tmp_path, write_image):
    write_image(tmp_path / "a.dcm", 4)
    labels = np.ones((5, 7), np.uint8)
    write_segmentations(tmp_path, [("a.dcm", labels)], tmp_path / "b.dcm", DRAWER)
    seg = pydicom.dcmread(tmp_path / "b.dcm")
    assert (str(seg.PatientName), seg.PatientID) == ("Müller^Jörg", "P1")
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == ("1.2.4", "1.2.6")
    assert (seg.Modality, seg.ContentDate, seg.NumberOfFrames) == ("SEG", "20240229", 1)
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["tumour", "Ödem"]
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.5"
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.9.5.5"
    shared, (frame,) = (
        seg.SharedFunctionalGroupsSequence[0],
        seg.PerFrameFunctionalGroupsSequence,
    )
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.75]
    assert shared.PixelMeasuresSequence[0].SliceThickness == 2.5
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == AXIAL
    position = [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient]
    assert position == pytest.approx([-12.5, 1 / 3, 10], abs=1e-6)
    assert np.array_equal(seg.pixel_array, np.ones((5, 7)))
    content = (tmp_path / "b.dcm").read_bytes()
    write_segmentations(tmp_path, [("a.dcm", labels)], tmp_path / "b.dcm", DRAWER)
    assert (tmp_path / "b.dcm").read_bytes() == content


def test_frames_of_one_file_are_told_apart(tmp_path, write_image):
    planes = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 4 * z])]) for z in range(3)
    ]
    write_image(
        tmp_path / "e.dcm",
        frames=3,
        turn=None,
        SOPClassUID=ENHANCED_CT,
        PerFrameFunctionalGroupsSequence=planes,
        SharedFunctionalGroupsSequence=[
            item(
                PlaneOrientationSequence=[item(ImageOrientationPatient=TURNED)],
                PixelMeasuresSequence=[item(PixelSpacing=[1, 1])],
            )
        ],
    )
    inputs = find_inputs(tmp_path / "e.dcm", task="segmentation")
    keys = [item.key for item in inputs.items]
    assert keys == ["e.dcm#0", "e.dcm#1", "e.dcm#2"]
    assert {whole.mask for whole in inputs.wholes.values()} == {"e.dcm"}
    labels = {key: drawn(key) for key in keys}
    labels["e.dcm#1"][:] = 0  # an empty slice has no frame
    write_segmentations(tmp_path, labels.items(), tmp_path / "m.dcm", DRAWER)
    seg = pydicom.dcmread(tmp_path / "m.dcm")
    assert seg.NumberOfFrames == 4
    positions = [
        float(g.PlanePositionSequence[0].ImagePositionPatient[2])
        for g in seg.PerFrameFunctionalGroupsSequence
    ]
    assert positions == [0, 0, 8, 8]
    found = read_back(tmp_path)
    assert all(np.array_equal(found[key], labels[key]) for key in found)
    assert {"e.dcm#0", "e.dcm#2"} <= found.keys()


def test_sizes_that_differ_have_a_file_each(tmp_path, write_image):
    write_image(tmp_path / "a.dcm", 0)
    write_image(tmp_path / "b.dcm", 1, size=(4, 8))
    write_image(tmp_path / "c.dcm", 2)
    labels = {"a.dcm": drawn("a"), "b.dcm": drawn("b", (4, 8)), "c.dcm": drawn("c")}
    paths = write_segmentations(tmp_path, labels.items(), tmp_path / "m" / "s.dcm", DRAWER)
    assert [paths[key].name for key in labels] == ["s.dcm", "s-8x4.dcm", "s.dcm"]
    found = read_back(tmp_path)
    assert all(np.array_equal(found[key], labels[key]) for key in labels)


def test_nothing_found_is_a_segmentation_with_an_empty_frame(tmp_path, write_image):
    write_image(tmp_path / "a.dcm", turn=None)
    labels = np.zeros((5, 7), np.uint8)
    write_segmentations(tmp_path, [("a.dcm", labels)], tmp_path / "b.dcm", DRAWER)
    seg = pydicom.dcmread(tmp_path / "b.dcm")
    assert seg.NumberOfFrames == 1
    assert not seg.pixel_array.any()
    (frame,) = seg.PerFrameFunctionalGroupsSequence
    assert "PlanePositionSequence" not in frame
    assert frame.FrameContentSequence[0].DimensionIndexValues == 1
    assert len(seg.DimensionIndexSequence) == 1
    assert not read_back(tmp_path)["a.dcm"].any()


def test_an_image_that_cannot_be_referred_to_is_said(tmp_path, write_image):
    path = write_image(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    del dataset.SOPInstanceUID
    dataset.save_as(path)
    labels = np.zeros((5, 7), np.uint8)
    with pytest.raises(DataError, match=r"a\.dcm: a Segmentation cannot refer to it \(.*UID"):
        write_segmentations(tmp_path, [("a.dcm", labels)], tmp_path / "b.dcm", DRAWER)
    assert not (tmp_path / "b.dcm").exists()
    assert not find_inputs(tmp_path, task="segmentation").wholes  # a PNG, then


def test_series_are_kept_together_for_masks_alone(tmp_path, write_image):
    for z, name in enumerate(("a.dcm", "m.dcm", "z.dcm")):
        write_image(tmp_path / name, z, SeriesInstanceUID="1.7" if name == "m.dcm" else "1.5")
    together = find_inputs(tmp_path, task="segmentation")
    assert [item.key for item in together.items] == ["a.dcm", "z.dcm", "m.dcm"]
    assert {whole.mask for whole in together.wholes.values()} == {"1.5.dcm", "m.dcm"}
    single = find_inputs(tmp_path)
    assert [item.key for item in single.items] == ["a.dcm", "m.dcm", "z.dcm"]
    assert not single.wholes
