"""Tumour-free infill by other means than the painter's, to compare it with.

Every baseline takes scaled intensities (Z, H, W) and a fill mask of that shape, and returns the
slices with the mask painted over. It reads no pixel inside the mask and changes none outside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import KEEP, TUMOUR_FREE
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Settings, paint
from polyclinic.inpaint.regions import Region
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


@dataclass(frozen=True)
class Regressor:
    """The painter's own network, trained by plain squared error: a U-Net without diffusion.

    `painter` is what a `Trainer` with `regression_plan` ends with; `sequence` and `head_px` say
    what is painted, as in `painting.paint`. Raises `ConfigError` for a painter that diffuses.
    """

    painter: Painter
    sequence: int
    head_px: float

    def __post_init__(self) -> None:
        if self.painter.objective.name != "regression":
            raise ConfigError(
                "regressor: expected a painter trained with the objective `regression`, got one "
                f"trained with `{self.painter.objective.name}`"
            )

    def __call__(
        self, slices: NDArray[np.float32], fill_mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Painted slices; where nothing is to be painted, the slices as they are."""
        _check(slices, fill_mask)
        if not fill_mask.any():
            return slices.copy()
        fill_maps = np.where(fill_mask, TUMOUR_FREE, KEEP).astype(np.int8)
        regions = [Region(fill_map, np.zeros(fill_map.shape, bool)) for fill_map in fill_maps]
        once = Settings(steps=1, mode="mean")  # there is no noise to average over
        return paint(self.painter, slices, regions, self.sequence, self.head_px, once).slices


def regression_plan(plan: PaintPlan) -> PaintPlan:
    """How to train the regressor of the same size, on the same crops, as long as `plan` says.

    It has no guidance, so no request is hidden from it.
    """
    return replace(plan, objective="regression", views=replace(plan.views, dropped=0.0))


def _slice_by_slice(
    fill: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]],
    slices: NDArray[np.float32],
    fill_mask: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """`slices` with `fill(plane, mask)` in the mask of each."""
    _check(slices, fill_mask)
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


def _check(slices: NDArray[np.float32], fill_mask: NDArray[np.bool_]) -> None:
    if slices.ndim != 3 or slices.shape != fill_mask.shape:
        raise DataError(
            f"slices of shape {slices.shape}, fill mask of shape {fill_mask.shape}; expected "
            "(Z, H, W) for both"
        )
