"""DICOM files as the images of a site: `a.dcm`, or `a.dcm#3` for the fourth of several frames."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dicom.display import display
from polyclinic.data.dicom.header import floats, read_dataset, text, whole_number
from polyclinic.data.dicom.orientation import turn_of
from polyclinic.data.dicom.pixels import decode, frame_count
from polyclinic.errors import DataError

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Classes of objects with masks: Segmentation, and Label Map Segmentation."""
LEAST_FRAME = 8
"""Bytes that a compressed frame takes at least; one that is not has a bit for each pixel."""
_DIRECTORY = "1.2.840.10008.1.3.10"
_HEADER = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InstanceNumber",
    "DirectoryRecordSequence",
)


Kind = Literal["image", "segmentation", "directory", "other"]


@dataclass(frozen=True)
class Header:
    """What is looked at before any pixel is decoded; `notes` are what pydicom warned of."""

    name: str
    frames: int
    kind: Kind
    modality: str
    patient: str
    study: str
    series: str
    instance: str
    place: float | None
    """Along the normal of its plane, mm; by the instance number where the file does not say."""
    position: tuple[float, ...] | None = None  # of the first pixel (x, y, z), mm
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """A key for every frame."""
        if self.frames == 1:
            return (self.name,)
        return tuple(f"{self.name}#{number}" for number in range(self.frames))


def read_header(path: Path, name: str) -> Header:
    """The header of a DICOM file; `DataError` where it cannot be read."""
    notes: list[str] = []
    dataset = read_dataset(path, name, pixels=False, only=_HEADER, notes=notes)
    return Header(
        name,
        _frames(dataset, path, name),
        _kind(dataset),
        text(dataset, "Modality"),
        text(dataset, "PatientID"),
        text(dataset, "StudyInstanceUID"),
        text(dataset, "SeriesInstanceUID"),
        text(dataset, "SOPInstanceUID"),
        _place(dataset, name),
        floats(dataset, "ImagePositionPatient", 3),
        tuple(notes),
    )


def split_frame(path: Path) -> tuple[Path, int]:
    """The file and the frame that a key's path means."""
    stem, mark, number = path.name.rpartition("#")
    if mark and number.isdecimal() and len(number) < 9 and not path.exists():
        return path.with_name(stem), int(number)
    return path, 0


def read_image(path: Path, name: str) -> NDArray[np.uint8]:
    """A frame as a screen would show it, the usual way up: uint8 (H, W), or (H, W, 3) RGB.

    See `polyclinic.data.dicom.display` and `polyclinic.data.dicom.orientation`. Raises `DataError`,
    which calls the file `name`.
    """
    file, number = split_frame(path)
    dataset = _opened(file, name, number)
    shown = display(dataset, decode(dataset, name, number), number, name)
    turned: NDArray[np.uint8] = turn_of(dataset, number).apply(shown)
    return turned


def _opened(file: Path, name: str, number: int) -> Any:
    """The data set; kept for a while where it may hold many frames, each of which is asked for."""
    if number == 0:
        return read_dataset(file, name)
    status = file.stat() if file.exists() else None
    return _kept(file, name.rpartition("#")[0], status.st_mtime_ns if status else 0)


@functools.lru_cache(maxsize=2)
def _kept(file: Path, name: str, _changed: int) -> Any:
    return read_dataset(file, name)


def _kind(dataset: Any) -> Kind:
    declared = text(dataset, "SOPClassUID")
    if declared in SEGMENTATIONS:
        return "segmentation"
    if declared == _DIRECTORY or "DirectoryRecordSequence" in dataset:
        return "directory"
    return "image" if "Rows" in dataset and "Columns" in dataset else "other"


def _frames(dataset: Any, path: Path, name: str) -> int:
    """Number of frames, each of which takes some bytes of the file: else it is a false claim."""
    frames = frame_count(dataset, name)
    pixels = whole_number(dataset, "Rows", name, 0) * whole_number(dataset, "Columns", name, 0)
    if frames > 1 and frames * min(pixels / 8, LEAST_FRAME) > path.stat().st_size:
        raise DataError(f"{name}: says that it holds {frames} frames, more than fit into it")
    return frames


def _place(dataset: Any, name: str) -> float | None:
    position = floats(dataset, "ImagePositionPatient", 3)
    plane = floats(dataset, "ImageOrientationPatient", 6)
    if position is not None and plane is not None:
        return float(np.cross(plane[:3], plane[3:]) @ np.array(position))
    number = whole_number(dataset, "InstanceNumber", name, -1)
    return None if number < 0 else float(number)
