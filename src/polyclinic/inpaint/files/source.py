"""What is read from files to be painted on: axial slices, and what is needed to write them back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.nifti import axial
from polyclinic.errors import DataError
from polyclinic.inpaint.components import SEQUENCES, sequence

ARRAYS = "arrays"
"""The format of what no file holds."""
UNKNOWN = "unknown"
"""What people call a sequence that is none of `SEQUENCES`."""


@dataclass(frozen=True)
class Storage:
    """What the numbers of a volume mean: `slope * stored + intercept` is bright where the scanner
    received much. Painted values stay within `lowest` and `highest`, stored values that the file
    can hold. Errors call the volume `name`."""

    name: str
    slope: float = 1.0
    intercept: float = 0.0
    lowest: float = -np.inf
    highest: float = np.inf

    def real(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Real values of stored ones."""
        return stored.astype(np.float64) * self.slope + self.intercept

    def stored(self, real: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The nearest values that can be stored."""
        values = ((real - self.intercept) / self.slope).clip(self.lowest, self.highest)
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            # float(2 ** 63 - 1) is 2 ** 63: one step towards 0 keeps it within 64 bits
            high = float(limits.max) if limits.bits < 64 else np.nextafter(float(limits.max), 0)
            values = np.rint(values).clip(limits.min, high)
        return values.astype(dtype)


@dataclass(frozen=True)
class Grid:
    """Where a volume lies: `shape` (X, Y, Z) as stored, `affine` (4, 4) from its indices to mm
    (x right, y anterior, z up). `turned` says whether axial slices are made of it, or whether the
    stored planes are shown as they are (a single plane that is not axial)."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    turned: bool = True

    def to_axial(self, stored: NDArray[Any]) -> NDArray[Any]:
        """(X, Y, Z) as stored to axial slices (Z, H, W), as in `polyclinic.data.nifti.axial`."""
        if not self.turned:
            return np.ascontiguousarray(stored.transpose(2, 1, 0))
        from nibabel import orientations

        turned: NDArray[Any] = orientations.apply_orientation(stored, self._turns())
        return axial(turned)

    def from_axial(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Axial slices (Z, H, W) back to (X, Y, Z) as stored."""
        volume = slices.transpose(2, 1, 0)
        if not self.turned:
            return volume
        from nibabel import orientations

        upright = orientations.axcodes2ornt(("R", "A", "S"))
        back = orientations.ornt_transform(upright, self._turns())
        stored: NDArray[Any] = orientations.apply_orientation(volume[::-1, ::-1], back)
        return stored

    def _turns(self) -> NDArray[Any]:
        from nibabel import orientations

        turns: NDArray[Any] = orientations.io_orientation(self.affine)
        return turns


@dataclass(frozen=True)
class Source:
    """An image, a volume, or a case of several sequences.

    `volumes` maps a number of `SEQUENCES` (or `UNKNOWN_SEQUENCE`) to stored values (Z, H, W) of
    the file's own type, Z from the feet up; `storage` says what they mean. `files` are all files
    that were read, by their names relative to `path` where that is a folder. `grid` is None where
    the file says nothing about space. `held` is what the format needs to write. `warnings` are what
    the file says against its being painted on.
    """

    path: Path
    format: str
    volumes: Mapping[int, NDArray[Any]]
    storage: Mapping[int, Storage]
    files: Mapping[str, Path] = field(default_factory=dict)
    grid: Grid | None = None
    held: Any = None
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, H, W)."""
        z, h, w = next(iter(self.volumes.values())).shape
        return z, h, w


def from_arrays(volumes: Mapping[str, NDArray[Any]]) -> Source:
    """A source of arrays: axial slices (Z, H, W) or one slice (H, W) by the name of a sequence.

    Raises `ConfigError` at an unknown name and `DataError` at shapes that differ and at what is
    no real number.
    """
    for name, values in volumes.items():
        if values.ndim == 3 and values.shape[-1] in (3, 4):
            raise DataError(
                f"{name}: an array of shape {values.shape}, as an image in colours; expected grey "
                "slices, (H, W) or (Z, H, W)"
            )
        if values.dtype.kind not in "iuf":
            raise DataError(f"{name}: an array of {values.dtype}; expected real numbers")
    numbered = {
        sequence_number(name): values if values.ndim == 3 else values[None]
        for name, values in volumes.items()
    }
    shapes = {values.shape for values in numbered.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise DataError(
            "arrays: expected axial slices (Z, H, W) of one shape, got "
            + (", ".join(f"{name} {values.shape}" for name, values in volumes.items()) or "none")
        )
    storage = {number: Storage(sequence_name(number)) for number in numbered}
    return Source(Path(), ARRAYS, numbered, storage)


def sequence_number(name: str) -> int:
    """The number of a sequence, `UNKNOWN_SEQUENCE` for `UNKNOWN`; `ConfigError` for others."""
    return sequence(name, (*SEQUENCES, UNKNOWN))


def sequence_name(number: int) -> str:
    """The name of a number that `sequence_number` gives."""
    return (*SEQUENCES, UNKNOWN)[number]
