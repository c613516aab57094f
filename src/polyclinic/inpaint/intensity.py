"""Intensities that mean the same on every scanner, and the way back.

0 becomes -1, and a volume's percentile 99.5, of the voxels that are not 0, becomes 1. Where values
are negative, as after standardisation, it is the percentile 0.5 that becomes -1. The map is linear
and clips nothing, so that it can be undone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.images import HIGH_PERCENTILE, LOW_PERCENTILE, scale
from polyclinic.errors import DataError

BLACK = -1.0
"""What air is: 0 in a volume without negative values."""


@dataclass(frozen=True)
class Scaling:
    """`low` becomes -1 and `high` becomes 1."""

    low: float
    high: float

    def apply(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Scaled intensities of stored values, float32."""
        scaled = (stored.astype(np.float64) - self.low) / (self.high - self.low) * 2 - 1
        return scaled.astype(np.float32)

    def undo(self, scaled: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Stored values of scaled intensities, rounded and clipped to what `dtype` can hold."""
        stored = (scaled.astype(np.float64) + 1) / 2 * (self.high - self.low) + self.low
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            stored = np.rint(stored).clip(limits.min, limits.max)
        return stored.astype(dtype)


def as_picture(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scaled intensities (H, W) as a grey RGB picture (H, W, 3)."""
    return np.repeat(scale(plane, -1, 1)[..., None], 3, axis=-1)


def scaling_of(volume: NDArray[Any], name: str) -> Scaling:
    """The scaling of a volume or image of any shape.

    Raises `DataError`, which calls it `name`, where values are NaN or infinite, or all alike.
    """
    if wrong := int(np.count_nonzero(~np.isfinite(volume))):
        raise DataError(
            f"{name}: values that are NaN or infinite, {wrong} of {volume.size}; expected numbers "
            "everywhere, 0 where there is no image"
        )
    nonzero = volume[volume != 0]
    if nonzero.size == 0:
        raise DataError(f"{name}: all values are 0; expected an image")
    low, high = (float(v) for v in np.percentile(nonzero, (LOW_PERCENTILE, HIGH_PERCENTILE)))
    low = min(low, 0.0)  # the darkest tissue differs from scanner to scanner, air does not
    if low == high:
        high = 0.0  # one tissue, darker than the background
    return Scaling(low, high)
