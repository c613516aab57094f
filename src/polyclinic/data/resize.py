"""Images to one size without distortion: reduced with antialiasing, the rest filled up."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def letterbox(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) to (side, side) or (side, side, 3): fitted, centred, black around it.

    Reduced with Lanczos, which averages over what it drops; enlarged with a bicubic.
    """
    return pad(fit(image, side, enlarge=True), side, 0)


def fit(image: NDArray[np.uint8], side: int, *, enlarge: bool) -> NDArray[np.uint8]:
    """`image` with its longer side equal to `side`; a smaller one stays unless `enlarge`."""
    size = _fitted(image.shape, side, enlarge)
    if size == image.shape[:2]:
        return image
    method = Image.Resampling.LANCZOS if side < max(image.shape[:2]) else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize(size[::-1], method, reducing_gap=3.0))


def fit_labels(labels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A label map (H, W), reduced like `fit` without `enlarge`, every pixel its nearest label."""
    size = _fitted(labels.shape, side, enlarge=False)
    if size == labels.shape:
        return labels
    return np.asarray(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))


def pad(image: NDArray[np.uint8], side: int, value: int) -> NDArray[np.uint8]:
    """`image` in the centre of a square of `side` px that is `value` elsewhere."""
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    square = np.full((side, side, *image.shape[2:]), value, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _fitted(shape: tuple[int, ...], side: int, enlarge: bool) -> tuple[int, int]:
    height, width = shape[:2]
    longer = max(height, width)
    if longer == side or (longer < side and not enlarge):
        return height, width
    return max(1, round(height * side / longer)), max(1, round(width * side / longer))
