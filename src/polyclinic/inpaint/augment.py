"""New labelled cases: tumours of real shapes painted into real tumour-free tissue.

First everything is planned from a seed (which case, which slices, which shape, where), then each
plan is painted. No case that goes in is changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.data.patients import painted_key
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.components import COMPONENTS, KEEP, TUMOUR_FREE
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Settings, paint_sequences
from polyclinic.inpaint.placing import Shape, place_shape, shape_of
from polyclinic.inpaint.regions import Region
from polyclinic.seeding import derive

Balance = Literal["size", "component", "site", "none"]

REMOVED_MARGIN = 2
"""Pixels around a tumour that are painted tumour-free with it: its border blurs."""
RING = 2
"""Pixels around a new tumour that are painted with it."""
SIZES = ("small", "middle", "large")
"""Classes of equal width that `size` balances, in the logarithm of the volume: in voxels over the
square of the head's extent, as shapes are scaled to the head that they go into."""
LEAST_WIDTH = np.log(1.5)
"""Of such a class: shapes vary by as much when they are deformed."""
ATTEMPTS = 100
"""Draws of a case, a shape and a place before what is to be balanced is drawn anew; in the second
half of them a tumour may lie anywhere in the head."""


@dataclass(frozen=True, eq=False)
class PlannedEdit:
    """One case to be made. `parts` uint8 (n, h, w) are the components to paint, 0 for none, with
    their first voxel at `corner` (slice, row, column) of the case `target`; `donor` is the case
    that lent the shape; `removes` paints the target's own tumour away too. Where nothing is added,
    `parts` is empty and `donor` too. `no_room_for` is the size, component or hospital that was
    drawn for it and fits nowhere, if there is such."""

    key: str
    target: str
    donor: str
    corner: tuple[int, int, int]
    parts: NDArray[np.uint8]
    removes: bool
    seed: int
    no_room_for: str = ""

    def component_map(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """`parts` in their place in an empty volume of `shape` (Z, H, W)."""
        placed = np.zeros(shape, np.uint8)
        z, row, column = self.corner
        n, h, w = self.parts.shape
        placed[z : z + n, row : row + h, column : column + w] = self.parts
        return placed

    def settings(self, asked: Settings) -> Settings:
        """How it is painted: as asked for, with the seed that it was planned from."""
        return replace(asked, seed=self.seed)


def plan_edits(
    cases: Sequence[Case],
    count: int,
    balance: Balance,
    components: Sequence[int],
    *seed: int | str,
    sites: Mapping[str, str] | None = None,
    removes: bool = False,
) -> list[PlannedEdit]:
    """`count` edits; the first ones of a longer list are the same.

    Shapes are of the parts of real tumours that are in `components`, all parts if it is empty,
    never of the patient who is painted into, and deformed. `TUMOUR_FREE` alone adds nothing: the
    tumours of cases are painted away, each once before any comes again. `balance` draws all alike:
    `component` each component, `size` large and small tumours as they are painted, `site` the
    hospitals in `sites` (case to hospital); `none` every case. It is drawn once for an edit, and
    again only where the data have no room for it. New tumours lie about where the real ones lay
    (`placing`), clear of those that the case has, or over them if it `removes` them. Raises
    `ConfigError`, and `DataError` where there is no shape to lend or no room.
    """
    _check(cases, count, balance, components, sites)
    if TUMOUR_FREE in components:
        return _removals(cases, count, balance, sites, *seed)
    donors = _donors(cases, components)
    if not donors:
        names = ", ".join(COMPONENTS[c] for c in components) or "tumour"
        raise DataError(f"no case shows {names}; expected one at least whose shape can be lent")
    if len({case.patient for case in cases}) < 2:
        raise DataError(
            f"all usable cases are of the patient {cases[0].patient}; expected two patients at "
            "least, as nobody gets a shape of their own"
        )
    kinds = _kinds(cases, donors, balance, sites)
    return [_plan(kinds, removes, number, derive(*seed, "edit", number)) for number in range(count)]


def apply_edit(
    painter: Painter, cases: Sequence[Case], planned: PlannedEdit, settings: Settings
) -> Case:
    """The case that `planned` describes: every sequence painted, the component map to match.

    The seed is the edit's own. Intensities are not rounded, as they are in files. Raises
    `DataError` where the target is not among `cases`, or as `maps_of` does.
    """
    target = next((case for case in cases if case.key == planned.target), None)
    if target is None:
        raise DataError(f"{planned.key}: no case {planned.target!r} to paint into")
    fill_map, components = maps_of(planned, target.components)
    regions = [Region(plane, np.zeros(plane.shape, bool)) for plane in fill_map]
    chosen = planned.settings(settings)
    volumes, _ = paint_sequences(painter, target.volumes, regions, target.head_px, chosen)
    return replace(
        target, key=planned.key, volumes=volumes, components=components, head=target.head.copy()
    )


def maps_of(
    planned: PlannedEdit, components: NDArray[np.uint8], rows: Sequence[int] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """What to paint, int8 (Z, H, W), and the component map once it is painted, uint8 (Z, H, W).

    New parts and the removal of the former tumour are one edit. `components` (Z, H, W) are those of
    the target; `rows` the slices that the plan counts, all if None. Raises `DataError` where the
    edit does not fit or would cover a tumour that stays.
    """
    kept = np.zeros_like(components) if planned.removes else components
    chosen = list(range(len(components)) if rows is None else rows)
    shape = (len(chosen), *components.shape[1:])
    corner_and_extent = zip(planned.corner, planned.parts.shape, shape, strict=True)
    fits = all(first + extent <= side for first, extent, side in corner_and_extent)
    added = np.zeros_like(components)
    if fits:
        added[chosen] = planned.component_map(shape)
    if not fits or ((added > 0) & (kept > 0)).any():
        raise DataError(
            f"{planned.key}: does not fit into {planned.target} or covers its tumour; expected the "
            "cases that the edit was planned for"
        )
    fill_map = fill_map_of(added, kept)
    if planned.removes:
        fill_map[removed_mask(components) & (added == 0)] = TUMOUR_FREE
    return fill_map, np.where(added > 0, added, kept).astype(np.uint8)


def removed_mask(components: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What is painted tumour-free, (Z, H, W), to remove the tumour of `components`."""
    around = np.ones((1, 1 + 2 * REMOVED_MARGIN, 1 + 2 * REMOVED_MARGIN), bool)
    mask: NDArray[np.bool_] = ndimage.binary_dilation(components > 0, around)
    return mask


def fill_map_of(added: NDArray[np.uint8], components: NDArray[np.uint8]) -> NDArray[np.int8]:
    """What to paint, int8 (Z, H, W), for a new tumour `added` where `components` are.

    Tissue `RING` px around it is painted anew as tumour-free: a tumour's edge blurs beyond it.
    """
    disk = np.hypot(*np.mgrid[-RING : RING + 1, -RING : RING + 1]) <= RING
    around = ndimage.binary_dilation(added > 0, disk[None]) & (components == 0)
    asked = np.where(around, TUMOUR_FREE, KEEP)
    return np.where(added > 0, added, asked).astype(np.int8)


def painted_slices(case: Case, planned: PlannedEdit) -> Case:
    """Only the slices of a painted case that its new tumour lies in: the others repeat a real case,
    which would count twice in a training on both."""
    return cut_slices(case, slice(planned.corner[0], planned.corner[0] + len(planned.parts)))


def cut_slices(case: Case, some: slice) -> Case:
    """Neighbouring slices of a case alone."""
    return replace(
        case,
        volumes={number: volume[some] for number, volume in case.volumes.items()},
        components=case.components[some],
        head=case.head[some],
        rows=case.rows[some],
    )


@dataclass(frozen=True, eq=False)
class _Donor:
    """A case, and the part of its tumour that may be lent."""

    case: Case
    shape: Shape


@dataclass(frozen=True, eq=False)
class _Kind:
    """One of what is drawn alike: shapes of `donors` for the cases `targets`, which once they are
    placed show `component`, if any is given, and have a `_log_volume` of `least` up to `most`."""

    name: str
    targets: Sequence[Case]
    donors: Sequence[_Donor]
    component: int | None = None
    least: float = -np.inf
    most: float = np.inf

    def is_of(self, parts: NDArray[np.uint8], head_px: float) -> bool:
        """Whether parts of a tumour in a head of that extent, px, are of this kind."""
        shown = self.component is None or bool((parts == self.component).any())
        return shown and self.least <= _log_volume(parts, head_px) < self.most

    def of_its_own(self) -> "_Kind":
        """The same with only the donors that are of this kind."""
        own = [d for d in self.donors if self.is_of(d.shape.parts, d.case.head_px)]
        return replace(self, donors=own)


def _donors(cases: Sequence[Case], components: Sequence[int]) -> list[_Donor]:
    wanted = list(components) or list(range(1, len(COMPONENTS)))
    shapes = [(case, shape_of(case, wanted)) for case in cases]
    return [_Donor(case, shape) for case, shape in shapes if shape is not None]


def _check(
    cases: Sequence[Case],
    count: int,
    balance: Balance,
    components: Sequence[int],
    sites: Mapping[str, str] | None,
) -> None:
    if count < 1:
        raise ConfigError(f"count: expected 1 edit or more, got {count}")
    if balance not in ("size", "component", "site", "none"):
        raise ConfigError(f"balance: expected one of size, component, site, none, got {balance!r}")
    removal = list(components) == [TUMOUR_FREE]
    if not removal and any(not 0 < component < len(COMPONENTS) for component in components):
        raise ConfigError(
            f"components: expected numbers of parts of a tumour, 1 to {len(COMPONENTS) - 1}, or "
            f"{TUMOUR_FREE} alone, got {list(components)}"
        )
    if removal and balance not in ("site", "none"):
        raise ConfigError(
            f"balance: `{balance}` is of tumours that are added; expected site or none where "
            f"tumours are only removed"
        )
    if balance == "site":
        unknown = [case.key for case in cases if case.key not in (sites or {})]
        if unknown:
            raise ConfigError(
                f"balance: `site` needs the hospital of each case; none is told for {unknown[0]}"
            )


def _removals(
    cases: Sequence[Case],
    count: int,
    balance: Balance,
    sites: Mapping[str, str] | None,
    *seed: int | str,
) -> list[PlannedEdit]:
    """Edits that paint tumours away; `DataError` where no case shows one."""
    shown = [case for case in cases if (case.components > 0).any()]
    if not shown:
        raise DataError("no case shows a tumour; expected one at least to paint away")
    kinds = _kinds(shown, [], balance, sites)
    left: list[list[Case]] = [[] for _ in kinds]
    planned = []
    for number in range(count):
        one = derive(*seed, "edit", number)
        rng = np.random.default_rng(one)
        row = rng.integers(len(kinds))
        left[row] = left[row] or list(kinds[row].targets)
        target = left[row].pop(rng.integers(len(left[row])))
        nothing, key = np.zeros((0, 0, 0), np.uint8), painted_key(target.key, number)
        planned.append(PlannedEdit(key, target.key, "", (0, 0, 0), nothing, True, one))
    return planned


def _kinds(
    cases: Sequence[Case],
    donors: Sequence[_Donor],
    balance: Balance,
    sites: Mapping[str, str] | None,
) -> list[_Kind]:
    """What `balance` draws alike."""
    if balance == "site" and sites is not None:
        names = sorted({sites[case.key] for case in cases})
        return [_Kind(n, [c for c in cases if sites[c.key] == n], donors) for n in names]
    if balance == "component":
        numbers = range(TUMOUR_FREE + 1, len(COMPONENTS))
        kinds = [_Kind(COMPONENTS[number], cases, donors, number) for number in numbers]
    elif balance == "size":
        volumes = [_log_volume(d.shape.parts, d.case.head_px) for d in donors]
        width = max((max(volumes) - min(volumes)) / len(SIZES), LEAST_WIDTH)
        edges = [-np.inf, *(min(volumes) + width * n for n in range(1, len(SIZES))), np.inf]
        kinds = [
            _Kind(name, cases, donors, None, least, most)
            for name, (least, most) in zip(SIZES, pairwise(edges), strict=True)
        ]
    else:
        return [_Kind("", cases, donors)]
    return [own for kind in kinds if (own := kind.of_its_own()).donors]


def _log_volume(parts: NDArray[np.uint8], head_px: float) -> float:
    return float(np.log((parts > 0).sum() / head_px**2))


def _plan(kinds: Sequence[_Kind], removes: bool, number: int, seed: int) -> PlannedEdit:
    """One edit, of a kind that is drawn once; of another only where that one has no room."""
    rng = np.random.default_rng(seed)
    turns = [kinds[turn] for turn in rng.permutation(len(kinds))]
    for kind in turns:
        missed = "" if kind is turns[0] else turns[0].name
        for attempt in range(ATTEMPTS):
            target = kind.targets[rng.integers(len(kind.targets))]
            others = [donor for donor in kind.donors if donor.case.patient != target.patient]
            if not others:
                continue
            donor = others[rng.integers(len(others))]
            anywhere = 2 * attempt >= ATTEMPTS
            placed = place_shape(target, donor.shape, rng, removes=removes, anywhere=anywhere)
            if placed is not None and kind.is_of(placed[1], target.head_px):
                key, lender = painted_key(target.key, number), donor.case.key
                return PlannedEdit(key, target.key, lender, *placed, removes, seed, missed)
    raise DataError(
        f"edit {number}: no room for a new tumour after {ATTEMPTS} draws; expected cases whose "
        "heads show enough without a tumour, beside the patient who lends the shape, or allow "
        "existing tumours to be removed"
    )
