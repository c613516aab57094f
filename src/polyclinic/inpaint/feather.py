"""The border of what was painted: softened, so that no step shows where painted meets known.

The network knows the pixels around a region and yet misses them by a little, all along the border
and to the same side: a step that an eye finds at once, and a classifier too.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)


def feathered(plane: NDArray[np.float32], painted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`plane` (H, W) with the outermost of the pixels `painted` half way to the known ones beside
    them; all others as before.

    Outermost is what shares an edge with a known pixel; it moves towards the mean of those.
    """
    known = ~painted
    count = ndimage.correlate(known.astype(np.float32), _NEIGHBOURS, mode="constant")
    total = ndimage.correlate(np.where(known, plane, 0), _NEIGHBOURS, mode="constant")
    half_way = (plane + total / np.maximum(count, 1)) / 2
    return np.where(painted & (count > 0), half_way, plane).astype(np.float32)
