"""What one painted edit is worth, as a row a sequence; the real slices get rows of the same kind.

A row holds everything that the tables need: they are computed from rows alone. Numbers that are
not defined (of a part that is not there, of a real slice compared with itself) are None.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.evaluate.painting.containment import (
    box_containment,
    component_dice,
    component_shares,
)
from polyclinic.evaluate.painting.fidelity import FIDELITY, challenge_scores
from polyclinic.evaluate.painting.ring import ring_features
from polyclinic.evaluate.painting.seams import border_patches, seam_ratio
from polyclinic.evaluate.painting.texture import texture_features
from polyclinic.evaluate.painting.variety import diversity
from polyclinic.inpaint.components import COMPONENTS, KEEP, MIXED, SEQUENCES
from polyclinic.run.painter_evaluation.judges import Judges, TrainingWindows
from polyclinic.run.painter_evaluation.plan import PlannedEdit, size_class
from polyclinic.run.painter_evaluation.variants import PaintedEdit, Variant

Row = dict[str, Any]

REAL = "real"
"""The variant of rows about what was scanned."""
DATA_RANGE = 2.0
"""Scaled intensities run from -1 to 1."""
PATCH = 9
"""Side, px, of the patches that the ring classifier sees."""
PATCHES = 6
"""Patches of one border."""


def sequence_label(number: int) -> str:
    """The name of a sequence."""
    return SEQUENCES[number] if number < len(SEQUENCES) else "unknown"


def rows_of(
    edit: PlannedEdit, variants: Sequence[Variant], judges: Judges, samples: int
) -> tuple[list[Row], dict[str, PaintedEdit]]:
    """Rows for the real slices and for each variant, one a sequence, and what each of them shows.

    `samples` is with how many seeds repeated edits are painted.
    """
    training = {number: judges.training.like(edit, number) for number in edit.sequences}
    results = {REAL: PaintedEdit(edit.volumes, _really(edit))}
    rows = _rows(edit, REAL, results[REAL], judges, training)
    for variant in variants:
        began = time.perf_counter()
        painted = _painted(edit, variant, 0)
        each = len(edit.regions) * len(edit.sequences)
        cost = {"calls": painted.calls / each, "seconds": (time.perf_counter() - began) / each}
        others: list[PaintedEdit] = []
        if edit.repeated and variant.varies and variant.repeats:
            others = [_painted(edit, variant, number) for number in range(1, samples)]
        mine = _rows(edit, variant.name, painted, judges, training)
        for number, row in zip(edit.sequences, mine, strict=True):
            row |= cost | _against_truth(edit, painted, number)
            if others:
                stack = [one.volumes[number] for one in (painted, *others)]
                spread = diversity(np.stack(stack), edit.fill_mask)
                row |= {"diversity": spread.distance, "deviation": spread.mean_deviation}
        rows += mine
        results[variant.name] = painted
    return [_finite(row) for row in rows], results


def _painted(edit: PlannedEdit, variant: Variant, sample: int) -> PaintedEdit:
    """Sample number `sample` of a variant."""
    return variant.paint(edit.volumes, list(edit.regions), edit.case.head_px, edit.seed + sample)


def _rows(
    edit: PlannedEdit,
    name: str,
    painted: PaintedEdit,
    judges: Judges,
    training: Mapping[int, TrainingWindows],
) -> list[Row]:
    """What can be said of painted and of real slices alike, a row a sequence.

    The segmenter sees all sequences that were painted together; what it says of components and
    boxes is about the edit, and stands in the first row.
    """
    found = judges.segmenter.predict(painted.volumes)
    rows = [_row(edit, name, painted, number, judges, training[number]) for number in training]
    if edit.kind != "tumour":
        rows[0]["found_tumour"] = float((found[edit.fill_mask] > 0).mean())
        return rows
    rows[0]["components"] = _components(edit, painted, found)
    if edit.shape == "box":
        rows[0] |= _boxes(edit, painted, found)
    return rows


def _row(
    edit: PlannedEdit,
    name: str,
    painted: PaintedEdit,
    sequence: int,
    judges: Judges,
    training: TrainingWindows,
) -> Row:
    z = edit.middle
    slices = painted.volumes[sequence]
    plane, mask = slices[z], edit.fill_mask[z]
    pixels = int(np.count_nonzero(mask))
    patches, insides = border_patches(plane, mask, PATCH, PATCHES, seed=edit.seed)
    return {
        "edit": edit.number,
        "variant": name,
        "patient": edit.case.patient,
        "case": edit.case.key,
        "slice": edit.first + z,
        "slices": len(edit.regions),
        "sequence": sequence_label(sequence),
        "kind": edit.kind,
        "shape": edit.shape,
        "request": edit.request,
        "size": size_class(pixels, edit.case.head_px),
        "pixels": pixels,
        "seed": edit.seed,
        "texture": texture_features(plane, _described(edit, painted), -1.0, 1.0).tolist(),
        "features": judges.encoder.embed(plane, mask, sequence).tolist(),
        "ring": ring_features(patches, insides).tolist() if len(patches) else [],
        "nearest": training.nearest(plane),
        "between_slices": _between_slices(slices, edit.fill_mask),
        "components": [],
    }


def _against_truth(edit: PlannedEdit, painted: PaintedEdit, sequence: int) -> Row:
    """What needs the real slices beside the painted ones."""
    after, before, mask = painted.volumes[sequence], edit.volumes[sequence], edit.fill_mask
    row: Row = {
        "changed_outside": int(np.count_nonzero((after != before) & ~mask)),
        "seam_ratio": seam_ratio(after, before, mask),
    }
    if edit.kind == "tumour":
        return row
    row |= {name: measure(after, before, mask, DATA_RANGE) for name, measure in FIDELITY.items()}
    return row | (_challenge(edit, after, sequence) if edit.kind == "volume" else {})


def _challenge(edit: PlannedEdit, painted: NDArray[np.float32], sequence: int) -> Row:
    """The challenge's scores, of the volume in the file's axes (X, Y, Z) and intensities."""
    scaling = edit.case.scalings[sequence]
    part = slice(edit.first, edit.first + len(edit.regions))
    real = edit.case.volumes[sequence]
    after, region = real.copy(), np.zeros(real.shape, bool)
    after[part], region[part] = painted, edit.fill_mask

    def stored(volume: NDArray[Any]) -> NDArray[Any]:
        return np.moveaxis(volume, (0, 1, 2), (2, 1, 0))[::-1, ::-1]  # undoes `nifti.axial`

    kind = np.dtype(np.float64)
    truth = stored(scaling.undo(real, kind))
    mask = stored(region)
    scores = challenge_scores(
        stored(scaling.undo(after, kind)), truth, mask, np.where(mask, 0.0, truth)
    )
    return {
        "challenge_ssim": scores.ssim,
        "challenge_mse": scores.mse,
        "challenge_psnr": scores.psnr,
        "challenge_psnr_01": scores.psnr_01,
    }


def _components(
    edit: PlannedEdit, painted: PaintedEdit, found: NDArray[np.uint8]
) -> list[dict[str, Any]]:
    """For each component that was asked for: how the segmenter sees it, in the whole slice.

    In boxes, what the model says that it painted is what counts as asked for. Of a mixture, every
    component is right.
    """
    asked = np.maximum(painted.realised, 0)
    rows = []
    for component in sorted({int(c) for c in np.unique(edit.fill_maps) if c > 0}):
        seen = np.where(found > 0, MIXED, 0) if component == MIXED else found
        everywhere = np.ones(asked.shape, bool)
        dice = component_dice(asked, seen, everywhere, [component])[component]
        right = range(1, len(COMPONENTS)) if component == MIXED else ()
        shares = component_shares(asked, found, component, right)
        rows.append(
            {
                "component": COMPONENTS[component],
                "size": size_class(shares.pixels, edit.case.head_px),
                "pixels": shares.pixels,
                "dice": dice,
                "as_asked": shares.as_asked,
                "as_another": shares.as_another,
                "as_none": shares.as_none,
            }
        )
    return rows


def _boxes(edit: PlannedEdit, painted: PaintedEdit, found: NDArray[np.uint8]) -> Row:
    """Does what was painted stay in its box: as the model says, and as the segmenter sees it."""
    box = np.stack([region.boxed for region in edit.regions])
    component = int(edit.fill_maps.max())
    seen = found > 0 if component == MIXED else found == component
    chosen = painted.realised > 0
    return {
        "containment": box_containment(chosen, box),
        "containment_found": box_containment(seen, box),
        "filled": float(chosen[box].mean()),
    }


def _really(edit: PlannedEdit) -> NDArray[np.int8]:
    """What the real slices show where something is asked for; in boxes, the real contour."""
    asked, there = edit.fill_maps, edit.components
    same = np.where(asked == MIXED, there > 0, there == asked)
    return np.where(asked == KEEP, KEEP, np.where(same, asked, 0)).astype(np.int8)


def _described(edit: PlannedEdit, painted: PaintedEdit) -> NDArray[np.bool_]:
    """The pixels whose texture counts: of a tumour, those that show it; else all of the region."""
    z = edit.middle
    chosen: NDArray[np.bool_] = painted.realised[z] > 0
    return chosen if edit.kind == "tumour" else edit.fill_mask[z]


def _between_slices(slices: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean absolute difference of neighbouring slices where both are painted; NaN for one slice."""
    both = mask[1:] & mask[:-1]
    steps = np.abs(np.diff(slices.astype(np.float64), axis=0))[both]
    return float(steps.mean()) if len(steps) else math.nan


def _finite(value: Any) -> Any:
    """The same with None in the place of numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
