"""A patient's folder as in BraTS: all sequences, painted at the same pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.files import is_hidden
from polyclinic.data.readers.brats import kind_of
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import SEQUENCES
from polyclinic.inpaint.files import nifti
from polyclinic.inpaint.files.source import Source
from polyclinic.inpaint.provenance import Provenance

write_mask = nifti.write_mask
SAME_PLACE = 1e-3
"""Affines may differ by so many mm."""


def recognise(folder: Path) -> bool:
    """Whether a file in `folder` has a name like `CASE-t1n.nii.gz`, new or old."""
    return any(kind_of(path.name) in SEQUENCES for path in folder.iterdir())


def read(path: Path, sequence: int | None) -> Source:
    """All sequences in the folder `path`; a segmentation in it is not read.

    Raises `DataError` where they differ in geometry, or a sequence is there twice.
    """
    if sequence is not None:
        raise ConfigError(f"{path}: the names of its files say the sequences; leave out --sequence")
    found: dict[int, Path] = {}
    for file in sorted(path.iterdir()):
        kind = kind_of(file.name)
        if kind not in SEQUENCES or is_hidden(file.name):
            continue
        number = SEQUENCES.index(kind)
        if number in found:
            raise DataError(
                f"{path}: {found[number].name} and {file.name} are both {kind}; expected one"
            )
        found[number] = file
    held = {number: nifti.read_stored(found[number]) for number in sorted(found)}
    first = next(iter(held))
    for number, stored in held.items():
        expected, grid = held[first].grid, stored.grid
        if grid.shape != expected.shape or not np.allclose(
            grid.affine, expected.affine, atol=SAME_PLACE
        ):
            raise DataError(
                f"{found[number]}: shape {grid.shape}, {found[first].name} {expected.shape}; "
                "expected all sequences of a case in the same geometry"
            )
    return Source(
        path,
        "brats",
        {number: stored.grid.to_axial(stored.voxels) for number, stored in held.items()},
        {number: nifti.storage_of(stored, found[number]) for number, stored in held.items()},
        {found[number].name: found[number] for number in held},
        held[first].grid,
        {number: (found[number].name, stored) for number, stored in held.items()},
    )


def write(
    source: Source, edited: dict[int, NDArray[Any]], out: Path, provenance: Provenance
) -> None:
    """Write every sequence into the folder `out`, under the name that it had."""
    for number, slices in edited.items():
        name, stored = source.held[number]
        nifti.write_stored(stored, slices, out / name, provenance)
