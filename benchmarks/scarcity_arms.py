"""What a segmenter of the scarcity study trains on: real slices, and which others beside them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from polyclinic.errors import DataError
from polyclinic.inpaint.augment import (
    Balance,
    PlannedEdit,
    apply_edit,
    cut_slices,
    painted_slices,
    plan_edits,
)
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.components import TUMOUR_FREE
from polyclinic.inpaint.mixing import carve_mix
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.placing import MIN_PIXELS, deform_parts
from polyclinic.inpaint.segmenter import Geometry, Segmenter, SegmentPlan, train_segmenter
from polyclinic.seeding import derive

ATTEMPTS = 20
"""Draws for one mixed case, or one more varied shape."""
PAINTED_SLICES = 6
"""Neighbouring slices that a new tumour is painted into, at most: a segmenter sees slices, so many
short tumours show it more than a few whole ones."""
FEW_SLICES, MORE_CASES = 2, 3
"""The same number of painted slices from three times as many shapes and places."""
REMOVED_SLICES = 5
"""Neighbouring slices that a tumour is painted away from, at most."""


@dataclass(frozen=True)
class Recipe:
    """How cases are painted."""

    guidance: float = Settings.guidance
    balance: Balance = "none"
    varied: bool = False  # shapes are deformed twice, and grow or shrink
    removing: bool = False  # half of the added cases: their own tumours painted away
    again: bool = False  # no new shapes: tumours painted over in their own places
    slices: int = PAINTED_SLICES
    times: int = 1  # so many times as many cases


@dataclass(frozen=True)
class Arm:
    """One way to train. `share` of the slices that are drawn are of added cases."""

    geometry: bool = True
    added: Literal["nothing", "carvemix", "painted"] = "nothing"
    share: float = 0.5
    kept: float = 1.0  # share of painted cases: those that a segmenter finds best
    steps: float = 1.0  # share of the plan's steps
    recipe: Recipe = field(default_factory=Recipe)


REFERENCE = "geometric"
BRIEF, LONG = "geometric-brief", "geometric-long"
PAINTED = "painted"
RARE = "painted-rare"
_PAINTED = Arm(added="painted")
ARMS: Mapping[str, Arm] = {
    "none": Arm(geometry=False),
    REFERENCE: Arm(),
    BRIEF: Arm(steps=1 / 3),
    LONG: Arm(steps=2),
    "carvemix": Arm(added="carvemix"),
    PAINTED: _PAINTED,
    "painted-quarter": replace(_PAINTED, share=0.25),
    "painted-three-quarters": replace(_PAINTED, share=0.75),
    "painted-filtered": replace(_PAINTED, kept=2 / 3),
    "painted-shapes": replace(_PAINTED, recipe=Recipe(balance="size", varied=True)),
    "painted-guided": replace(_PAINTED, recipe=Recipe(guidance=2.5)),
    "painted-guided-quarter": replace(_PAINTED, share=0.25, recipe=Recipe(guidance=2.5)),
    "painted-removing": replace(_PAINTED, recipe=Recipe(removing=True)),
    "painted-many": replace(_PAINTED, recipe=Recipe(slices=FEW_SLICES, times=MORE_CASES)),
    "painted-again": replace(_PAINTED, recipe=Recipe(again=True)),
    RARE: replace(_PAINTED, recipe=Recipe(balance="component")),
}
MAIN = ("none", REFERENCE, BRIEF, "carvemix", PAINTED)
REMEDIES = tuple(name for name in ARMS if name not in (*MAIN, LONG, RARE))


@dataclass
class Workshop:
    """Trains the arms of one group on `cases`; added cases and the reference are made once."""

    cases: Sequence[Case]
    painter: Painter
    plan: SegmentPlan
    paint_steps: int
    count: int  # of added cases
    seed: tuple[int | str, ...]
    painted: dict[Recipe, list[Case]] = field(default_factory=dict)
    reference: Segmenter | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"adding": 0.0})

    def train(self, name: str) -> tuple[Segmenter, int]:
        """The segmenter of an arm, and how many cases were added for it.

        All arms of a group begin with the same weights.
        """
        if name == REFERENCE and self.reference is not None:
            return self.reference, 0
        arm = ARMS[name]
        began = time.perf_counter()
        added = self.added(arm)
        self.seconds["adding"] += time.perf_counter() - began
        geometry = Geometry() if arm.geometry else None
        steps = max(1, round(arm.steps * self.plan.steps))
        real = [(1 - arm.share if added else 1.0) / len(self.cases)] * len(self.cases)
        extra = [arm.share / len(added) for _ in added]
        segmenter = train_segmenter(
            [*self.cases, *added],
            replace(self.plan, geometry=geometry, steps=steps),
            *self.seed,
            weights=real + extra,
        )
        if name == REFERENCE:
            self.reference = segmenter
        return segmenter, len(added)

    def added(self, arm: Arm) -> list[Case]:
        """The cases that an arm adds to the real ones."""
        if arm.added == "nothing":
            return []
        if arm.added == "carvemix":
            return carved(self.cases, self.count, *self.seed)
        if arm.recipe not in self.painted:
            self.painted[arm.recipe] = painted(
                self.painter, self.cases, arm.recipe, self.count, self.paint_steps, *self.seed
            )
        made = self.painted[arm.recipe]
        return made if arm.kept == 1 else best(self.train(REFERENCE)[0], made, arm.kept)


def carved(cases: Sequence[Case], count: int, *seed: int | str) -> list[Case]:
    """`count` cases with another's tumour pasted in; `DataError` where pairs do not fit."""
    made = []
    for number in range(count):
        rng = np.random.default_rng(derive(*seed, "carvemix", number))
        for attempt in range(ATTEMPTS):
            source, target = (cases[row] for row in rng.choice(len(cases), 2, replace=False))
            try:
                made.append(carve_mix(source, target, rng))
                break
            except DataError:
                if attempt == ATTEMPTS - 1:
                    raise
    return made


def painted(
    painter: Painter,
    cases: Sequence[Case],
    recipe: Recipe,
    count: int,
    steps: int,
    *seed: int | str,
) -> list[Case]:
    """`count` cases as `recipe` says, or a multiple, each only the slices that were painted."""
    settings = Settings(steps=steps, guidance=recipe.guidance)
    count *= recipe.times
    if recipe.again:
        return [painted_again(painter, cases, settings, number, *seed) for number in range(count)]
    removed = count // 2 if recipe.removing else 0
    made = []
    for edit in planned(cases, recipe, count - removed, *seed):
        made.append(painted_slices(apply_edit(painter, cases, edit, settings), edit))
    for number in range(removed):
        one = replace(settings, seed=derive(*seed, "removed", number))
        rng = np.random.default_rng(one.seed)
        made.append(without_tumour(painter, cases[rng.integers(len(cases))], one, rng))
    return made


def planned(
    cases: Sequence[Case], recipe: Recipe, count: int, *seed: int | str
) -> list[PlannedEdit]:
    """The edits of a recipe."""
    edits = [
        shortened(edit, recipe.slices)
        for edit in plan_edits(cases, count, recipe.balance, (), *seed)
    ]
    if not recipe.varied:
        return edits
    by_key = {case.key: case for case in cases}
    return [varied(edit, by_key[edit.target]) for edit in edits]


def shortened(edit: PlannedEdit, slices: int) -> PlannedEdit:
    """`edit` in so many neighbouring slices at most, anywhere in its tumour."""
    rng = np.random.default_rng(derive(edit.seed, "shortened"))
    first = int(rng.integers(max(1, len(edit.parts) - slices + 1)))
    parts = edit.parts[first : first + slices]
    if (parts > 0).sum() < MIN_PIXELS:
        return edit
    z, row, column = edit.corner
    return replace(edit, parts=parts, corner=(z + first, row, column))


def varied(edit: PlannedEdit, target: Case) -> PlannedEdit:
    """`edit` with its shape deformed once more and 0.6 to 1.35 times the size, about one middle.

    Where no such shape fits into tumour-free head, the edit as it is.
    """
    rng = np.random.default_rng(derive(edit.seed, "varied"))
    _, height, width = edit.parts.shape
    for _ in range(ATTEMPTS):
        parts = deform_parts(edit.parts, float(np.exp(rng.uniform(-0.5, 0.3))), rng)
        first, row, column = edit.corner
        row, column = row + (height - parts.shape[1]) // 2, column + (width - parts.shape[2]) // 2
        ends = row + parts.shape[1], column + parts.shape[2]
        inside = min(row, column) >= 0 and all(
            end <= side for end, side in zip(ends, target.head.shape[1:], strict=True)
        )
        if not inside or (parts > 0).sum() < MIN_PIXELS:
            continue
        other = replace(edit, parts=parts, corner=(first, row, column))
        tumour = other.component_map(target.components.shape) > 0
        if target.head[tumour].all() and not (target.components[tumour] > 0).any():
            return other
    return edit


def painted_again(
    painter: Painter, cases: Sequence[Case], settings: Settings, number: int, *seed: int | str
) -> Case:
    """Some neighbouring slices of a case, another tumour of the same shape painted over its own."""
    one = derive(*seed, "again", number)
    rng = np.random.default_rng(one)
    some = some_slices(cases[rng.integers(len(cases))], PAINTED_SLICES, rng)
    edit = PlannedEdit(some.key, some.key, some.key, (0, 0, 0), some.components, True, one)
    return apply_edit(painter, [some], edit, settings)


def without_tumour(
    painter: Painter, case: Case, settings: Settings, rng: np.random.Generator
) -> Case:
    """Some neighbouring slices of `case` with their tumour painted away: no tumour is true there.

    Together with the real ones they are pairs, and what is painted is not always a tumour.
    """
    some = some_slices(case, REMOVED_SLICES, rng)
    (edit,) = plan_edits([some], 1, "none", (TUMOUR_FREE,), settings.seed)
    return apply_edit(painter, [some], edit, settings)


def some_slices(case: Case, count: int, rng: np.random.Generator) -> Case:
    """So many neighbouring slices of `case`, or fewer at its end; the first shows a tumour."""
    shown = np.flatnonzero((case.components > 0).any((1, 2)))
    if not len(shown):
        raise DataError(f"{case.key}: shows no tumour; expected one to paint over")
    first = int(rng.choice(shown))
    return cut_slices(case, slice(first, first + count))


def best(segmenter: Segmenter, made: Sequence[Case], share: float) -> list[Case]:
    """The `share` of painted cases in which `segmenter` finds most of what was asked for: Dice of
    the whole tumour, of the painted slices. The order stays."""
    scores = []
    for case in made:
        found, asked = segmenter.predict(case.volumes) > 0, case.components > 0
        scores.append(2 * (found & asked).sum() / max(1, found.sum() + asked.sum()))
    kept = np.argsort(scores, kind="stable")[::-1][: max(1, round(share * len(made)))]
    return [made[row] for row in sorted(kept)]
