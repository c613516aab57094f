"""Label maps of DICOM images as DICOM Segmentations (PS3.3 A.51, C.8.20): binary, a frame each.

They refer to the images and the series that they were drawn on, lie in their frame of reference and
in their planes, and are the way round in which the images are stored. They say that nobody has
looked at them.
"""

import itertools
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic import __version__
from polyclinic.data.dicom.groups import group
from polyclinic.data.dicom.header import floats, quiet, read_dataset, reason_of, text
from polyclinic.data.dicom.images import split_frame
from polyclinic.data.dicom.orientation import turn_of
from polyclinic.data.writing import writing
from polyclinic.errors import DataError

_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
_OF_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_OF_STUDY = ("StudyInstanceUID", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_GEOMETRY = (  # sequence of the functional groups, element, numbers in it
    ("PixelMeasuresSequence", "PixelSpacing", 2),
    ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
    ("PlanePositionSequence", "ImagePositionPatient", 3),
)
_DIMENSIONS = (  # element by which frames are ordered, its sequence, what it is
    (0x0062000B, 0x0062000A, "Segment"),
    (0x00200032, 0x00209113, "Image"),
)
_MOST_TEXT = 64  # characters of a label: VR LO


@dataclass(frozen=True)
class Drawer:
    """Who draws: the `classes` of a model, the background first, and what is unique to it."""

    classes: tuple[str, ...]
    identity: str


@dataclass
class _Drawn:
    """Segments of images of one size, as far as they are collected."""

    first: Any  # data set of the first image
    rows: int
    columns: int
    sources: dict[str, str] = field(default_factory=dict)  # class of an image by its UID
    groups: list[Any] = field(default_factory=list)  # a frame each
    bits: list[NDArray[np.uint8]] = field(default_factory=list)
    images: int = 0
    number: int = 0  # of the frame of the first image


def write_segmentations(
    folder: Path, label_maps: Iterable[tuple[str, NDArray[np.uint8]]], out: Path, drawer: Drawer
) -> dict[str, Path]:
    """Write label maps (H, W), as seen, of DICOM images as one Segmentation; its path by key.

    Keys are paths in `folder`, `FILE#2` for the third frame of several. Images of other sizes than
    the first have a file of their own beside it: a Segmentation has one size. Label maps are taken
    one at a time, and only their bits are kept. The same call gives the same bytes. Raises
    `DataError` where the headers of the images do not allow for it.
    """
    drawn: dict[tuple[int, int], _Drawn] = {}
    paths: dict[str, Path] = {}
    opened: tuple[Path, Any] | None = None
    for key, labels in label_maps:
        file, number = split_frame(folder / key)
        if opened is None or opened[0] != file:
            opened = file, read_dataset(file, key, pixels=False)
        dataset = opened[1]
        try:
            stored = turn_of(dataset, number).undo(labels)
            size = (stored.shape[0], stored.shape[1])
            one = drawn.setdefault(size, _Drawn(dataset, *size, number=number))
            with quiet():
                _add(one, dataset, number, stored, drawer)
        except Exception as error:  # values in headers can be wrong in many ways
            raise DataError(
                f"{key}: a Segmentation cannot refer to it ({reason_of(error)})"
            ) from None
        other = one is not next(iter(drawn.values()))
        named = f"{out.stem}-{one.columns}x{one.rows}{out.suffix}" if other else out.name
        paths[key] = out.with_name(named)
    for one, path in zip(drawn.values(), dict.fromkeys(paths.values()), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as part:
            _save(one, part, drawer)
    return paths


def _add(one: _Drawn, dataset: Any, number: int, labels: NDArray[np.uint8], drawer: Drawer) -> None:
    one.images += 1
    one.sources[str(dataset.SOPInstanceUID)] = str(dataset.SOPClassUID)
    for label in range(1, len(drawer.classes)):
        segment = labels == label
        if segment.any():
            one.groups.append(_frame_groups(dataset, number, label, one.images))
            one.bits.append(_packed(segment))


def _packed(segment: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bits, eight a byte, the first the lowest; one a byte where frames end within a byte."""
    flat = segment.ravel().astype(np.uint8)
    return np.packbits(flat, bitorder="little") if flat.size % 8 == 0 else flat


def _frame_groups(dataset: Any, number: int, label: int, image: int) -> Any:
    from pydicom.valuerep import format_number_as_ds

    source = _item(
        ReferencedSOPClassUID=str(dataset.SOPClassUID),
        ReferencedSOPInstanceUID=str(dataset.SOPInstanceUID),
        PurposeOfReferenceCodeSequence=[
            _code("121322", "DCM", "Source image for image processing operation")
        ],
    )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        source.ReferencedFrameNumber = number + 1
    groups = _item(
        DerivationImageSequence=[
            _item(
                SourceImageSequence=[source],
                DerivationCodeSequence=[_code("113076", "DCM", "Segmentation")],
            )
        ],
        FrameContentSequence=[_item(DimensionIndexValues=[label, image])],
        SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=label)],
    )
    for sequence, keyword, count in _GEOMETRY:
        held = group(dataset, sequence, number)
        values = floats(held, keyword, count)
        if values is not None:
            found = _item(**{keyword: [format_number_as_ds(value) for value in values]})
            if keyword == "PixelSpacing" and (thickness := text(held, "SliceThickness")):
                found.SliceThickness = format_number_as_ds(float(thickness))
            setattr(groups, sequence, [found])
    return groups


def _save(one: _Drawn, path: Path, drawer: Drawer) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    first, dataset = one.first, Dataset()
    if not one.groups:  # nothing was found, but a Segmentation has a frame at least
        one.groups.append(_frame_groups(first, one.number, 1, 1))
        one.bits.append(_packed(np.zeros((one.rows, one.columns), np.bool_)))
    series = text(first, "SeriesInstanceUID")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = _CLASS
    dataset.SOPInstanceUID = _uid(drawer, "instance", *one.sources, f"{one.rows}x{one.columns}")
    for keyword in (*_OF_PATIENT, *_OF_STUDY):
        setattr(dataset, keyword, text(first, keyword))
    dates = [text(first, f"{of}Date") for of in ("Study", "Series", "Acquisition", "Content")]
    times = [text(first, f"{of}Time") for of in ("Study", "Series", "Acquisition", "Content")]
    dataset.StudyDate, dataset.StudyTime = dates[0], times[0]
    # that of the images, so that the same images give the same bytes; it may not be empty
    dataset.ContentDate = next(filter(None, reversed(dates)), "19000101")
    dataset.ContentTime = next(filter(None, reversed(times)), "000000")
    dataset.Modality = "SEG"
    dataset.SeriesInstanceUID = _uid(drawer, "series", series)
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.SeriesDescription = "Segmentation by a model, not reviewed"
    if frame_of_reference := text(first, "FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = frame_of_reference
        dataset.PositionReferenceIndicator = text(first, "PositionReferenceIndicator")
    dataset.Manufacturer, dataset.ManufacturerModelName = "Polyclinic", "polyclinic predict"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = drawer.identity[:16], __version__
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel, dataset.ContentCreatorName = "SEGMENTATION", "Polyclinic"
    dataset.ContentDescription = "Drawn by a model, not reviewed"
    dataset.SegmentationType, dataset.LossyImageCompression = "BINARY", "00"
    dataset.SegmentSequence = [
        _item(
            SegmentNumber=number,
            SegmentLabel=name[:_MOST_TEXT],
            SegmentAlgorithmType="AUTOMATIC",
            SegmentAlgorithmName="polyclinic predict",
            # what a class means, its hospital knows: these codes only repeat its name
            SegmentedPropertyCategoryCodeSequence=[_code("SEGMENT", "99POLYCLINIC", "Segment")],
            SegmentedPropertyTypeCodeSequence=[
                _code(f"CLASS-{number}", "99POLYCLINIC", name[:_MOST_TEXT])
            ],
        )
        for number, name in enumerate(drawer.classes[1:], start=1)
    ]
    dataset.ReferencedSeriesSequence = [
        _item(
            SeriesInstanceUID=series,
            ReferencedInstanceSequence=[
                _item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid)
                for uid, kind in one.sources.items()
            ],
        )
    ]
    placed = "PlanePositionSequence" in one.groups[0]
    dimensions = _DIMENSIONS if placed else _DIMENSIONS[:1]
    for groups in one.groups:
        content = groups.FrameContentSequence[0]
        content.DimensionIndexValues = content.DimensionIndexValues[: len(dimensions)]
    organisation = _uid(drawer, "dimensions", dataset.SOPInstanceUID)
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organisation)]
    dataset.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organisation,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=within,
            DimensionDescriptionLabel=label,
        )
        for pointer, within, label in dimensions
    ]
    dataset.SharedFunctionalGroupsSequence = [_shared(one.groups)]
    dataset.PerFrameFunctionalGroupsSequence = one.groups
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = len(one.groups), one.rows, one.columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelRepresentation = 0
    packed = np.concatenate(one.bits)
    if one.rows * one.columns % 8:
        packed = np.packbits(packed, bitorder="little")
    dataset.PixelData = packed.tobytes() + b"\0" * (packed.size % 2)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    with quiet():
        dataset.save_as(path, enforce_file_format=True)


def _shared(groups: list[Any]) -> Any:
    """What all frames have alike of their geometry, taken out of them."""
    shared = _item()
    for sequence, _, _ in _GEOMETRY[:2]:
        found = [one.get(sequence) for one in groups]
        if found[0] and all(value == found[0] for value in found):
            setattr(shared, sequence, found[0])
            for one in groups:
                delattr(one, sequence)
    return shared


def _code(value: str, scheme: str, meaning: str) -> Any:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _item(**elements: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _uid(drawer: Drawer, *parts: str) -> str:
    """A UID made of a UUID, which needs no registered root (PS3.5, B.2)."""
    name = " ".join(itertools.chain([drawer.identity], parts))
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"
