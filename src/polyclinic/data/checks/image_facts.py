"""One decoded image to its facts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.data.checks.burned_in_text import longest_line
from polyclinic.data.checks.check import THUMBNAIL, ImageFacts
from polyclinic.data.dataset import IGNORE, Item, Scan
from polyclinic.data.images import to_uint8
from polyclinic.data.quality import is_blank, pixel_digest
from polyclinic.errors import DataError


def image_facts(scan: Scan, item: Item) -> ImageFacts:
    """Decode `item` and measure it; what cannot be read gives a reason and nothing else."""
    try:
        stored, labels = scan.load(item)
        image = to_uint8(stored, item.key)
        if scan.task == "segmentation" and labels is None:
            raise DataError(f"{item.key}: has no mask")
    except DataError as error:
        return ImageFacts(reason=str(error).removeprefix(f"{item.key}: "))
    grey = as_grey(image)
    picture = Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return ImageFacts(
        shape=(image.shape[0], image.shape[1]),
        channels=image.shape[2] if image.ndim == 3 else 1,
        digest=pixel_digest(image),
        blank=is_blank(image),
        thumbnail=picture.tobytes(),
        intensity=_intensity(grey),
        characters=longest_line(grey),
        labels=() if labels is None else _label_counts(labels, len(scan.classes)),
    )


def as_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) or (H, W, C) to grey (H, W): the luma of RGB, else the mean of the channels."""
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("L"))
    mean: NDArray[np.uint8] = np.rint(image.mean(axis=2)).astype(np.uint8)
    return mean


def _intensity(grey: NDArray[np.uint8]) -> tuple[float, ...]:
    counts = np.bincount(grey.ravel(), minlength=256)
    levels, total = np.arange(256), grey.size
    mean = float(counts @ levels) / total
    spread = float(np.sqrt(max(0.0, float(counts @ (levels * levels)) / total - mean**2)))
    below = np.cumsum(counts)
    high = float(np.searchsorted(below, 0.95 * total))
    steps = [np.abs(np.diff(grey.astype(np.int16), axis=axis)) for axis in (0, 1)]
    rough = sum(float(step.mean()) for step in steps if step.size)
    return mean, spread, high, rough / (spread + 1)


def _label_counts(labels: NDArray[Any], classes: int) -> tuple[int, ...]:
    counts = np.bincount(labels[labels != IGNORE].ravel(), minlength=classes)
    return tuple(int(count) for count in counts)
