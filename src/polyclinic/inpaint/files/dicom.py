"""DICOM: a file with one slice, or a folder with one series of them.

What is written is a new series that says in the standard's own words that it is not an
acquisition: Synthetic Data (0008,001C), Image Type, Contributing Equipment, Derivation Description.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dicom.header import is_dicom, quiet, read_dataset, reason_of
from polyclinic.data.dicom.series import affine_of, normal, places
from polyclinic.data.files import list_files, plain
from polyclinic.errors import DataError
from polyclinic.inpaint.components import UNKNOWN_SEQUENCE, described_sequence
from polyclinic.inpaint.files import dicom_output, nifti
from polyclinic.inpaint.files.dicom_pixels import Cells, read_cells
from polyclinic.inpaint.files.source import Grid, Source, Storage
from polyclinic.inpaint.provenance import Provenance

write_mask = nifti.write_mask
UNEVEN = 0.45
"""Slices may lie by that share of a step beside where even steps would put them: as far as rounded
positions do, but not as far as where one is missing."""
MR = "MR"
"""The modality that painters know, as DICOM calls it."""
_ALIKE = (
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
    "ImageOrientationPatient",
    "PixelSpacing",
)
"""What all slices of a series must share."""


def read(path: Path, sequence: int | None) -> Source:
    """A DICOM file, or all DICOM files in a folder and below it.

    Slices of a series are sorted by their positions along the normal of their plane; without
    positions, by instance number. Without `sequence`, the description of the series tells what it
    shows. Raises `DataError` for several series, uneven steps between slices, several frames,
    colours, and pixels that cannot be decoded.
    """
    named = {path.name: path} if path.is_file() else _files(path)
    read_in: list[tuple[str, Any]] = []
    for name, file in named.items():
        dataset = _dataset(file)
        if dataset is not None and "Rows" in dataset:
            read_in.append((name, dataset))
        elif path.is_file():
            raise DataError(
                f"{path}: not a DICOM image, nor PNG, JPEG, TIFF or NIfTI by its name; expected a "
                "file of one of these"
            )
    if not read_in:
        raise DataError(
            f"{path}: no DICOM images in this folder; expected the folder of one series, or of one "
            "BraTS case"
        )
    with _odd_values_allowed(path):
        _check_alike(path, read_in)
        ordered = _sorted(path, read_in)
        cells = [
            read_cells(dataset, path / name if path.is_dir() else path) for name, dataset in ordered
        ]
        datasets = [dataset for _, dataset in ordered]
        grid, stack = _grid(datasets), np.stack([cell.values for cell in cells])
    number = _sequence(datasets[0]) if sequence is None else sequence
    native = Grid(stack.shape[::-1], np.eye(4), turned=False) if grid is None else grid
    return Source(
        path,
        "dicom",
        {number: native.to_axial(stack.transpose(2, 1, 0))},
        {number: _storage(path, datasets[0], cells[0])},
        {name: named[name] for name, _ in ordered},
        grid,
        (
            native,
            [(name, dataset, cell) for (name, dataset), cell in zip(ordered, cells, strict=True)],
        ),
        _warnings(datasets[0]),
    )


def write(
    source: Source, edited: dict[int, NDArray[Any]], out: Path, provenance: Provenance
) -> None:
    """Write `out`: a file where the source is one, else a folder with a file for every slice.

    All slices are written, so that the new series is complete. Pixels that were not edited keep
    every bit, also those above Bits Stored.
    """
    native, held = source.held
    (slices,) = edited.values()
    planes = native.from_axial(slices).transpose(2, 1, 0)
    for (name, dataset, cells), plane in zip(held, planes, strict=True):
        file = out if source.path.is_file() else out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with _odd_values_allowed(source.path):
            dicom_output.write_file(dataset, cells.replaced(plane), file, provenance)


def _sequence(dataset: Any) -> int:
    """What the scanner's description says that is shown."""
    agent = bool(plain(str(dataset.get("ContrastBolusAgent") or "")).strip())
    for keyword in ("SeriesDescription", "ProtocolName"):
        said = plain(str(dataset.get(keyword) or ""))
        if (found := described_sequence(said, agent)) is not None:
            return found
    return UNKNOWN_SEQUENCE


def _warnings(dataset: Any) -> tuple[str, ...]:
    modality = plain(str(dataset.get("Modality") or MR))
    if modality == MR:
        return ()
    return (f"its modality is {modality}, expected {MR}: what is painted may mean nothing",)


def _files(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in list_files(folder)[0]}


def _dataset(path: Path) -> Any:
    """The data set in `path`; None where it is no DICOM file."""
    return read_dataset(path, str(path)) if is_dicom(path) else None


@contextmanager
def _odd_values_allowed(path: Path) -> Iterator[None]:
    """Values that break the standard do not matter unless they are needed: then `DataError`."""
    try:
        with quiet():
            yield
    except (DataError, OSError):
        raise
    except Exception as error:
        raise DataError(f"{path}: its DICOM header cannot be used ({reason_of(error)})") from None


def _check_alike(path: Path, found: list[tuple[str, Any]]) -> None:
    first_name, first = found[0]
    for name, dataset in found[1:]:
        for keyword in _ALIKE:
            expected, came = first.get(keyword), dataset.get(keyword)
            if not _same(expected, came):
                raise DataError(
                    f"{path}: {keyword} is {expected} in {first_name}, {came} in {name}; "
                    "expected the slices of one series, and nothing else in the folder"
                )


def _same(expected: Any, came: Any) -> bool:
    if expected == came:
        return True
    try:
        return bool(np.allclose(np.array(expected, float), np.array(came, float), atol=1e-4))
    except (TypeError, ValueError):
        return False


def _sorted(path: Path, found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    if len(found) == 1:
        return found
    keys, what = places([dataset for _, dataset in found])
    if len(set(keys)) < len(keys):
        raise DataError(
            f"{path}: two slices have the same {what}; expected one series with each slice once"
        )
    order = np.argsort(keys)
    if what == "position":
        _check_steps(path, [found[row][0] for row in order], np.diff(np.array(keys)[order]))
    return [found[row] for row in order]


def _check_steps(path: Path, names: list[str], steps: NDArray[np.float64]) -> None:
    """Raise `DataError` where slices are unevenly far apart: they would not show their neighbours,
    and no mask as a volume could lie where they do."""
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    places = np.cumsum([0.0, *steps])
    even = np.linspace(0, places[-1], len(places))
    if np.abs(places - even).max() > UNEVEN * usual:
        worst = int(np.abs(steps - usual).argmax())
        why = "one was missing" if steps[worst] > usual else "they were of two series"
        raise DataError(
            f"{path}: {names[worst]} and {names[worst + 1]} are {steps[worst]:g} mm apart, most "
            f"slices {usual:g} mm, as if {why}; expected even steps: a whole series, or a folder "
            "with neighbouring slices alone"
        )


def _grid(datasets: list[Any]) -> Grid | None:
    """Where (columns, rows, slices) lie; None where the files do not say."""
    affine, first = affine_of(datasets), datasets[0]
    if affine is None:
        return None
    is_axial = int(np.abs(normal(first)).argmax()) == 2
    shape = (int(first.Columns), int(first.Rows), len(datasets))
    return Grid(shape, affine, turned=is_axial or len(datasets) > 1)


def _storage(path: Path, dataset: Any, cells: Cells) -> Storage:
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # the highest value is black
        slope, intercept = -slope, slope * cells.highest
    return Storage(str(path), slope, intercept, cells.lowest, cells.highest)
