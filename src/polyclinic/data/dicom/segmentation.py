"""DICOM Segmentation objects: which of their frames is which segment of which image.

PS3.3 C.8.20: BINARY and FRACTIONAL segments, a frame each, and label maps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dicom.groups import group
from polyclinic.data.dicom.header import floats, quiet, read_dataset, reason_of, text, whole_number
from polyclinic.data.dicom.pixels import decode, frame_count
from polyclinic.errors import DataError

LABEL_MAP = 0
"""Number of the segment of a frame that holds all of them."""


@dataclass(frozen=True)
class Place:
    """What a frame lies on: an image by its UID ("" where it is not named) and, of several, its
    frame; or else the position (x, y, z) of its first pixel, mm."""

    image: str
    frame: int | None
    position: tuple[float, ...] | None


@dataclass(frozen=True)
class Segmentation:
    """A file's segments: `labels` by number, and of every frame its segment and its place.

    `series` are the series that it refers to.
    """

    path: Path
    name: str
    series: tuple[str, ...]
    labels: dict[int, str]
    frames: tuple[tuple[int, Place], ...]


def read_segmentation(path: Path, name: str) -> Segmentation:
    """What a Segmentation says of its frames; decodes none. Raises `DataError`."""
    dataset = read_dataset(path, name, pixels=False)
    try:
        with quiet():
            segments = {
                int(item.SegmentNumber): text(item, "SegmentLabel")
                or f"segment {item.SegmentNumber}"
                for item in dataset.get("SegmentSequence") or ()
            }
            series = tuple(
                str(item.SeriesInstanceUID)
                for item in dataset.get("ReferencedSeriesSequence") or ()
            )
            holds_all = text(dataset, "SegmentationType") == "LABELMAP"
            frames = tuple(
                (LABEL_MAP if holds_all else _segment(dataset, number), _place(dataset, number))
                for number in range(frame_count(dataset, name))
            )
    except DataError:
        raise
    except Exception as error:  # values in headers can be wrong in many ways
        raise DataError(f"{name}: not a usable Segmentation ({reason_of(error)})") from None
    if not segments:
        raise DataError(f"{name}: names no segment; expected a Segmentation")
    return Segmentation(path, name, series, segments, frames)


def read_masks(
    segmentation: Segmentation, dataset: Any, frames: list[int], classes: dict[int, int]
) -> NDArray[np.uint8]:
    """Label map (H, W), as stored, of the frames that lie on one image.

    `dataset` is the Segmentation with its pixels. `classes` maps numbers of segments to values;
    where segments overlap, the later frame counts. A fraction counts from half of its maximum on.
    """
    name = segmentation.name
    fractional = text(dataset, "SegmentationType") == "FRACTIONAL"
    most = whole_number(dataset, "MaximumFractionalValue", name, 255) if fractional else 1
    labels: NDArray[np.uint8] | None = None
    for number in frames:
        values = decode(dataset, name, number).values
        if labels is None:
            labels = np.zeros(values.shape, np.uint8)
        segment = segmentation.frames[number][0]
        if segment == LABEL_MAP:
            for value, label in classes.items():
                labels[values == value] = label
        else:
            labels[values * 2 >= max(most, 1)] = classes[segment]
    if labels is None:
        raise DataError(f"{name}: no frame lies on this image")
    return labels


def _segment(dataset: Any, number: int) -> int:
    found = group(dataset, "SegmentIdentificationSequence", number)
    return int(found.ReferencedSegmentNumber)


def _place(dataset: Any, number: int) -> Place:
    derived = group(dataset, "DerivationImageSequence", number)
    sources = derived.get("SourceImageSequence") or ()
    position = floats(group(dataset, "PlanePositionSequence", number), "ImagePositionPatient", 3)
    if not sources:
        return Place("", None, position)
    frame = sources[0].get("ReferencedFrameNumber")
    first = frame[0] if hasattr(frame, "__getitem__") and frame else frame
    image = text(sources[0], "ReferencedSOPInstanceUID")
    return Place(image, int(first) - 1 if first else None, position)
