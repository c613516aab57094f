"""Tumour-free infill by other means than the painter's, to compare it with.

Every baseline takes scaled intensities (Z, H, W) and a fill mask of that shape, and returns the
slices with the mask painted over. It reads no pixel inside the mask and changes none outside.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.inpaint.training import PaintPlan

TELEA_RADIUS = 3
"""Neighbourhood, px, that a pixel is estimated from: OpenCV's usual choice."""


class Infill(Protocol):
    """The signature that all baselines share."""

    def __call__(
        self, slices: NDArray[np.float32], fill_mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Painted slices, float32 (Z, H, W)."""
        ...


def biharmonic(slices: NDArray[np.float32], fill_mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The smoothest surface through the surroundings, slice by slice.

    Scikit-image's solver of the biharmonic equation (Damelin and Hoang, arXiv 1707.06567).
    Raises `DataError` where shapes differ or a slice has no known pixel.
    """
    from skimage.restoration import inpaint_biharmonic

    def fill(plane: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        surface: NDArray[np.float64] = inpaint_biharmonic(plane.astype(np.float64), mask)
        return surface.astype(np.float32)

    return _slice_by_slice(fill, slices, fill_mask)


def telea(slices: NDArray[np.float32], fill_mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fast marching inwards from the border, slice by slice (Telea 2004, in OpenCV).

    OpenCV paints grey values of 8 bits: the range of a slice's known pixels is spread over them.
    Raises `DataError` where shapes differ or a slice has no known pixel.
    """
    import cv2

    def fill(plane: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        low, high = float(plane[~mask].min()), float(plane[~mask].max())
        step = (high - low) / 255 or 1.0  # one tissue alone has no range
        grey = np.rint((np.where(mask, low, plane) - low) / step).astype(np.uint8)
        painted = cv2.inpaint(grey, mask.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA)
        return (np.asarray(painted, np.float32) * step + low).astype(np.float32)

    return _slice_by_slice(fill, slices, fill_mask)


BASELINES: Mapping[str, Infill] = {"biharmonic": biharmonic, "telea": telea}
"""Those that need no training."""


def regression_plan(plan: PaintPlan) -> PaintPlan:
    """How to train the painter's own network by plain squared error: a U-Net without diffusion.

    Of the same size, on the same crops, as long as `plan` says. It has no guidance, so no request
    is hidden from it.
    """
    return replace(plan, objective="regression", views=replace(plan.views, dropped=0.0))


def _slice_by_slice(
    fill: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]],
    slices: NDArray[np.float32],
    fill_mask: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """`slices` with `fill(plane, mask)` in the mask of each."""
    if slices.ndim != 3 or slices.shape != fill_mask.shape:
        raise DataError(
            f"slices of shape {slices.shape}, fill mask of shape {fill_mask.shape}; expected "
            "(Z, H, W) for both"
        )
    out = slices.copy()
    for z in np.flatnonzero(fill_mask.any(axis=(1, 2))):
        mask = fill_mask[z]
        if mask.all():
            raise DataError(
                f"slice {z}: all of it is to be painted; expected surroundings to paint it from"
            )
        # what stands inside must not matter, not even as a number that overflows
        known = np.where(mask, np.float32(0), slices[z])
        out[z][mask] = fill(known, mask)[mask]
    return out
