"""Fill regions to train on: parts of tumours and boxes around them, and shapes on healthy tissue.

Every draw takes a component map (H, W) and the head (H, W) of a crop and returns a fill map and
the pixels of boxes, or None where the crop offers no such region. Pixels are asked to be what they
are: the image itself is the answer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.inpaint.components import CORE, ENHANCING, KEEP, MIXED, OEDEMA, TUMOUR_FREE

Mask = NDArray[np.bool_]
MIN_PIXELS = 6
"""Smaller parts are no region of their own."""
MAX_OTHERS = 0.05
"""A box around a part holds no more than this share of other parts."""
FIRST_ASKED = {CORE: 0.25, OEDEMA: 0.4, ENHANCING: 0.35}
"""How often each part is asked for before others join it, where all are there."""


@dataclass(frozen=True)
class Region:
    """What to paint where: `fill_map` int8 (H, W) of component numbers or `KEEP`; `boxes` (H, W)
    the number of the box that a pixel lies in, where the model chooses the contour, 0 elsewhere;
    a mask where there is no more than one."""

    fill_map: NDArray[np.int8]
    boxes: NDArray[np.int16] | Mask

    @property
    def boxed(self) -> Mask:
        """Bool (H, W): where the model chooses the contour."""
        return self.boxes > 0


@dataclass(frozen=True)
class Mixture:
    """How often each kind of region is trained on; shares of all crops."""

    on_tumour: float = 0.6  # of crops that show a tumour: a region of tumour
    boxed: float = 0.35  # of regions of tumour: boxes rather than contours
    as_mixture: float = 0.3  # of regions of tumour: all parts together, as a mixture
    ringed: float = 0.5  # of regions of tumour: tissue around it is painted anew as well
    joined: float = 0.4  # of the other parts of a tumour: asked for in the same run
    also_healthy: float = 0.3  # of regions of tumour: with a tumour-free one in the same run
    brushed: float = 0.35  # of tumour-free regions: brush strokes rather than tumours' shapes
    healthy_boxes: float = 0.15  # of tumour-free regions: boxes
    beyond_head: float = 0.15  # of tumour-free regions: not cut off at the skull
    whole: float = 0.02  # of all crops: nothing is known, all of it is to be painted


def draw_region(
    components: NDArray[np.uint8],
    head: Mask,
    shapes: list[Mask],
    rng: np.random.Generator,
    mixture: Mixture,
) -> Region:
    """A region for one crop. `shapes` are outlines of real tumours, cut out."""
    region = empty(components.shape)
    tumour = components > 0
    if rng.random() < mixture.whole and not tumour.any():
        return overlay(region, ~tumour, TUMOUR_FREE)
    on_tumour = bool(tumour.sum() >= MIN_PIXELS) and rng.random() < mixture.on_tumour
    if on_tumour:
        region = _on_tumour(components, rng, mixture)
        if rng.random() < mixture.ringed:
            region = ring(region, tumour, int(rng.integers(1, 5)))
    if not on_tumour or rng.random() < mixture.also_healthy:
        within = head | (rng.random() < mixture.beyond_head)
        free = within & ~tumour & (region.fill_map == KEEP)
        region = overlay(region, healthy_shape(free, shapes, rng, mixture), TUMOUR_FREE)
    if (region.fill_map == KEEP).all():  # neither tumour nor room: a square of what is there
        square = np.zeros(components.shape, bool)
        row, column = (int(rng.integers(0, side // 2)) for side in components.shape)
        square[row : row + components.shape[0] // 4, column : column + components.shape[1] // 4] = 1
        region = overlay(region, square & ~tumour, TUMOUR_FREE)
    return region


def ring(region: Region, tumour: Mask, width: int) -> Region:
    """`region` with `width` px of tumour-free tissue asked for around what is painted.

    The blurred edge of a tumour would tell where it was; healthy tissue has none.
    """
    painted = region.fill_map != KEEP
    around = ndimage.binary_dilation(painted, iterations=width) & ~painted & ~tumour
    return overlay(region, around, TUMOUR_FREE)


def empty(shape: tuple[int, ...]) -> Region:
    """A region that paints nothing."""
    return Region(np.full(shape, KEEP, np.int8), np.zeros(shape, bool))


def overlay(region: Region, mask: Mask, component: int, boxed: int = False) -> Region:
    """`region` with `component` asked for in `mask`, over what was asked for there before.

    `boxed` is the number of the box, 0 or False where the contour is exact.
    """
    fill_map = np.where(mask, component, region.fill_map).astype(np.int8)
    return Region(fill_map, np.where(mask, boxed, region.boxes).astype(np.int16))


def smallest_box(mask: Mask) -> tuple[slice, ...]:
    """Of all that is set in a mask of any shape, where something is: a slice for each axis."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(box)


def box_around(mask: Mask, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Mask:
    """The smallest upright box around `mask`, wider by `margins` px: top, bottom, left, right."""
    box = np.zeros(mask.shape, bool)
    rows, columns = smallest_box(mask)
    top, bottom, left, right = margins
    box[
        max(0, rows.start - top) : rows.stop + bottom,
        max(0, columns.start - left) : columns.stop + right,
    ] = True
    return box


def _loose_box(mask: Mask, rng: np.random.Generator) -> Mask:
    """A box as people draw them: near to what will be inside, or up to 60 % wider on a side."""
    extents = np.repeat([line.stop - line.start for line in smallest_box(mask)], 2)
    top, bottom, left, right = (int(m) for m in 0.6 * rng.uniform(0, 1, 4) ** 2 * extents)
    return box_around(mask, (top, bottom, left, right))


def _on_tumour(components: NDArray[np.uint8], rng: np.random.Generator, mixture: Mixture) -> Region:
    region = empty(components.shape)
    tumour = components > 0
    sizes = np.bincount(components[tumour], minlength=1 + MIXED)
    present = [int(c) for c in np.flatnonzero(sizes >= MIN_PIXELS)] or [int(sizes.argmax())]
    boxed = rng.random() < mixture.boxed
    if rng.random() < mixture.as_mixture or MIXED in present:
        return overlay(region, _loose_box(tumour, rng) if boxed else tumour, MIXED, boxed)
    weights = np.array([FIRST_ASKED[c] for c in present])
    first = int(rng.choice(present, p=weights / weights.sum()))
    for component in present:
        if component != first and rng.random() >= mixture.joined:
            continue
        part = components == component
        if not boxed:
            region = overlay(region, part, component)
            continue
        box, others = _loose_box(part, rng), tumour & ~part
        if (box & others).sum() > MAX_OTHERS * box.sum():
            # holes would tell the contour, and nobody draws a box with holes
            return overlay(empty(components.shape), _loose_box(tumour, rng), MIXED, boxed=True)
        region = overlay(region, box & ~others & (region.fill_map == KEEP), component, boxed=True)
    return region


def healthy_shape(
    free: Mask, shapes: list[Mask], rng: np.random.Generator, mixture: Mixture
) -> Mask:
    """A region within `free`: a tumour's outline, a box, or brush strokes."""
    places = np.argwhere(free)
    if len(places) == 0:
        return np.zeros(free.shape, bool)
    centre = places[rng.integers(len(places))]
    kind = rng.random()
    if kind < mixture.brushed or not shapes:
        return brush(free.shape, centre, rng) & free
    shape = deform(shapes[rng.integers(len(shapes))], rng)
    if kind < mixture.brushed + mixture.healthy_boxes:
        shape = np.ones_like(shape)
    return stamp(free.shape, shape, centre) & free


def brush(shape: tuple[int, ...], start: NDArray[np.integer], rng: np.random.Generator) -> Mask:
    """A few strokes of a round brush from `start` (row, column)."""
    painted = np.zeros(shape, bool)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    where = start.astype(float)
    heading = rng.uniform(0, 2 * np.pi)
    radius = rng.uniform(0.03, 0.1) * min(shape)
    for _ in range(int(rng.integers(3, 12))):
        painted |= (rows - where[0]) ** 2 + (columns - where[1]) ** 2 <= radius**2
        heading += rng.normal(0, 0.6)
        where += radius * np.array([np.sin(heading), np.cos(heading)])
    return painted


def deform(shape: Mask, rng: np.random.Generator) -> Mask:
    """An outline turned, stretched, mirrored and bent at random; the result fits its array."""
    soft = np.pad(shape, max(shape.shape) // 3 + 1).astype(np.float32)
    source = warp(soft.shape, soft.shape, max(shape.shape), rng)
    values = ndimage.map_coordinates(soft, source, order=1).reshape(soft.shape)
    bent = values > 0.5
    if not bent.any():
        return shape
    cut: Mask = bent[smallest_box(bent)]
    return cut


def warp(
    shape: tuple[int, ...],
    source: tuple[int, ...],
    extent: int,
    rng: np.random.Generator,
    zoom: float = 1.0,
) -> NDArray[np.float64]:
    """Rows and columns, (2, pixels), in an array of `source` for the pixels of one of `shape`.

    A random turn, stretch and mirroring about the middles of both, at `zoom` times the size, and a
    smooth bend of typically 8 % of `extent`, px.
    """
    angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.2, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(stretch * rng.choice([-1, 1], 2)) / zoom
    here, there = ((np.array(sides)[:, None] - 1) / 2 for sides in (shape, source))
    grid = np.indices(shape).reshape(2, -1) - here
    coarse = rng.normal(0, 1, (2, 4, 4))
    down, along = (_between(4, side) for side in shape)
    bend = down @ coarse @ along.T
    places: NDArray[np.float64] = matrix @ grid + there + bend.reshape(2, -1) * 0.08 * extent
    return places


def _between(knots: int, side: int) -> NDArray[np.float64]:
    """Weights (side, knots) of linear interpolation, from the first knot to the last."""
    places = np.linspace(0, knots - 1, side)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(knots)))
    return weights


def stamp(shape: tuple[int, ...], outline: Mask, centre: NDArray[np.integer]) -> Mask:
    """`outline` laid over an empty array, its middle at `centre` (row, column), cut at the edge."""
    placed = np.zeros(shape, bool)
    places = np.argwhere(outline) - np.array(outline.shape) // 2 + centre
    inside = ((places >= 0) & (places < np.array(shape))).all(axis=1)
    placed[tuple(places[inside].T)] = True
    return placed
