"""Who judges: a segmenter, an encoder of regions, and the training images that might be copied."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.evaluate.painting.variety import variants
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.intensity import BLACK
from polyclinic.inpaint.segmenter import Segmenter
from polyclinic.run.painter_evaluation.plan import MIN_PIXELS, PlannedEdit
from polyclinic.seeding import derive

WINDOWS = 32
"""Training images that a painted region is compared with, each in all shifts and mirrored."""
SHIFT = 1
"""Pixels by which they are shifted, either way."""


@dataclass(frozen=True)
class Encoder:
    """`embed` makes features (D,) of a plane (H, W) of a sequence, scaled intensities, in a region
    (H, W) of it that is not empty.

    Distances between features mean little without the encoder's name: results carry it.
    """

    name: str
    embed: Callable[[NDArray[np.float32], NDArray[np.bool_], int], NDArray[np.float64]]


@dataclass(frozen=True)
class Judges:
    """Everything that a painted slice is held against, apart from the slice itself."""

    segmenter: Segmenter
    encoder: Encoder
    training: "TrainingImages"


def segmenter_encoder(segmenter: Segmenter) -> Encoder:
    """The segmenter's features of every resolution, averaged over the region.

    The finest ones tell texture and grain, the deepest ones what is shown and where; features of
    the whole slice would mostly be those of its surroundings, which nobody painted.
    """
    return Encoder("levels of the segmenter, averaged over the region", segmenter.describe)


class TrainingImages:
    """Slices that the painter was trained on, to look for copies in."""

    def __init__(self, cases: Sequence[Case], seed: int) -> None:
        self.cases, self.seed = cases, seed
        self.shown = [
            np.flatnonzero((case.components > 0).sum(axis=(1, 2)) >= MIN_PIXELS) for case in cases
        ]

    def candidates(self, edit: PlannedEdit) -> NDArray[np.float32]:
        """Windows like that of the edit's region, (M, h, w); none without a fitting case.

        For a tumour they are cut around training tumours, for tumour-free tissue at the same
        place in the head. They depend on the edit alone, not on what was painted: equally many
        for every variant and for the real image.
        """
        rows = [
            row
            for row, case in enumerate(self.cases)
            if edit.sequence in case.volumes and (edit.kind != "tumour" or len(self.shown[row]))
        ]
        box = region_box(edit.fill_mask[edit.middle])
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        if not rows:
            return np.empty((0, height, width), np.float32)
        rng = np.random.default_rng(derive(self.seed, "windows", edit.number))
        place = np.array([box[0].start + height / 2, box[1].start + width / 2])
        here = _middle(edit.case.head[edit.first + edit.middle])
        sources = np.full((WINDOWS, height + 2 * SHIFT, width + 2 * SHIFT), BLACK, np.float32)
        for source in sources:
            row = rows[rng.integers(len(rows))]
            case = self.cases[row]
            slices = self.shown[row] if edit.kind == "tumour" else np.arange(len(case.head))
            z = int(slices[rng.integers(len(slices))])
            if edit.kind == "tumour":
                centre = _middle(case.components[z] > 0)
            else:
                centre = _middle(case.head[z]) + place - here
            corner = np.round(centre - np.array(source.shape) / 2).astype(int)
            _copy_window(case.volumes[edit.sequence][z], corner, source)
        return np.asarray(variants(sources, SHIFT), np.float32)


def region_box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Row and column of the middle of the box around a mask, or of the plane where it is empty."""
    if not mask.any():
        return np.array(mask.shape) / 2
    rows, columns = region_box(mask)
    return np.array([rows.start + rows.stop, columns.start + columns.stop]) / 2


def _copy_window(
    plane: NDArray[np.float32], corner: NDArray[np.integer], window: NDArray[np.float32]
) -> None:
    """Fill `window` with what `plane` shows from `corner` on; beyond the image it stays."""
    targets, sources = [], []
    for start, side, wanted in zip(corner, plane.shape, window.shape, strict=True):
        low, high = max(0, int(start)), min(side, int(start) + wanted)
        sources.append(slice(low, max(low, high)))
        targets.append(slice(low - int(start), max(low, high) - int(start)))
    window[tuple(targets)] = plane[tuple(sources)]
