"""Painting into slices: crop around the region, sample, put back; all other pixels untouched."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import COMPONENTS, KEEP, SEQUENCES, TUMOUR_FREE, UNKNOWN_SEQUENCE
from polyclinic.inpaint.conditioning import DIFFUSED, Request
from polyclinic.inpaint.feather import feathered
from polyclinic.inpaint.grain import grained
from polyclinic.inpaint.intensity import BLACK
from polyclinic.inpaint.objectives import Levels, Objective
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.regions import Region
from polyclinic.models.device import device
from polyclinic.seeding import derive, generator

Mode = Literal["sample", "mean"]
Report = Callable[[float], None]
"""Hears the share of the work that is done, 0..1."""
MOST_GUIDANCE = 10
"""Above, what is painted is a pattern of black and white."""
MARGIN = 0.35
"""Surroundings that the model sees on every side of a region, as a share of a training crop."""
CONTOUR_FROM = tuple(SEQUENCES.index(name) for name in ("t2f", "t1c", "t2w", "t1n"))
"""The first of these that is there decides the contour in boxes: where tumours show best."""
SMOOTHING = 1.5
"""Standard deviation, px of a training crop, of what smooths the map that contours come from."""
LEAST_SHARE = 0.1
"""Share of a box that is tumour where the map says that nothing is."""
MAX_CROP = 2.0
"""Largest crop, in sides of a training crop: a larger one is shrunk."""


@dataclass(frozen=True)
class Settings:
    """How to paint. `mode` `sample` draws one of the possible images; `mean` averages them, which
    is nearest to the truth and smoother than it, takes twice as long, and knows no guidance and no
    seed. `feather` softens the border (`polyclinic.inpaint.feather`); `grain` gives samples the
    noise of their surroundings (`polyclinic.inpaint.grain`). `power` and `lowest` space the levels
    of noise (`polyclinic.inpaint.objectives.Levels`); None stands for those of the painter's
    objective, and records of edits have the numbers."""

    steps: int = 4
    guidance: float = 1.5  # benchmarks/painter_settings.py
    seed: int = 0
    mode: Mode = "sample"
    feather: bool = True
    grain: bool = True
    power: float | None = None
    lowest: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps: expected 1 or more, got {self.steps}")
        if not 1 <= self.guidance <= MOST_GUIDANCE:
            raise ConfigError(
                f"guidance: expected a number from 1 to {MOST_GUIDANCE}, got {self.guidance}"
            )
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}")
        if self.mode not in ("sample", "mean"):
            raise ConfigError(f"mode: expected sample or mean, got {self.mode!r}")
        if self.power is not None and not (math.isfinite(self.power) and self.power > 0):
            raise ConfigError(f"power: expected a finite number above 0, got {self.power}")
        if self.lowest is not None and not 0 <= self.lowest < 1:
            raise ConfigError(f"lowest: expected a level from 0 to below 1, got {self.lowest}")

    def levels_for(self, objective: Objective) -> Levels:
        """The levels that a painter of this objective uses."""
        usual = objective.levels
        return Levels(
            usual.power if self.power is None else self.power,
            usual.lowest if self.lowest is None else self.lowest,
        )

    def said_for(self, objective: Objective) -> "Settings":
        """The same, with the numbers of the levels that a painter of this objective uses: they stay
        what they are when the objective's change."""
        levels = self.levels_for(objective)
        return replace(self, power=levels.power, lowest=levels.lowest)


@dataclass(frozen=True)
class Painted:
    """`slices` float32 (Z, H, W): scaled intensities. `realised` int8 (Z, H, W): the component
    that each painted pixel has, `KEEP` elsewhere; in boxes the model has chosen the contour."""

    slices: NDArray[np.float32]
    realised: NDArray[np.int8]


def tell_nobody(_: float) -> None:
    """A `Report` that does nothing."""


def part_of(report: Report, number: int, count: int) -> Report:
    """The `Report` of part `number`, from 0, of `count` equal parts."""
    return lambda share: report((number + share) / count)


def paint_sequences(
    painter: Painter,
    volumes: Mapping[int, NDArray[np.float32]],
    regions: list[Region],
    head_px: float,
    settings: Settings,
    report: Report = tell_nobody,
) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.int8]]:
    """Paint the same regions into every sequence of a case: its volumes, and what was realised.

    The first of `CONTOUR_FROM` that is there decides the contour in boxes; the others are shown
    what was painted into it, so that shapes agree. `volumes` as in `Case`, (Z, H, W) each.
    """
    out: dict[int, NDArray[np.float32]] = {}
    first: NDArray[np.float32] | None = None
    order = sorted(volumes, key=(*CONTOUR_FROM, UNKNOWN_SEQUENCE).index)
    for turn, number in enumerate(order):
        told = part_of(report, turn, len(order))
        painted = paint(painter, volumes[number], regions, number, head_px, settings, first, told)
        out[number] = painted.slices
        regions = [Region(plane, np.zeros(plane.shape, bool)) for plane in painted.realised]
        first = painted.slices if first is None else first
    return out, np.stack([region.fill_map for region in regions])


def paint(
    painter: Painter,
    slices: NDArray[np.float32],
    regions: list[Region],
    sequence: int,
    head_px: float,
    settings: Settings,
    other: NDArray[np.float32] | None = None,
    report: Report = tell_nobody,
) -> Painted:
    """Paint `regions`, one a slice, into neighbouring axial slices (Z, H, W), scaled intensities.

    Parts of the regions that lie far from each other are painted in turn. All slices begin with the
    same noise. The slice with most to paint comes first; the others follow outwards from it, each
    shown the painted slice beside it. A slice with a box is painted twice: the first painting
    decides the contour, and gives way to one that keeps to it. Last, borders are softened, and
    samples get grain. `other` (Z, H, W) is another sequence of these slices, which is painted
    already. `head_px` is the head's extent in these slices. Raises `DataError` where there is
    nothing to paint.
    """
    left = np.stack([region.fill_map for region in regions])
    boxes = np.stack([region.boxes for region in regions]).astype(np.int16)
    if (left == KEEP).all():
        raise DataError("the region is empty: no pixel of the image is to be painted")
    out, realised, done = slices.copy(), left.copy(), 0
    total = int((left != KEEP).sum())
    for number, part in enumerate(_parts((left != KEEP).any(axis=0), painter, head_px)):
        window = _window(part, painter, head_px)
        noise = _noise(window, settings, number)
        own = (left != KEEP) & part
        for z, toward in _outwards(own.sum(axis=(1, 2))):
            request = functools.partial(
                window.request,
                _without(out[z], left[z] != KEEP),
                sequence=sequence,
                beside=None if toward is None else _without(out[toward], left[toward] != KEEP),
                other=None if other is None else other[z],
            )
            box = (boxes[z] > 0) & (left[z] > TUMOUR_FREE) & own[z]
            if box.any():
                x = _sample(painter, request(left[z], boxes[z] > 0), noise, settings)
                each = np.where(box, boxes[z] * len(COMPONENTS) + left[z], 0)
                tumour = contour(window.back(_smooth(x[0, 1]), box.shape), each)
                left[z] = np.where(box & ~tumour, TUMOUR_FREE, left[z])
                realised[z] = np.where(box, left[z], realised[z])
                boxes[z][box] = 0
            x = _sample(painter, request(left[z], boxes[z] > 0), noise, settings)
            out[z] = np.where(own[z], window.back(x[0, 0], out[z].shape), out[z])
            left[z] = np.where(own[z], KEEP, left[z])
            done += int(own[z].sum())
            report(done / total)
    for z in np.flatnonzero((realised != KEEP).any(axis=(1, 2))).tolist():
        painted = realised[z] != KEEP
        if settings.feather:
            out[z] = feathered(out[z], painted)
        if settings.grain and settings.mode == "sample":
            rng = np.random.default_rng(derive(settings.seed, "grain", sequence, z))
            out[z] = grained(out[z], realised[z], head_px, rng)
    return Painted(out, realised)


def contour(
    tumour_map: NDArray[np.float32], boxes: NDArray[np.integer] | NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Where the tumour is in each connected piece of the same number, not 0, in `boxes` (H, W): the
    largest piece in which the map (H, W) is positive, holes filled; where there is none, the tenth
    of the box with the highest values."""
    found = np.zeros(boxes.shape, bool)
    for here in _pieces(boxes):
        inside = here & (tumour_map > 0)
        if not inside.any():
            inside = here & (tumour_map >= np.quantile(tumour_map[here], 1 - LEAST_SHARE))
        pieces, _ = ndimage.label(inside)
        largest = pieces == np.bincount(pieces[inside]).argmax()
        found |= ndimage.binary_fill_holes(largest) & here
    return found


def _pieces(boxes: NDArray[Any]) -> Iterator[NDArray[np.bool_]]:
    for box in np.unique(boxes[boxes > 0]):
        labels, count = ndimage.label(boxes == box)
        yield from (labels == number for number in range(1, count + 1))


def _parts(
    painted_mask: NDArray[np.bool_], painter: Painter, head_px: float
) -> list[NDArray[np.bool_]]:
    """Parts (H, W) of what is to be painted that are too far apart to see each other."""
    config = painter.network.config
    reach = MARGIN * config.crop / config.scale(head_px)
    near = ndimage.distance_transform_edt(~painted_mask) <= reach
    labels, count = ndimage.label(near)
    return [painted_mask & (labels == number) for number in range(1, count + 1)]


def _outwards(amounts: NDArray[np.integer]) -> Iterator[tuple[int, int | None]]:
    """Slices to paint, and the one beside each that comes before it: none for the first."""
    first = int(amounts.argmax())
    for z in (*range(first, len(amounts)), *range(first - 1, -1, -1)):
        if amounts[z]:
            yield z, None if z == first else z - 1 if z > first else z + 1


@dataclass(frozen=True)
class _Window:
    """The part of a slice that the network sees: rows and columns from `top`, `left`, `height` by
    `width` pixels (parts outside the slice are air), shown to it as `size` pixels."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]

    def cut(self, plane: NDArray[np.generic], outside: float) -> Tensor:
        """The window's pixels, float (1, 1, height, width)."""
        cut = np.full((self.height, self.width), outside, np.float32)
        rows = slice(max(0, self.top), min(plane.shape[0], self.top + self.height))
        columns = slice(max(0, self.left), min(plane.shape[1], self.left + self.width))
        cut[
            rows.start - self.top : rows.stop - self.top,
            columns.start - self.left : columns.stop - self.left,
        ] = plane[rows, columns]
        return torch.from_numpy(cut)[None, None]

    def shown(self, plane: NDArray[np.generic], outside: float, smooth: bool = True) -> Tensor:
        """The window as the network sees it, float (1, 1, *size)."""
        cut = self.cut(plane, outside)
        if self.size == (self.height, self.width):
            return cut
        if smooth:
            return F.interpolate(cut, self.size, mode="bilinear", antialias=True)
        return F.adaptive_max_pool2d(cut, self.size)  # no pixel of a region gets lost

    def request(
        self,
        plane: NDArray[np.float32],
        fill_map: NDArray[np.int8],
        boxed: NDArray[np.bool_],
        sequence: int,
        beside: NDArray[np.float32] | None,
        other: NDArray[np.float32] | None,
    ) -> Request:
        fill = self.shown(fill_map, KEEP, smooth=False)
        known = self.shown(plane, BLACK)
        nothing = torch.zeros_like(known)
        request = Request(
            known=known,
            fill_map=fill[:, 0].long(),
            boxed=self.shown(boxed, 0, smooth=False)[:, 0] > 0,
            sequence=torch.tensor([sequence]),
            beside=nothing if beside is None else self.shown(beside, BLACK),
            has_beside=torch.tensor([beside is not None]),
            other=nothing if other is None else self.shown(other, BLACK),
            has_other=torch.tensor([other is not None]),
            dropped=torch.tensor([False]),
        )
        return request.to(device())

    def back(self, x: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A plane of `shape` with what the network painted (size) in its place, 0 elsewhere."""
        painted = x.cpu()[None, None]
        if self.size != (self.height, self.width):
            painted = F.interpolate(painted, (self.height, self.width), mode="bicubic")
        plane = np.zeros(shape, np.float32)
        rows = slice(max(0, self.top), min(shape[0], self.top + self.height))
        columns = slice(max(0, self.left), min(shape[1], self.left + self.width))
        plane[rows, columns] = painted[0, 0].numpy()[
            rows.start - self.top : rows.stop - self.top,
            columns.start - self.left : columns.stop - self.left,
        ]
        return plane


def _window(painted_mask: NDArray[np.bool_], painter: Painter, head_px: float) -> _Window:
    """Around everything that is to be painted, at the resolution that the painter knows."""
    config = painter.network.config
    scale = config.scale(head_px)
    rows, columns = np.flatnonzero(painted_mask.any(1)), np.flatnonzero(painted_mask.any(0))
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    largest = MAX_CROP * config.crop
    scale = min(scale, largest / (longest + 2 * MARGIN * config.crop / scale))
    sides, starts, sizes = [], [], []
    for line in (rows, columns):
        shown = (line[-1] - line[0] + 1) * scale + 2 * MARGIN * config.crop
        size = max(config.crop, int(np.ceil(shown / config.stride)) * config.stride)
        side = size if scale == 1 else round(size / scale)
        sizes.append(size)
        sides.append(side)
        starts.append(int((line[0] + line[-1] + 1) // 2 - side // 2))
    return _Window(starts[0], starts[1], sides[0], sides[1], (sizes[0], sizes[1]))


def _without(plane: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`plane` with the nearest other pixel in place of each in `mask`: resizing must not carry
    what is to be painted over into its surroundings."""
    if mask.all():
        return np.full_like(plane, BLACK)
    nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    filled: NDArray[np.float32] = plane[tuple(nearest)]
    return filled


def _noise(window: _Window, settings: Settings, part: int) -> Tensor:
    gen = generator(settings.seed, "paint", part)
    return torch.randn(1, DIFFUSED, *window.size, generator=gen).to(device())


def _smooth(tumour_map: Tensor) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(tumour_map.cpu().numpy(), SMOOTHING))


def _sample(painter: Painter, request: Request, noise: Tensor, settings: Settings) -> Tensor:
    """What the network makes of a request, (1, 2, *size)."""
    levels = settings.levels_for(painter.objective)
    if settings.mode == "mean":
        return painter.mean(request, settings.steps, levels)
    if painter.objective.name == "regression":
        raise ConfigError("mode: a painter trained with `regression` has only the mode `mean`")
    return painter.sample(request, noise, settings.steps, levels, guidance=settings.guidance)
