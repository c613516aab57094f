"""Regions as people give them: a box, a mask, or a drawing in the published colours."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.files import is_image
from polyclinic.data.images import read_image, read_label_map
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import COMPONENTS, KEEP, from_colours
from polyclinic.inpaint.files.nifti import read_stored
from polyclinic.inpaint.files.source import Source
from polyclinic.inpaint.regions import Region, empty, overlay

SAME_PLACE = 1e-2
"""Affines of a mask and its image may differ by so many mm."""
_BOX = re.compile(r"box:(-?\d+),(-?\d+),(-?\d+),(-?\d+)")


def read_region(
    spec: str | NDArray[Any],
    source: Source,
    component: int | None,
    boxed: bool = False,
    slices: tuple[int, int] | None = None,
) -> list[Region]:
    """The region `spec` of a source, one `Region` a slice.

    `spec` is `box:x0,y0,x1,y1` (columns and rows of an axial slice, the ends exclusive), the path
    of a NIfTI mask in the geometry of the source, or of an image of the size of a slice, or an
    array of booleans or whole numbers, (Z, H, W) as the source's axial slices or one slice (H, W);
    all pixels but 0 count. `component` may be None for a drawing in `components.COLOURS`. `boxed`
    leaves the contour to the model. `slices` (first, after the last) limits the region; a box or
    an image needs it where there are several slices. Raises `ConfigError`, `DataError`.
    """
    count, height, width = source.shape
    first, end = _slices(slices, count)
    if not isinstance(spec, str):
        fill_map, spec = _array(spec, component, source.shape), "region"
    elif spec.startswith("box:"):
        fill_map = _plane(_box(spec, height, width), component, spec)
    elif is_image(spec):
        fill_map = _image(spec, component, (height, width))
    else:
        fill_map = _volume(spec, component, source)
    if fill_map.ndim == 2:
        if slices is None and count > 1:
            raise ConfigError(
                f"{spec}: the image has {count} slices; say on which to paint: --slices 40:45"
            )
        fill_map = np.repeat(fill_map[None], count, axis=0)
    outside = np.ones(count, bool)
    outside[first:end] = False
    fill_map[outside] = KEEP
    if (fill_map == KEEP).all():
        raise DataError(f"{spec}: the region is empty on slices {first} to {end - 1}")
    return [Region(plane, (plane != KEEP) & boxed) for plane in fill_map]


def merge(regions: Sequence[list[Region]]) -> list[Region]:
    """Several regions as one; where they overlap, the later one counts. The boxes of each keep a
    number of their own, so that those that touch are not taken for one."""
    merged = [empty(region.fill_map.shape) for region in regions[0]]
    for number, later in enumerate(regions, 1):
        for z, region in enumerate(later):
            for component in range(len(COMPONENTS)):
                for box in (0, number):
                    mask = (region.fill_map == component) & (region.boxed == (box > 0))
                    merged[z] = overlay(merged[z], mask, component, box)
    return merged


def digest(regions: list[Region]) -> str:
    """SHA-256 of the fill map of a region."""
    fill_map = np.stack([region.fill_map for region in regions])
    return hashlib.sha256(f"{fill_map.shape}".encode() + fill_map.tobytes()).hexdigest()


def _slices(slices: tuple[int, int] | None, count: int) -> tuple[int, int]:
    if slices is None:
        return 0, count
    first, end = slices
    if not 0 <= first < end <= count:
        raise ConfigError(
            f"slices {first}:{end}: the image has slices 0 to {count - 1}; expected "
            f"first:after the last within 0:{count}"
        )
    return first, end


def _box(spec: str, height: int, width: int) -> NDArray[np.bool_]:
    match = _BOX.fullmatch(spec.replace(" ", ""))
    if match is None:
        raise ConfigError(f"{spec}: expected whole numbers, box:x0,y0,x1,y1")
    left, top, right, bottom = map(int, match.groups())
    if not (left < right and top < bottom):
        raise DataError(f"{spec}: the region is empty; expected x0 < x1 and y0 < y1")
    if left < 0 or top < 0 or right > width or bottom > height:
        raise DataError(
            f"{spec}: outside of the image; its slices are {width} px wide and {height} px high"
        )
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def _array(
    region: NDArray[Any], component: int | None, expected: tuple[int, int, int]
) -> NDArray[np.int8]:
    if region.dtype.kind not in "biu":
        raise DataError(
            f"region: an array of {region.dtype}; expected booleans or whole numbers, where all "
            "but 0 is painted"
        )
    if region.shape not in (expected, expected[1:]):
        raise DataError(
            f"region: an array of shape {region.shape}; expected {expected}, as the image, or one "
            f"slice {expected[1:]}"
        )
    return _plane(region != 0, component, "region")


def _image(spec: str, component: int | None, expected: tuple[int, int]) -> NDArray[np.int8]:
    pixels = read_image(Path(spec), spec)
    if pixels.shape[:2] != expected:
        raise DataError(
            f"{spec}: {pixels.shape[1]} x {pixels.shape[0]} px; expected the size of a slice, "
            f"{expected[1]} x {expected[0]} px"
        )
    if pixels.ndim == 2:
        return _plane(read_label_map(Path(spec), spec) != 0, component, spec)
    drawn = from_colours(pixels)
    if (drawn == KEEP).all():
        raise DataError(
            f"{spec}: in colours, but none of them means a component; expected pure cyan, red, "
            "green, blue or yellow, without blending and not from a JPEG"
        )
    return drawn if component is None else _plane(drawn != KEEP, component, spec)


def _volume(spec: str, component: int | None, source: Source) -> NDArray[np.int8]:
    stored = read_stored(Path(spec))
    grid = source.grid
    if grid is None:
        raise DataError(
            f"{spec}: {source.path} says nothing about its place in space; expected a box or an "
            "image as region"
        )
    if stored.grid.shape != grid.shape:
        raise DataError(
            f"{spec}: shape {stored.grid.shape}, the image {grid.shape}; expected the same geometry"
        )
    if not np.allclose(stored.grid.affine, grid.affine, atol=SAME_PLACE):
        raise DataError(
            f"{spec}: lies elsewhere in space than the image (their affines differ by up to "
            f"{np.abs(stored.grid.affine - grid.affine).max():.3g}); expected the same geometry"
        )
    voxels = stored.voxels
    if not np.isfinite(voxels).all():
        raise DataError(f"{spec}: a mask with NaN or infinite values; expected numbers")
    return _plane(grid.to_axial(voxels) != 0, component, spec)


def _plane(mask: NDArray[np.bool_], component: int | None, spec: str) -> NDArray[np.int8]:
    if component is None:
        raise ConfigError(
            f"{spec}: what should be painted there? Add --as with one of {', '.join(COMPONENTS)}"
        )
    return np.where(mask, component, KEEP).astype(np.int8)
