"""Does the border of a painted region show: steps across it, against those of the real image."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from polyclinic.evaluate.painting.checks import Image, Mask, expect_images


def border_step(image: Image, region: Mask) -> float:
    """Mean absolute difference between neighbours of which one is in the region, one is not.

    Neighbours share an edge and lie in the same slice. Image and region (H, W) or (Z, H, W); NaN
    where the region has no border inside the image. Raises `DataError` at other shapes or numbers
    that are not finite.
    """
    expect_images("border step", region, image)
    steps = []
    for axis in (-2, -1):
        crossing = np.diff(region, axis=axis)  # of truth values: where they differ
        steps.append(np.abs(np.diff(image.astype(np.float64), axis=axis))[crossing])
    found = np.concatenate(steps)
    return float(found.mean()) if len(found) else math.nan


def seam_ratio(painted: Image, real: Image, region: Mask) -> float:
    """The step across the region's border in the painted image over that in the real one.

    1: as steep as it was; above 1: a seam; below 1: smoother than real. NaN where the real image
    does not change across that border. Shapes and errors as `border_step`.
    """
    expect_images("seam ratio", region, painted, real)
    step = border_step(real, region)
    return border_step(painted, region) / step if step else math.nan


def displaced(region: Mask, allowed: Mask, count: int, seed: int) -> Mask:
    """At most `count` shifted copies of a region, bool (M, H, W), M = 0 where none has room.

    Every pixel of a copy and every pixel around it lies in `allowed` (H, W): usually the head
    without tumour, without the region itself and what borders on it. Places are drawn without
    replacement.
    """
    expect_images("displaced", region, allowed, dimensions="2")
    none = np.zeros((0, *region.shape), bool)
    if not region.any():
        return none
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    shape = np.pad(region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    if any(small > large for small, large in zip(shape.shape, region.shape, strict=True)):
        return none
    footprint = ndimage.binary_dilation(shape, np.ones((3, 3), bool))
    turned = footprint[::-1, ::-1].astype(np.float64)
    # forbidden pixels under the footprint, for each place of its upper left corner
    hit = signal.fftconvolve((~allowed).astype(np.float64), turned, mode="valid")
    places = np.argwhere(hit < 0.5)
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    copies = np.zeros((len(chosen), *region.shape), bool)
    for copy, (row, column) in zip(copies, places[chosen], strict=True):
        copy[row : row + shape.shape[0], column : column + shape.shape[1]] = shape
    return copies


def border_patches(
    image: Image, region: Mask, size: int, count: int, seed: int
) -> tuple[NDArray[np.float64], Mask]:
    """At most `count` patches centred on pixels of the region that touch its outside.

    Image and region (H, W), `size` px odd. Returns intensities (N, size, size) and which of the
    pixels lie in the region, bool of that shape; a patch that would reach beyond the image is not
    taken. Places are drawn without replacement.
    """
    expect_images("border patches", region, image, dimensions="2")
    # beyond the image is neither inside nor outside: its edge is no border
    rim = region & ndimage.binary_dilation(~region)
    reach = size // 2
    fits = np.zeros(region.shape, bool)
    fits[reach : region.shape[0] - reach, reach : region.shape[1] - reach] = True
    places = np.argwhere(rim & fits)
    chosen = places[np.random.default_rng(seed).permutation(len(places))[:count]]
    patches = np.zeros((len(chosen), size, size))
    insides = np.zeros((len(chosen), size, size), bool)
    for number, (row, column) in enumerate(chosen):
        rows = slice(row - reach, row + reach + 1)
        columns = slice(column - reach, column + reach + 1)
        patches[number], insides[number] = image[rows, columns], region[rows, columns]
    return patches, insides
