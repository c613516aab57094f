"""DICOM Segmentations as masks of the series that they refer to."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
AXIAL = [1, 0, 0, 0, 1, 0]


def item(**elements):
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def write_series(folder, write_dicom, ramp, slices=12, turn=AXIAL):
    for z in range(slices):
        write_dicom(
            folder / f"{slices - z:03}.dcm",
            ramp(dtype="<u2"),
            SOPInstanceUID=f"1.9.{z + 1}",
            ImagePositionPatient=[0, 0, 2.5 * z],
            ImageOrientationPatient=turn,
        )


def write_masks(path, frames, *, kind="BINARY", by_uid=True, turn=AXIAL, series="1.2.5", **more):
    """`frames` are (segment, slice, mask (4, 6))."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SEGMENTATION
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.8.1"
    dataset.Modality, dataset.PatientID, dataset.SegmentationType = "SEG", "P1", kind
    dataset.SeriesInstanceUID = "1.8.2"
    dataset.SegmentSequence = [
        item(SegmentNumber=n, SegmentLabel=label) for n, label in ((1, "liver"), (2, "cyst"))
    ]
    dataset.ReferencedSeriesSequence = [item(SeriesInstanceUID=series)]
    plane = item(ImageOrientationPatient=turn)
    dataset.SharedFunctionalGroupsSequence = [item(PlaneOrientationSequence=[plane])]
    groups = []
    for segment, z, _ in frames:
        group = item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2.5 * z])])
        group.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=segment)]
        if by_uid:
            source = item(ReferencedSOPInstanceUID=f"1.9.{z + 1}")
            group.DerivationImageSequence = [item(SourceImageSequence=[source])]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    masks = np.stack([mask for _, _, mask in frames]).astype(np.uint8)
    one_bit = kind == "BINARY"
    dataset.Rows, dataset.Columns = masks.shape[1:]
    dataset.NumberOfFrames, dataset.SamplesPerPixel = len(frames), 1
    dataset.BitsAllocated = dataset.BitsStored = 1 if one_bit else 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    packed = np.packbits(masks.ravel(), bitorder="little") if one_bit else masks
    dataset.PixelData = packed.tobytes() + b"\0" * (packed.size % 2)
    dataset["PixelData"].VR = "OB"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def square(row, column):
    mask = np.zeros((4, 6), np.uint8)
    mask[row : row + 2, column : column + 2] = 1
    return mask


@pytest.mark.parametrize("by_uid", [True, False])
def test_masks_lie_on_their_slices(tmp_path, write_dicom, ramp, by_uid):
    write_series(tmp_path / "ct", write_dicom, ramp)
    frames = [(1, 5, square(0, 1)), (1, 6, square(1, 1)), (2, 6, square(2, 2))]
    write_masks(tmp_path / "seg.dcm", frames, by_uid=by_uid)
    scan = scan_site(tmp_path)
    assert (scan.format, scan.task) == ("dicom-seg", "segmentation")
    assert scan.classes == ("background", "cyst", "liver")
    # from the feet up, so by position and not by name: 5 and 6, and every fifth of the others
    expected = [f"ct/{12 - z:03}.dcm" for z in (2, 5, 6, 9)]
    assert [item.key for item in scan.items] == expected
    image, labels = scan.load(scan.items[2])
    assert image.shape == labels.shape == (4, 6)
    wanted = np.where(square(1, 1), 2, 0)
    wanted[square(2, 2) > 0] = 1  # the later frame counts
    assert np.array_equal(labels, wanted)
    assert not scan.load(scan.items[0])[1].any()


def test_fractions_and_label_maps(tmp_path, write_dicom, ramp):
    write_series(tmp_path / "ct", write_dicom, ramp, 3)
    part = square(0, 0) * 100 + square(1, 3) * 99
    write_masks(tmp_path / "seg.dcm", [(2, 1, part)], kind="FRACTIONAL", MaximumFractionalValue=200)
    scan = scan_site(tmp_path)
    assert np.array_equal(scan.load(scan.items[0])[1] > 0, square(0, 0) > 0)
    map_of = square(0, 0) + 2 * square(2, 3)
    write_masks(tmp_path / "seg.dcm", [(1, 1, map_of)], kind="LABELMAP")
    scan = scan_site(tmp_path)
    assert np.array_equal(scan.load(scan.items[0])[1], square(0, 0) * 2 + square(2, 3))


def test_masks_are_turned_with_their_images(tmp_path, write_dicom, ramp):
    turn = [-1, 0, 0, 0, -1, 0]
    write_series(tmp_path / "ct", write_dicom, ramp, 3, turn)
    write_masks(tmp_path / "seg.dcm", [(1, 1, square(0, 0))], turn=turn)
    scan = scan_site(tmp_path)
    assert np.array_equal(scan.load(scan.items[0])[1] > 0, square(2, 4) > 0)
    write_masks(tmp_path / "seg.dcm", [(1, 1, square(0, 0))], turn=AXIAL)
    scan = scan_site(tmp_path)
    with pytest.raises(DataError, match=r"lies in another plane than its mask; expected the same"):
        scan.load(scan.items[0])


def test_what_does_not_fit_is_named(tmp_path, write_dicom, ramp):
    write_series(tmp_path / "ct", write_dicom, ramp, 3)
    write_masks(tmp_path / "seg.dcm", [(1, 40, square(0, 0))])
    with pytest.raises(DataError, match=r"no Segmentation refers to an image that is there; add"):
        scan_site(tmp_path)
    write_masks(tmp_path / "seg2.dcm", [(1, 1, np.ones((2, 2)))])
    scan = scan_site(tmp_path)
    said = {finding.where: finding.what for finding in scan.findings}
    assert said["seg.dcm"] == "refers to no image in this folder"
    message = r"\(4, 6\) px, its mask seg2\.dcm \(2, 2\) px; expected the same"
    with pytest.raises(DataError, match=message):
        scan.load(scan.items[0])
    write_dicom(tmp_path / "other" / "a.dcm", ramp(), SeriesInstanceUID="1.7")
    what = "1 series without a Segmentation, left out"
    assert any(finding.what == what for finding in scan_site(tmp_path).findings)


def test_a_segmentation_that_says_nothing(tmp_path, write_dicom, ramp):
    write_series(tmp_path / "ct", write_dicom, ramp, 3)
    write_masks(tmp_path / "seg.dcm", [(1, 1, square(0, 0))], SegmentSequence=[])
    with pytest.raises(DataError, match=r"0 segments; expected some, below 255"):
        scan_site(tmp_path)
