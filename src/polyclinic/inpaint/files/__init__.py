"""Files that can be painted on: one module a format, each with `read`, `write`, `write_mask`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.inpaint.files import brats, dicom, images, nifti
from polyclinic.inpaint.files.source import Source, sequence_number
from polyclinic.inpaint.provenance import Provenance

Read = Callable[[Path, int | None], Source]
Write = Callable[[Source, dict[int, NDArray[Any]], Path, Provenance], None]
WriteMask = Callable[[Source, NDArray[np.uint8], Path], None]


@dataclass(frozen=True)
class Format:
    """How a format is read and written. `extensions` are those that its output may have; where
    there are none, the output is a folder. `mask` is the extension of its masks."""

    read: Read
    write: Write
    write_mask: WriteMask
    extensions: tuple[str, ...]
    mask: str


FORMATS: Mapping[str, Format] = {
    "png": Format(images.read, images.write, images.write_mask, (".png",), ".png"),
    "nifti": Format(nifti.read, nifti.write, nifti.write_mask, nifti.EXTENSIONS, ".nii.gz"),
    "brats": Format(brats.read, brats.write, brats.write_mask, (), ".nii.gz"),
    "dicom": Format(dicom.read, dicom.write, dicom.write_mask, (".dcm",), ".nii.gz"),
}


def read_source(path: Path, sequence: str | None = None) -> Source:
    """Read an image, a volume, a BraTS-like case, a DICOM file or a series.

    `sequence` names what a single image or volume shows. Raises `DataError`, `ConfigError`.
    """
    number = None if sequence is None else sequence_number(sequence)
    return FORMATS[format_of(path)].read(path, number)


def format_of(path: Path) -> str:
    """The key in `FORMATS` that fits; `DataError` where there is no such path."""
    if path.is_dir():
        return "brats" if brats.recognise(path) else "dicom"
    if not path.is_file():
        raise DataError(
            f"{path}: no such file or folder; expected a PNG, JPEG, TIFF, NIfTI or DICOM file, "
            "a BraTS case or a DICOM series"
        )
    name = path.name.lower()
    if name.endswith(images.EXTENSIONS):
        return "png"
    return "nifti" if name.endswith(nifti.EXTENSIONS) else "dicom"
