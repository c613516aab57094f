"""Who judges: a segmenter, an encoder of regions, and the training images that might be copied."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.evaluate.painting.checks import Image
from polyclinic.evaluate.painting.variety import nearest_of, standardised, variants
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.intensity import BLACK
from polyclinic.inpaint.segmenter import Segmenter
from polyclinic.run.painter_evaluation.plan import MIN_PIXELS, PlannedEdit

SHIFT = 1
"""Pixels by which training images are shifted, either way, where a region is compared with them."""


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
    """The slices that the painter was trained on, to look for copies in."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases

    def like(self, edit: PlannedEdit, sequence: int) -> "TrainingWindows":
        """Windows like that of the edit's region from every training slice of the sequence.

        For a tumour they are cut around the tumours of slices that show one, for tumour-free tissue
        at the same place in the head. They depend on the edit alone, not on what was painted.
        """
        region = edit.fill_mask[edit.middle]
        box = region_box(region)
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        place = np.array([box[0].start + height / 2, box[1].start + width / 2])
        here = _middle(edit.case.head[edit.first + edit.middle])
        sources = []
        for case in self.cases:
            if sequence not in case.volumes:
                continue
            for z, plane in enumerate(case.volumes[sequence]):
                tumour = case.components[z] > 0
                if edit.kind != "tumour":
                    centre = _middle(case.head[z]) + place - here
                elif np.count_nonzero(tumour) >= MIN_PIXELS:
                    centre = _middle(tumour)
                else:
                    continue
                source = np.full((height + 2 * SHIFT, width + 2 * SHIFT), BLACK, np.float32)
                corner = np.round(centre - np.array(source.shape) / 2).astype(int)
                _copy_window(plane, corner, source)
                sources.append(source)
        found = np.stack(sources) if sources else np.empty((0, height, width), np.float32)
        views = variants(found, SHIFT) if sources else found
        return TrainingWindows(box, region[box], views[:, region[box]])


class TrainingWindows:
    """Windows of training slices in all shifts and mirrored, as one region's pixels (M, P)."""

    def __init__(
        self,
        box: tuple[slice, slice],
        region: NDArray[np.bool_],
        candidates: Image,
    ) -> None:
        self.box, self.region = box, region
        self.candidates = standardised(candidates).astype(np.float32)

    def nearest(self, plane: NDArray[np.float32]) -> float:
        """Distance of the region of a plane (H, W) to the nearest window; see
        `evaluate.painting.variety.nearest_of`."""
        return nearest_of(plane[self.box][self.region], self.candidates)


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
