"""NIfTI volumes of any orientation, edited in place: every other byte of the file is kept."""

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.nifti import MAX_VOXELS
from polyclinic.data.readers.brats import kind_of
from polyclinic.errors import DataError
from polyclinic.inpaint.components import SEQUENCES, UNKNOWN_SEQUENCE
from polyclinic.inpaint.files.source import Grid, Source, Storage
from polyclinic.inpaint.provenance import Provenance

EXTENSIONS = (".nii", ".nii.gz")
MAX_BYTES = 4 * 2**30
"""A compressed file may unpack to any size: larger ones are refused."""
_DESCRIP_BYTES = 80


@dataclass(frozen=True)
class Stored:
    """A NIfTI file: its unpacked bytes, where in them the voxels and the description begin, and
    the voxels (X, Y, Z) as they are stored, without the header's scaling."""

    content: bytes
    offset: int
    descrip: int
    voxels: NDArray[Any]
    slope: float
    intercept: float
    grid: Grid


def read(path: Path, sequence: int | None) -> Source:
    """One volume. The sequence is guessed from names as in BraTS unless it is given."""
    stored = read_stored(path)
    kind = kind_of(f"-{path.name}")
    guess = SEQUENCES.index(kind) if kind in SEQUENCES else UNKNOWN_SEQUENCE
    number = guess if sequence is None else sequence
    return Source(
        path,
        "nifti",
        {number: stored.grid.to_axial(stored.voxels)},
        {number: storage_of(stored, path)},
        {path.name: path},
        stored.grid,
        {number: stored},
    )


def write(
    source: Source, edited: dict[int, NDArray[Any]], out: Path, provenance: Provenance
) -> None:
    """Write the file `out`: the input's bytes but for edited voxels and `descrip`."""
    ((number, slices),) = edited.items()
    write_stored(source.held[number], slices, out, provenance)


def write_mask(source: Source, labels: NDArray[np.uint8], out: Path) -> None:
    """Write a mask (Z, H, W) as the NIfTI volume `out`, in the geometry of the source."""
    import nibabel

    grid = source.grid or Grid(labels.shape[::-1], np.eye(4), turned=False)  # nobody knows where
    affine = grid.affine
    image: Any = nibabel.Nifti1Image(grid.from_axial(labels), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header["descrip"] = b"painted: 1 core 2 oedema 3 enhancing 5 tumour-free 6 mixed"
    _write_bytes(image.to_bytes(), out)


def read_stored(path: Path) -> Stored:
    """Read `path`; `DataError` where it is no single volume of numbers in one file."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if not isinstance(image, nibabel.Nifti1Image):
            raise DataError(f"{path}: expected NIfTI in one file, .nii or .nii.gz")
        if len(shape) != 3 or 0 in shape or math.prod(shape) > MAX_VOXELS:
            raise DataError(f"{path}: shape {image.shape}; expected one volume (X, Y, Z)")
        header: Any = image.header
        dtype = header.get_data_dtype()
        if dtype.kind not in "iuf":
            raise DataError(f"{path}: voxels of type {dtype}; expected numbers")
        affine = np.array(image.affine, np.float64)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise DataError(f"{path}: its affine says no place in space; expected a valid header")
        stored: Any = image.dataobj
        content, offset = _bytes(path), int(stored.offset)
        slope, intercept = float(stored.slope), float(stored.inter)
        voxels = np.frombuffer(content, dtype, math.prod(shape), offset)
        descrip = int(type(header).template_dtype.fields["descrip"][1])
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a volume to paint on") from None
    except Exception as error:  # gzip, zlib, struct and nibabel each have errors of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a readable NIfTI file ({reason})") from None
    return Stored(
        content,
        offset,
        descrip,
        voxels.reshape(shape, order="F"),
        slope,
        intercept,
        Grid(shape, affine),
    )


def storage_of(stored: Stored, path: Path) -> Storage:
    """What the voxels of `stored` mean."""
    return Storage(str(path), stored.slope, stored.intercept)


def write_stored(stored: Stored, slices: NDArray[Any], out: Path, provenance: Provenance) -> None:
    """Write `stored` with other voxels, axial slices (Z, H, W), as the file `out`."""
    content = bytearray(stored.content)
    voxels = stored.grid.from_axial(slices).astype(stored.voxels.dtype, copy=False)
    packed = voxels.tobytes(order="F")
    content[stored.offset : stored.offset + len(packed)] = packed
    text = provenance.summary.encode("ascii", "replace")[: _DESCRIP_BYTES - 1]
    content[stored.descrip : stored.descrip + _DESCRIP_BYTES] = text.ljust(_DESCRIP_BYTES, b"\0")
    _write_bytes(bytes(content), out)


def _bytes(path: Path) -> bytes:
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    with gzip.open(path) as packed:
        content = packed.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_BYTES} bytes; refused")
    return content


def _write_bytes(content: bytes, out: Path) -> None:
    if out.suffix.lower() == ".gz":  # without a time: the same edit gives the same file
        content = gzip.compress(content, compresslevel=6, mtime=0)
    out.write_bytes(content)
