"""What the measures ask of their arrays: one shape, finite numbers, a region of truth values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError

Mask = NDArray[np.bool_]
Image = NDArray[np.floating[Any] | np.integer[Any]]


def expect_images(
    measure: str, region: Mask, *images: Image | Mask, dimensions: str = "23"
) -> None:
    """Raise `DataError` unless all have one shape of 2 or 3 axes and the images are finite.

    `dimensions` are the numbers of axes that `measure` understands.
    """
    expect_mask(measure, region)
    shapes = [image.shape for image in (*images, region)]
    if len(set(shapes)) > 1 or str(region.ndim) not in dimensions:
        expected = " or ".join({"2": "(H, W)", "3": "(Z, H, W)"}[d] for d in dimensions)
        raise DataError(
            f"{measure}: expected images and a region of one shape {expected}, got "
            f"{', '.join(map(str, shapes))}; cut them from the same slices"
        )
    expect_finite(measure, *images)


def expect_mask(measure: str, *masks: Mask) -> None:
    """Raise `DataError` unless all are truth values: a label map is no region."""
    for mask in masks:
        if mask.dtype != np.bool_:
            raise DataError(
                f"{measure}: expected a region of truth values (bool), got {mask.dtype}; "
                "compare label maps with the label that is meant"
            )


def expect_finite(measure: str, *arrays: Image | Mask) -> None:
    """Raise `DataError` where a number is NaN or infinite."""
    for array in arrays:
        wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
        if wrong:
            raise DataError(
                f"{measure}: expected finite numbers, got {wrong} of {array.size} that are not; "
                "leave such images out, and say how many they were"
            )
