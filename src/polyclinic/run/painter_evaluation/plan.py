"""Which edits a painter is judged by: planned once from a seed, and painted alike by every variant.

`infill`   tumour-free tissue on tumour-free tissue, one slice: the truth is known
`volume`   the same through neighbouring slices, as in the BraTS inpainting challenge
`tumour`   a tumour where one really is: its contour with all its parts, the same as a mixture, a
           box around all of it, a box around one part; in all sequences of the case at once
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.errors import ConfigError, DataError
from polyclinic.evaluate.painting.seams import displaced
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.components import COMPONENTS, KEEP, MIXED, TUMOUR_FREE
from polyclinic.inpaint.regions import Region, box_around, deform, empty, overlay, stamp
from polyclinic.seeding import derive

Kind = Literal["infill", "volume", "tumour"]
Shape = Literal["exact", "box"]

PARTS = "parts"
"""Asked for: the components of a tumour together, each with its contour."""
MIN_PIXELS = 12
"""Smaller tumours, parts and regions are not judged."""
MAX_OTHERS = 0.05
"""A box around a part holds no more than this share of other parts: it would have holes."""
KEEP_OFF = 2
"""Pixels around a tumour that do not count as tumour-free tissue: its border blurs."""
VOLUME_SLICES = 5
"""Neighbouring slices of a volume, at most; at least `MIN_VOLUME`."""
MIN_VOLUME = 3
SHRINKS = (1.0, 0.75, 0.55, 0.4)
"""A shape that fits nowhere is tried again at these scales."""
ATTEMPTS = 8
"""Shapes that are tried for one slice."""
REPEATED = 40
"""Sequences of each kind and shape of edits that are painted with several seeds, at most."""
SIZES = {"small": 0.1, "medium": 0.2, "large": float("inf")}
"""Size classes: the diameter of a disc of the region's area, as a share of the head's extent."""


@dataclass(frozen=True, eq=False)
class PlannedEdit:
    """One edit of a case: `regions`, one a slice, the first in slice `first`, painted into all of
    `sequences` together.

    `request` is the name of a component or `PARTS`; `repeated` asks for samples of several seeds.
    """

    number: int
    case: Case
    first: int
    sequences: tuple[int, ...]
    kind: Kind
    shape: Shape
    request: str
    regions: tuple[Region, ...]
    seed: int
    repeated: bool = False

    @property
    def fill_maps(self) -> NDArray[np.int8]:
        """What is asked for, (n, H, W)."""
        return np.stack([region.fill_map for region in self.regions])

    @property
    def fill_mask(self) -> NDArray[np.bool_]:
        """What is painted, (n, H, W)."""
        mask: NDArray[np.bool_] = self.fill_maps != KEEP
        return mask

    @property
    def volumes(self) -> dict[int, NDArray[np.float32]]:
        """What was scanned, scaled intensities, (n, H, W) for each of `sequences`."""
        part = slice(self.first, self.first + len(self.regions))
        return {number: self.case.volumes[number][part] for number in self.sequences}

    @property
    def components(self) -> NDArray[np.uint8]:
        """What was there, (n, H, W)."""
        return self.case.components[self.first : self.first + len(self.regions)]

    @property
    def middle(self) -> int:
        """The slice, from 0, with most to paint: measures of a single slice are taken there."""
        return int(self.fill_mask.sum(axis=(1, 2)).argmax())


def size_class(pixels: int, head_px: float) -> str:
    """The name in `SIZES` of a region of so many pixels in a head of that extent, px."""
    share = 2 * np.sqrt(pixels / np.pi) / head_px
    return next(name for name, limit in SIZES.items() if share < limit)


def plan_edits(
    cases: Sequence[Case],
    outlines: Sequence[NDArray[np.bool_]],
    max_slices: int | None,
    *seed: int | str,
) -> list[PlannedEdit]:
    """All edits, in an order that has nothing to do with patients: the first ones are a sample.

    `outlines` are shapes of tumours of other patients, for tumour-free regions. At most
    `max_slices` slices with a tumour are painted on, and as many tumour-free regions, patients in
    turn. Tumours are painted into all sequences of a case together; tumour-free regions into each
    by itself, with the same regions and the same seed, as no other may tell what was there. Raises
    `ConfigError`, and `DataError` where nothing can be painted.
    """
    if max_slices is not None and max_slices < 1:
        raise ConfigError(f"max_slices: expected 1 or more, got {max_slices}")
    drafts: list[tuple[Case, int, Kind, Shape, str, tuple[Region, ...]]] = []
    for case, z in _in_turn(cases, max_slices, *seed, shown=True):
        for shape, request, region in tumour_regions(case.components[z]):
            drafts.append((case, z, "tumour", shape, request, (region,)))
    if outlines:
        for case, z in _in_turn(cases, max_slices, *seed, shown=False):
            rng = np.random.default_rng(derive(*seed, "infill", case.key, z))
            for shape in ("exact", "box"):
                mask = _tumour_free_shape(_free(case, z, z + 1), outlines, shape, rng)
                if mask is not None:
                    region = overlay(empty(mask.shape), mask, TUMOUR_FREE)
                    name = COMPONENTS[TUMOUR_FREE]
                    drafts.append((case, z, "infill", shape, name, (region,)))
        for case in cases:
            volume = _volume(case, outlines, np.random.default_rng(derive(*seed, "3D", case.key)))
            if volume:
                first, regions = volume
                drafts.append((case, first, "volume", "exact", COMPONENTS[TUMOUR_FREE], regions))
    if not drafts:
        raise DataError(
            f"{len(cases)} held-out patients: nothing to paint on; expected slices that show a "
            f"tumour of {MIN_PIXELS} px at least, or room for one"
        )
    return _numbered(drafts, *seed)


def tumour_regions(components: NDArray[np.uint8]) -> Iterator[tuple[Shape, str, Region]]:
    """What is asked for on a slice with a tumour (H, W): shape, request, region.

    The whole tumour is painted over, so that no part of it tells the painter, or the segmenter,
    what was there; only in boxes around one part the others stay.
    """
    tumour = components > 0
    present = [int(c) for c in np.unique(components[tumour])]
    nothing = empty(components.shape)
    exact = nothing
    for component in present:
        exact = overlay(exact, components == component, component)
    if present != [MIXED]:
        yield "exact", PARTS, exact
    yield "exact", COMPONENTS[MIXED], overlay(nothing, tumour, MIXED)
    yield "box", COMPONENTS[MIXED], overlay(nothing, box_around(tumour), MIXED, boxed=True)
    for component in present:
        part = components == component
        box, others = box_around(part), tumour & ~part
        pure = (box & others).sum() <= MAX_OTHERS * box.sum()
        if component != MIXED and part.sum() >= MIN_PIXELS and pure:
            yield (
                "box",
                COMPONENTS[component],
                overlay(nothing, box & ~others, component, boxed=True),
            )


def _numbered(
    drafts: Sequence[tuple[Case, int, Kind, Shape, str, tuple[Region, ...]]], *seed: int | str
) -> list[PlannedEdit]:
    """The drafts in random order; those of tumour-free regions once for each sequence."""
    order = np.random.default_rng(derive(*seed, "order")).permutation(len(drafts))
    counts: dict[tuple[Kind, Shape], int] = {}
    planned: list[PlannedEdit] = []
    for case, first, kind, shape, request, regions in (drafts[row] for row in order):
        every = tuple(case.volumes)
        for sequences in [every] if kind == "tumour" else [(one,) for one in every]:
            seen = counts[kind, shape] = counts.get((kind, shape), 0) + len(sequences)
            planned.append(
                PlannedEdit(
                    number=len(planned),
                    case=case,
                    first=first,
                    sequences=sequences,
                    kind=kind,
                    shape=shape,
                    request=request,
                    regions=regions,
                    seed=derive(*seed, case.key, first, kind, shape, request) % 2**31,
                    repeated=seen <= REPEATED,
                )
            )
    return planned


def _in_turn(
    cases: Sequence[Case], most: int | None, *seed: int | str, shown: bool
) -> Iterator[tuple[Case, int]]:
    """Slices in random order, one of each patient in turn; `shown`: only those with a tumour."""
    patients: dict[str, list[list[tuple[Case, int]]]] = {}
    for case in cases:
        sizes = (case.components > 0).sum(axis=(1, 2))
        rows = np.flatnonzero(sizes >= MIN_PIXELS) if shown else np.arange(len(sizes))
        rng = np.random.default_rng(derive(*seed, "slices", case.key, int(shown)))
        slices = [(case, int(z)) for z in rng.permutation(rows)[::-1]]
        patients.setdefault(case.patient, []).append(slices)
    yield from islice(_alternating([_alternating(own) for own in patients.values()]), most)


def _alternating(lists: Sequence[Iterable[tuple[Case, int]]]) -> Iterator[tuple[Case, int]]:
    """One of each list in turn, until all are empty."""
    for turn in zip_longest(*lists):
        yield from (pair for pair in turn if pair is not None)


def _free(case: Case, first: int, stop: int) -> NDArray[np.bool_]:
    """Tumour-free tissue in all of these slices, (H, W)."""
    tumour: NDArray[np.bool_] = np.any(case.components[first:stop] > 0, axis=0)
    near = ndimage.binary_dilation(tumour, iterations=KEEP_OFF)
    free: NDArray[np.bool_] = np.all(case.head[first:stop], axis=0) & ~near
    return free


def _tumour_free_shape(
    free: NDArray[np.bool_],
    outlines: Sequence[NDArray[np.bool_]],
    shape: Shape,
    rng: np.random.Generator,
) -> NDArray[np.bool_] | None:
    """A deformed outline, or the box around one, somewhere in `free`; None where none has room."""
    centre = np.array(free.shape) // 2
    for _ in range(ATTEMPTS):
        outline = deform(outlines[int(rng.integers(len(outlines)))], rng)
        for shrink in SHRINKS:
            rows, columns = (max(1, round(side * shrink)) for side in outline.shape)
            # the nearest pixel of the outline for each of the smaller one
            small = outline[
                np.ix_(
                    (np.arange(rows) * outline.shape[0]) // rows,
                    (np.arange(columns) * outline.shape[1]) // columns,
                )
            ]
            mask = stamp(free.shape, small, centre)
            if mask.sum() < MIN_PIXELS:
                break
            if shape == "box":
                mask = box_around(mask)
            copies = displaced(mask, free, 1, int(rng.integers(2**31)))
            if len(copies):
                found: NDArray[np.bool_] = copies[0]
                return found
    return None


def _volume(
    case: Case, outlines: Sequence[NDArray[np.bool_]], rng: np.random.Generator
) -> tuple[int, tuple[Region, ...]] | None:
    """First slice and regions of a rounded shape through neighbouring slices, or None.

    Slices with a tumour are sure to be neighbours: data sets thin out the others.
    """
    shown = np.flatnonzero((case.components > 0).any(axis=(1, 2)))
    runs = np.split(shown, np.flatnonzero(np.diff(shown) > 1) + 1)
    longest = max(runs, key=len)
    if len(longest) < MIN_VOLUME:
        return None
    count = min(VOLUME_SLICES, len(longest))
    first = int(longest[(len(longest) - count) // 2])
    mask = _tumour_free_shape(_free(case, first, first + count), outlines, "exact", rng)
    if mask is None:
        return None
    depth = ndimage.distance_transform_edt(mask)
    middle = (count - 1) / 2
    regions = []
    for number in range(count):
        width = np.sqrt(1 - ((number - middle) / (middle + 1)) ** 2)  # as a ball is cut
        plane = depth > (1 - width) * depth.max()
        regions.append(overlay(empty(mask.shape), plane, TUMOUR_FREE))
    return first, tuple(regions)
