"""Regions as people give them: a box, a mask, or a drawing in the published colours."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.files import is_image
from polyclinic.data.images import read_image, read_label_map
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import COMPONENTS, KEEP, from_colours
from polyclinic.inpaint.files.masks import drawn_in_image, drawn_in_volume, is_lossy, labelled
from polyclinic.inpaint.files.nifti import EXTENSIONS, read_stored, storage_of
from polyclinic.inpaint.files.source import Source
from polyclinic.inpaint.regions import Region, empty, overlay

SAME_PLACE = 1e-2
"""Affines of a mask and its image may differ by so many mm."""
LABELS: Final = "labels"
"""In the place of a component: the numbers of a label map say it, as in BraTS."""
_NAMES = ", ".join(COMPONENTS)
_BOX = re.compile(r"box:(-?\d+),(-?\d+),(-?\d+),(-?\d+)")


def read_region(
    spec: str | NDArray[Any],
    source: Source,
    component: int | Literal["labels"] | None,
    boxed: bool = False,
    slices: tuple[int, int] | None = None,
) -> list[Region]:
    """The region `spec` of a source, one `Region` a slice.

    `spec` is `box:x0,y0,x1,y1` (columns and rows of an axial slice, the ends exclusive), the path
    of a NIfTI mask in the geometry of the source, or of an image of the size of a slice, see
    `files.masks`; or an array of booleans or whole numbers, (Z, H, W) as the source's axial slices
    or one slice (H, W), of which all but 0 counts. `component` may be None for a drawing in
    `components.COLOURS`, or `LABELS`: then each label asks for what it means in BraTS. `boxed`
    leaves the contour to the model. `slices` (first, after the last) limits the region; one slice
    needs it where the source has several. Raises `ConfigError`, `DataError`.
    """
    count, height, width = source.shape
    first, end = _slices(slices, count)
    if isinstance(spec, str):
        _check_file(spec, source)
    name = spec if isinstance(spec, str) else "region"
    if isinstance(spec, str) and spec.startswith("box:"):
        if component == LABELS:
            raise ConfigError(f"{spec}: a box has no labels; expected --as with {_NAMES}")
        fill_map = _plane(_box(spec, height, width), component, spec)
    elif component == LABELS:
        fill_map = labelled(_labels(spec, source), name)
    elif not isinstance(spec, str):
        fill_map = _plane(_array(spec, source) != 0, component, name)
    elif is_image(spec):
        fill_map = _image(spec, component, source)
    else:
        fill_map = _plane(drawn_in_volume(_volume(spec, source), spec), component, spec)
    if fill_map.ndim == 2:
        if slices is None and count > 1:
            raise ConfigError(
                f"{name}: the image has {count} slices; say on which to paint: --slices 40:45"
            )
        fill_map = np.repeat(fill_map[None], count, axis=0)
    outside = np.ones(count, bool)
    outside[first:end] = False
    fill_map[outside] = KEEP
    if (fill_map == KEEP).all():
        raise DataError(f"{name}: the region is empty on slices {first} to {end - 1}")
    return [Region(plane, (plane != KEEP) & boxed) for plane in fill_map]


def region_files(specs: Iterable[str | NDArray[Any]]) -> list[Path]:
    """The files among regions as `read_region` takes them."""
    return [Path(spec) for spec in specs if isinstance(spec, str) and not spec.startswith("box:")]


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


def _check_file(spec: str, source: Source) -> None:
    """Raise `DataError` where `spec` is no box, nor a file other than the image."""
    if spec.startswith("box:"):
        return
    expected = "expected a mask, NIfTI or an image, or box:x0,y0,x1,y1 as region"
    if not Path(spec).is_file():
        raise DataError(f"{spec or 'region'}: no such file; {expected}")
    if not (is_image(spec) or spec.lower().endswith(EXTENSIONS)):
        raise DataError(f"{spec}: neither NIfTI nor an image by its name; {expected}")
    if Path(spec).resolve() in {path.resolve() for path in source.files.values()}:
        raise DataError(f"{spec}: is the image itself; expected a mask of what to paint")


def _slices(slices: tuple[int, int] | None, count: int) -> tuple[int, int]:
    if slices is None:
        return 0, count
    if not (
        isinstance(slices, tuple | list)
        and len(slices) == 2
        and all(isinstance(number, int | np.integer) for number in slices)
    ):
        raise ConfigError(f"slices: expected (first, after the last), got {slices!r}")
    first, end = int(slices[0]), int(slices[1])
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


def _labels(spec: str | NDArray[Any], source: Source) -> NDArray[Any]:
    """A label map, (H, W) or (Z, H, W)."""
    if not isinstance(spec, str):
        return _array(spec, source)
    if not is_image(spec):
        return _volume(spec, source)
    if is_lossy(spec):
        raise DataError(f"{spec}: a format that does not keep labels; save it as PNG")
    return _sized(read_label_map(Path(spec), spec), source, spec)


def _array(region: NDArray[Any], source: Source) -> NDArray[Any]:
    if region.dtype.kind not in "biu":
        raise DataError(
            f"region: an array of {region.dtype}; expected booleans or whole numbers, where all "
            "but 0 is painted"
        )
    if region.shape not in (source.shape, source.shape[1:]):
        raise DataError(
            f"region: an array of shape {region.shape}; expected {source.shape}, as the image, or "
            f"one slice {source.shape[1:]}"
        )
    return region


def _image(spec: str, component: int | None, source: Source) -> NDArray[np.int8]:
    pixels = _sized(read_image(Path(spec), spec), source, spec)
    if pixels.ndim == 2:
        labels = read_label_map(Path(spec), spec)
        return _plane(drawn_in_image(labels, spec), component, spec)
    drawn = from_colours(pixels, spec)
    return drawn if component is None else _plane(drawn != KEEP, component, spec)


def _sized(pixels: NDArray[Any], source: Source, spec: str) -> NDArray[Any]:
    expected = source.shape[1:]
    if pixels.shape[:2] != expected:
        raise DataError(
            f"{spec}: {pixels.shape[1]} x {pixels.shape[0]} px; expected the size of a slice, "
            f"{expected[1]} x {expected[0]} px"
        )
    return pixels


def _volume(spec: str, source: Source) -> NDArray[Any]:
    """The values of a NIfTI volume as axial slices (Z, H, W), if it lies where the source does."""
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
    return storage_of(stored, Path(spec)).real(grid.to_axial(stored.voxels))


def _plane(mask: NDArray[np.bool_], component: int | None, spec: str) -> NDArray[np.int8]:
    if component is None:
        raise ConfigError(
            f"{spec}: has no colours that say what to paint; add --as with one of {_NAMES}, or "
            f"with `{LABELS}` where it holds labels as in BraTS"
        )
    return np.where(mask, component, KEEP).astype(np.int8)
