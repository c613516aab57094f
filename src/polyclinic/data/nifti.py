"""NIfTI volumes as arrays of a known orientation."""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError

ENDS = (".nii.gz", ".nii")
MAX_VOXELS = 512**3
"""Larger volumes are refused: a file of a few bytes may declare, and unpack to, any size."""
MAX_SIDE = 2**15 - 1
"""Voxels along one axis: what NIfTI 1 can say. A header of NIfTI 2 may claim any number."""
MAX_VOXEL_BYTES = 8
ROOM = 2**26
"""Voxels that threads work on at the same time."""
_FEW = 256
_WITHIN = f" of at most {MAX_VOXELS} voxels, {MAX_SIDE} along an axis"
_turn = threading.Condition()
_in_work: list[int] = []
"""Voxels of the volumes that threads work on now."""

Volume = NDArray[Any]


def is_volume(name: str) -> bool:
    """Whether a file is called NIfTI."""
    return name.lower().endswith(ENDS)


def read_volume(path: Path, name: str, channel: int | None = None) -> Volume:
    """A NIfTI volume (X, Y, Z) turned so that x runs to the right, y to anterior, z up.

    `channel` picks one of the volumes of a file with four axes. Raises `DataError`, which calls
    the file `name`, when it cannot be read, has other axes than these, or is too large.
    """
    try:
        image, orientations = _open(path)
        shape = tuple(int(n) for n in image.shape)
        if channel is None:
            shape = _without_ones(shape)
        expected = "one volume (X, Y, Z)" if channel is None else f"volumes up to number {channel}"
        if len(shape) != (3 if channel is None else 4) or not _bearable(shape):
            raise DataError(f"{name}: shape {image.shape}; expected {expected}{_WITHIN}")
        stored = image.get_data_dtype()
        if stored.kind not in "biuf" or stored.itemsize > MAX_VOXEL_BYTES:
            raise DataError(f"{name}: voxels of type {stored}; expected numbers of up to 64 bits")
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


def values_of(volume: Volume) -> NDArray[np.float64]:
    """The different values of a volume, ascending: what `np.unique` gives, but fast for labels."""
    if volume.size and volume.min() >= 0 and volume.max() < _FEW:
        small = volume.astype(np.uint8)
        if np.array_equal(small, volume):
            counts = np.bincount(small.reshape(-1), minlength=_FEW)
            return np.flatnonzero(counts).astype(np.float64)
    return np.unique(volume).astype(np.float64)


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Wait until the volumes that other threads work on and the one in `path` have `ROOM` voxels.

    A volume that is larger than that by itself waits until no other is in work.
    """
    voxels = int(min(math.prod(grid(path)[:3]), MAX_VOXELS))
    with _turn:
        _turn.wait_for(lambda: not _in_work or sum(_in_work) + voxels <= ROOM)
        _in_work.append(voxels)
    try:
        yield
    finally:
        with _turn:
            _in_work.remove(voxels)
            _turn.notify_all()


def grid(path: Path) -> tuple[float, ...]:
    """Shape and affine of a volume, rounded, from its header; nothing where it cannot be read."""
    try:
        image, _ = _open(path)
        affine = [round(float(value), 3) for value in image.affine.ravel()]
        return (*(float(n) for n in image.shape[:3]), *affine)
    except Exception:  # as in `read_volume`, which says what is wrong
        return ()


def _open(path: Path) -> tuple[Any, Any]:
    """A file's header as nibabel reads it, whose voxels are read later, and `nibabel.orientations`.

    Only as NIfTI 1 or 2: a file in the hand of strangers must not choose another parser.
    """
    if not path.is_file():
        raise FileNotFoundError("no such file")
    import nibabel

    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # it writes to the terminal
    kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
    kind = next((k for k in kinds if k.path_maybe_image(path)[0]), None)
    if kind is None:
        raise ValueError("no header of NIfTI in it")
    image: Any = kind.from_filename(path)
    if not np.isfinite(image.affine).all():
        raise ValueError("its affine is not finite")
    return image, nibabel.orientations


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
    """How many axial slices the volume, or the volumes, in `path` have, from the header alone.

    `DataError` as above, also of a shape that `read_volume` would refuse: who lists slices must not
    list those that a header merely claims.
    """
    try:
        image, orientations = _open(path)
        shape = _without_ones(tuple(int(n) for n in image.shape))
        if len(shape) not in (3, 4) or not _bearable(shape):
            raise DataError(f"{name}: shape {image.shape}; expected (X, Y, Z, channels){_WITHIN}")
        turns: Any = orientations.io_orientation(image.affine)
        axis = int(np.flatnonzero(turns[:, 0] == 2)[0])
        return shape[axis]
    except DataError:
        raise
    except Exception as error:  # as in `read_volume`
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable NIfTI file ({reason})") from None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of length 1 after the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _bearable(shape: tuple[int, ...]) -> bool:
    """Whether no axis is empty, and one volume of this shape is within the limits."""
    space = shape[:3]
    return min(shape) > 0 and max(space) <= MAX_SIDE and math.prod(space) <= MAX_VOXELS
