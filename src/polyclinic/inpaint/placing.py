"""Where a new tumour lies in a head: about where the real one lay that lends its shape.

There is no atlas: two heads are laid over each other by the boxes around them. A place is told in
extents of that box from its middle: slice, row, column.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.regions import smallest_box, warp

MIN_PIXELS = 12
"""Voxels that a tumour has at least to lend its shape, and that are painted at least."""
MARGIN = 0.03
"""Distance that a new tumour keeps from the head's edge at least, in extents of the head."""
CLEARANCE = 4
"""Pixels between a new tumour and one that stays: the borders of both blur."""
SCATTER = 0.04
"""Standard deviation of a new tumour's place about that of the real one."""
REACH = 0.1
"""How far from its drawn place, in extents of the head, a tumour may be moved to where it fits."""
SHRINKS = (1.0, 0.85, 0.7, 0.55)
"""A shape that fits nowhere is tried again at these scales."""

Corner = tuple[int, int, int]
"""The first slice, row and column of what is placed."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The box around a head: `first` and `extent` (3,), in voxels."""

    first: NDArray[np.float64]
    extent: NDArray[np.float64]

    @property
    def middle(self) -> NDArray[np.float64]:
        """Between the outer edges, with voxel 0 from 0 to 1."""
        return self.first + self.extent / 2


@dataclass(frozen=True, eq=False)
class Shape:
    """A tumour that may be lent: `parts` uint8 (n, h, w), cut out; its middle at `place` (3,) in a
    head that shows in `slices` slices and has the extent `head_px`. `margin` is how near it comes
    to the head's edge, in extents of the head."""

    parts: NDArray[np.uint8]
    place: NDArray[np.float64]
    margin: float
    slices: float
    head_px: float


def frame_of(head: NDArray[np.bool_]) -> Frame:
    """The box around a head (Z, H, W) that shows in one voxel at least."""
    box = smallest_box(head)
    first = np.array([line.start for line in box], np.float64)
    return Frame(first, np.array([line.stop for line in box]) - first)


def shape_of(case: Case, components: list[int]) -> Shape | None:
    """The shape of those parts of a case's tumour; None where it is too small to be lent."""
    parts = np.where(np.isin(case.components, components), case.components, 0).astype(np.uint8)
    if (parts > 0).sum() < MIN_PIXELS or not case.head.any():
        return None
    frame = frame_of(case.head)
    tumour = frame_of(parts > 0)
    place = (tumour.middle - frame.middle) / frame.extent
    shown = np.flatnonzero((parts > 0).any(axis=(1, 2)))
    margin = min(float(_depth(case.head[z])[parts[z] > 0].min()) for z in shown) / case.head_px
    return Shape(cut(parts), place, margin, float(frame.extent[0]), case.head_px)


def place_shape(
    target: Case, shape: Shape, rng: np.random.Generator, *, removes: bool, anywhere: bool
) -> tuple[Corner, NDArray[np.uint8]] | None:
    """Corner and parts of the shape, deformed, in the target; None where it has no room.

    It lies in the head, at least `CLEARANCE` px from any tumour that stays, about the place where
    the real one lay, or its mirror image: `SCATTER` around it, no nearer to the head's edge. With
    `anywhere` all places `MARGIN` from the edge are alike. It takes the same share of the head's
    slices.
    """
    if not target.head.any():
        return None
    frame = frame_of(target.head)
    slices = int(frame.extent[0])
    depth = min(slices, max(1, round(len(shape.parts) * slices / shape.slices)))
    chosen = ((np.arange(depth) + 0.5) / depth * len(shape.parts)).astype(int)
    parts = shape.parts[chosen]
    if not (parts > 0).any():  # two tumours, one above the other, with a gap between
        return None
    side = np.array([1, 1, rng.choice((-1, 1))])
    drawn = shape.place * side + rng.normal(0, SCATTER, 3)
    middle = frame.middle + drawn * frame.extent
    least = int(frame.first[0])
    if anywhere:
        first = int(rng.integers(least, least + slices - depth + 1))
    else:
        first = int(np.clip(round(middle[0] - depth / 2), least, least + slices - depth))
    margin = MARGIN if anywhere else max(MARGIN, shape.margin)
    free = _free(target, slice(first, first + depth), margin, removes)
    if free.sum() < MIN_PIXELS / depth:
        return None
    zoom = target.head_px / shape.head_px
    state = rng.bit_generator.state
    for shrink in SHRINKS:
        rng.bit_generator.state = state  # the same deformation, smaller
        deformed = deform_parts(parts, zoom * shrink, rng)
        corners = fitting_corners(free, np.any(deformed > 0, axis=0))
        if not len(corners) or (deformed > 0).sum() < MIN_PIXELS:
            continue
        if anywhere:
            row, column = corners[rng.integers(len(corners))]
            return (first, int(row), int(column)), deformed
        middles = corners + np.array(deformed.shape[1:]) / 2
        away = np.hypot(*(middles - middle[1:]).T)
        nearest = int(away.argmin())
        if away[nearest] <= REACH * target.head_px:
            row, column = corners[nearest]
            return (first, int(row), int(column)), deformed
    return None


def deform_parts(
    parts: NDArray[np.uint8], zoom: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A component map (n, h, w) turned, stretched, mirrored and bent in the plane at random.

    All slices and components move as one, so that they stay in contact: a `regions.warp`, at
    `zoom` times the size. The result is cut to the tumour.
    """
    height, width = parts.shape[1:]
    longest = max(height, width)
    side = int(np.ceil(3 * zoom * longest)) + 4  # room for a turned and stretched one
    source = warp((side, side), (height, width), longest, rng, zoom)
    moved = np.stack(
        [ndimage.map_coordinates(plane, source, order=0).reshape(side, side) for plane in parts]
    )
    return cut(moved) if (moved > 0).any() else parts


def cut(parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The smallest box of a component map (n, h, w) that holds its tumour."""
    return parts[smallest_box(parts > 0)]


def _free(target: Case, some: slice, margin: float, removes: bool) -> NDArray[np.bool_]:
    """Where in the plane (H, W) a tumour may lie that runs through all of these slices."""
    depth = _depth(np.all(target.head[some], axis=0))
    free: NDArray[np.bool_] = depth > max(1.0, margin * target.head_px)
    if not removes:
        tumour = np.any(target.components[some] > 0, axis=0)
        free &= ~ndimage.binary_dilation(tumour, iterations=CLEARANCE)
    return free


def _depth(head: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each pixel of (H, W) lies from what is not head, px; 0 outside."""
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(head)
    return depth


def fitting_corners(free: NDArray[np.bool_], footprint: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where the first row and column of `footprint` (h, w) may lie so that all of it is in `free`
    (H, W): places (M, 2), in order of rows."""
    if not free.any():
        return np.empty((0, 2), np.intp)
    place = smallest_box(free)
    box, first = free[place], [line.start for line in place]
    if footprint.shape[0] > box.shape[0] or footprint.shape[1] > box.shape[1]:
        return np.empty((0, 2), np.intp)
    blocked = signal.fftconvolve(
        (~box).astype(np.float64), footprint[::-1, ::-1].astype(np.float64), mode="valid"
    )
    corners: NDArray[np.intp] = np.argwhere(blocked < 0.5) + first
    return corners
