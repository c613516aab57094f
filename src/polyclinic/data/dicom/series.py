"""Slices of a series: in which order they lie, and where in the patient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_FLAT = 1e-9
"""Determinant below which an affine says no place in space."""


def normal(dataset: Any) -> NDArray[np.float64]:
    """The direction (3,) across the plane of a slice, in DICOM's axes (left, posterior, head)."""
    across, down = np.split(_numbers(dataset.ImageOrientationPatient), 2)
    return np.cross(across, down)


def places(datasets: Sequence[Any]) -> tuple[list[float], str]:
    """A number for each slice, in whose order they lie, and what it is.

    Positions along the normal of the first slice's plane, mm; where they are not given, instance
    numbers.
    """
    if all("ImagePositionPatient" in d and "ImageOrientationPatient" in d for d in datasets):
        across = normal(datasets[0])
        found = [float(across @ _numbers(d.ImagePositionPatient)) for d in datasets]
        return [round(place, 3) for place in found], "position"
    return [float(d.get("InstanceNumber") or 0) for d in datasets], "instance number"


def affine_of(datasets: Sequence[Any]) -> NDArray[np.float64] | None:
    """From (column, row, slice) to mm, (4, 4), x to the right, y to anterior, z up.

    None where the slices, in order, do not say. DICOM's x runs to the patient's left and its y to
    posterior (PS3.3 C.7.6.2.1.1).
    """
    first, last = datasets[0], datasets[-1]
    if any(not dataset.get(keyword) for dataset in datasets for keyword in _NEEDED):
        return None
    start, spacing = _numbers(first.ImagePositionPatient), _numbers(first.PixelSpacing)
    across, down = np.split(_numbers(first.ImageOrientationPatient), 2)
    if len(datasets) > 1:
        step = (_numbers(last.ImagePositionPatient) - start) / (len(datasets) - 1)
    else:
        thickness = first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1
        step = normal(first) * abs(float(thickness))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * spacing[1], down * spacing[0], step], axis=1)
    affine[:3, 3] = start
    affine[:2] *= -1
    return None if abs(np.linalg.det(affine[:3, :3])) < _FLAT else affine


def _numbers(values: Any) -> NDArray[np.float64]:
    return np.array([float(value) for value in values], np.float64)
