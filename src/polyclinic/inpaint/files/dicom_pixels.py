"""Pixels of a DICOM slice as they are stored, and back without touching any other bit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dicom.pixels import decode
from polyclinic.errors import DataError

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
"""Transfer syntaxes whose pixels lie in the file as they are: little endian, not compressed."""


@dataclass(frozen=True)
class Cells:
    """A slice (H, W): `raw` unsigned cells of Bits Allocated, `values` what their lower
    `bits` say, with a sign or without."""

    raw: NDArray[Any]
    values: NDArray[Any]
    bits: int
    signed: bool

    @property
    def lowest(self) -> float:
        """The lowest value that can be stored."""
        return -float(2 ** (self.bits - 1)) if self.signed else 0.0

    @property
    def highest(self) -> float:
        """The highest value that can be stored."""
        return float(2 ** (self.bits - self.signed) - 1)

    def replaced(self, values: NDArray[Any]) -> NDArray[Any]:
        """Cells with other values. Where a value stays the same, so does every bit."""
        raw = self.raw.copy()
        changed = values != self.values
        bits = np.asarray(2**self.bits - 1, raw.dtype)
        raw[changed] = values[changed].astype(raw.dtype) & bits
        return raw


def read_cells(dataset: Any, path: Path) -> Cells:
    """The pixels of a data set; `DataError`, which names `path`, where they are not one grey slice
    or cannot be decoded."""
    _check(dataset, path)
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    signed = bool(dataset.PixelRepresentation)
    shape = (int(dataset.Rows), int(dataset.Columns))
    unsigned = np.dtype(f"<u{allocated // 8}")
    if str(dataset.file_meta.TransferSyntaxUID) in _NATIVE:
        stored = bytes(dataset.PixelData)
        if len(stored) < shape[0] * shape[1] * unsigned.itemsize:
            raise DataError(f"{path}: its pixel data are cut off; expected {shape} pixels")
        raw = np.frombuffer(stored, unsigned, shape[0] * shape[1]).reshape(shape)
    else:
        raw = decode(dataset, str(path)).values.astype(unsigned)
    values = raw & np.asarray(2**bits - 1, unsigned)
    if signed:
        unused = allocated - bits
        shifted = (values << np.asarray(unused, unsigned)).view(f"<i{allocated // 8}")
        values = shifted >> unused  # carries the sign down
    return Cells(raw, values, bits, signed)


def _check(dataset: Any, path: Path) -> None:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    frames = int(dataset.get("NumberOfFrames") or 1)
    colours = (dataset.get("SamplesPerPixel", 1), dataset.get("PhotometricInterpretation"))
    allocated = dataset.get("BitsAllocated")
    if "PixelData" not in dataset or syntax is None:
        raise DataError(f"{path}: no pixel data that can be decoded; expected a DICOM image")
    if frames > 1:
        raise DataError(
            f"{path}: holds {frames} frames; expected one slice a file: convert it to single "
            "frames, or to NIfTI"
        )
    if colours[0] != 1 or colours[1] not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: pixels in {colours[1]}; expected MONOCHROME1 or MONOCHROME2")
    if allocated not in (8, 16, 32):
        raise DataError(f"{path}: {allocated} bits allocated; expected 8, 16 or 32")
    bits = int(dataset.BitsStored)
    if not 1 < bits <= allocated or int(dataset.get("HighBit", bits - 1)) != bits - 1:
        raise DataError(
            f"{path}: {bits} bits stored up to bit {dataset.get('HighBit')}; expected them lowest"
        )
