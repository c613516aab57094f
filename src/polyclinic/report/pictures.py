"""Example pictures as data URIs, and the contours of segmentations drawn over them.

Pictures are decoded and written again, so that nothing but pixels reaches the report: a PNG's text
chunks may carry a patient's name.
"""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from polyclinic.data.dataset import IGNORE
from polyclinic.errors import RunError

TRUTH_COLOUR = (86, 180, 233)  # sky blue and orange of Okabe and Ito: safe for colour blindness
PREDICTED_COLOUR = (230, 159, 0)
OVERLAY_SIDE = 320  # px, at least; contours need room that a small image does not have
MAX_PIXELS = 16_000_000


def inside(run: Path, relative: str) -> Path:
    """`run / relative`; `RunError` where that leaves the run directory (also by a link)."""
    try:
        path = (run / relative).resolve()
        leaves = Path(relative).is_absolute() or not path.is_relative_to(run.resolve())
    except (OSError, ValueError, RuntimeError):
        leaves = True
    if leaves:
        raise RunError(
            f"{run / 'results.json'}: picture {relative!r} lies outside the run directory; "
            "expected a relative path within it"
        )
    return path


def picture_uri(run: Path, relative: str) -> str | None:
    """The picture as a data URI, or None when it is missing or unreadable."""
    image = _open(inside(run, relative))
    return None if image is None else picture_data(image)


def overlay_uri(run: Path, image: str, truth_mask: str, predicted_mask: str) -> str | None:
    """The picture, enlarged, with both contours; None when one of the three is missing.

    The truth is a broad line in `TRUTH_COLOUR`, the prediction a thin one in `PREDICTED_COLOUR`
    on top of it: both stay visible where they coincide, and on paper without colour.
    """
    paths = [inside(run, name) for name in (image, truth_mask, predicted_mask)]
    picture, truth, predicted = (_open(path) for path in paths)
    if picture is None or truth is None or predicted is None:
        return None
    if not picture.size == truth.size == predicted.size:
        return None
    return picture_data(overlay(picture, _labels(truth), _labels(predicted)))


def overlay(
    image: Image.Image, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]
) -> Image.Image:
    """Draw the contours of two label maps (H, W) over `image` of the same size."""
    factor = max(1, -(-OVERLAY_SIDE // max(image.size)))
    size = (image.width * factor, image.height * factor)
    pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)).copy()
    for labels, colour, width in ((truth, TRUTH_COLOUR, 7), (predicted, PREDICTED_COLOUR, 3)):
        large = labels.repeat(factor, axis=0).repeat(factor, axis=1)
        pixels[contour(large, width)] = colour
    return Image.fromarray(pixels)


def contour(labels: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Where the label changes between neighbours, as a line about `width` px broad, (H, W)."""
    line = np.zeros(labels.shape, dtype=np.bool_)
    line[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    line[1:, :] |= labels[1:, :] != labels[:-1, :]
    broad: NDArray[np.bool_] = ndimage.maximum_filter(line, size=width)
    return broad


def _labels(mask: Image.Image) -> NDArray[np.uint8]:
    # A palette image holds indices already; convert("L") would turn them into brightness.
    labels = np.asarray(mask if mask.mode in ("L", "P") else mask.convert("L")).astype(np.uint8)
    return np.where(labels == IGNORE, np.uint8(0), labels)


def _open(path: Path) -> Image.Image | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            return image.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def picture_data(image: Image.Image) -> str:
    """A picture as a data URI that holds its pixels and nothing else."""
    clean = image if image.mode in ("L", "RGB") else image.convert("RGB")
    clean.info = {}
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
