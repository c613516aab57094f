"""NIfTI volumes as arrays of a known orientation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError

MAX_VOXELS = 512**3

Volume = NDArray[Any]


def read_volume(path: Path, name: str, channel: int | None = None) -> Volume:
    """A NIfTI volume (X, Y, Z) turned so that x runs to the right, y to anterior, z up.

    `channel` picks one of the volumes of a file with four axes. Raises `DataError`, which calls
    the file `name`, when it cannot be read, has other axes than these, or is too large.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        orientations: Any = nibabel.orientations
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 3 and shape[-1] == 1 and channel is None:
            shape = shape[:-1]
        expected = "one volume (X, Y, Z)" if channel is None else f"volumes up to number {channel}"
        axes = 3 if channel is None else 4
        if len(shape) != axes or 0 in shape or math.prod(shape[:3]) > MAX_VOXELS:
            raise DataError(f"{name}: shape {image.shape}; expected {expected}")
        if channel is None:
            volume = np.asanyarray(image.dataobj).reshape(shape)
        elif channel < shape[3]:
            volume = np.asanyarray(image.dataobj[..., channel])
        else:
            raise DataError(f"{name}: shape {image.shape}; expected {expected}")
        turns = orientations.io_orientation(image.affine)
        turned: Volume = orientations.apply_orientation(volume, turns)
    except DataError:
        raise
    except Exception as error:  # gzip, zlib, struct and nibabel each have errors of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable NIfTI file ({reason})") from None
    if turned.dtype.kind not in "biuf":
        raise DataError(f"{name}: voxels of type {turned.dtype}; expected numbers")
    if not np.isfinite(turned).all():
        raise DataError(f"{name}: voxels that are NaN or infinite")
    return turned


def axial(volume: Volume) -> Volume:
    """(X, Y, Z, ...) as `read_volume` turns it to (Z, H, W, ...), as radiologists look at it.

    Z runs from the feet up, rows from anterior to posterior, columns from the patient's right to
    left.
    """
    return np.ascontiguousarray(np.moveaxis(volume[::-1, ::-1], (2, 1, 0), (0, 1, 2)))


def from_axial(slices: Volume, affine: NDArray[Any]) -> Volume:
    """What `axial` of a volume turned by `read_volume` was, as the file stores it.

    `slices` (Z, H, W, ...), and the `affine` (4, 4) of the file. The way back for masks.
    """
    import nibabel

    orientations: Any = nibabel.orientations
    upright = np.moveaxis(slices, (0, 1, 2), (2, 1, 0))[::-1, ::-1]
    back = orientations.ornt_transform(
        orientations.axcodes2ornt(("R", "A", "S")), orientations.io_orientation(affine)
    )
    stored: Volume = np.ascontiguousarray(orientations.apply_orientation(upright, back))
    return stored


def axial_depth(path: Path, name: str) -> int:
    """How many axial slices the volume in `path` has, from its header; `DataError` as above."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        turns: Any = nibabel.orientations.io_orientation(image.affine)
        axis = int(np.flatnonzero(turns[:, 0] == 2)[0])
        return int(image.shape[axis])
    except Exception as error:  # as in `read_volume`
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable NIfTI file ({reason})") from None
