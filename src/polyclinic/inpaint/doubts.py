"""What an edit is warned of: an image or a region that may not be what its user takes it for."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic.inpaint.components import KEEP, SEQUENCES, TUMOUR_FREE, UNKNOWN_SEQUENCE
from polyclinic.inpaint.likeness import NOT_A_BRAIN, unlikeness
from polyclinic.inpaint.regions import Region

MOST = 0.5
"""Of a slice's head: where more is painted, little is left to go by."""
FEW_VALUES = 8
"""An image with no more different values than this is a label map, or a drawing."""
HARDLY = 0.1
"""Of a box: a painter makes a third of it tumour on average."""


def doubts_about_input(
    slices: Mapping[int, NDArray[np.float32]],
    head: NDArray[np.bool_],
    fill_mask: NDArray[np.bool_],
) -> tuple[float, tuple[str, ...]]:
    """The `unlikeness` of the painted slice with most head, and what to warn of before painting.

    `slices` are scaled intensities (Z, H, W) by the number of their sequence; `head` and
    `fill_mask` (Z, H, W).
    """
    planes = next(iter(slices.values()))
    shown = np.flatnonzero(fill_mask.any(axis=(1, 2)))
    largest = shown[head[shown].sum(axis=(1, 2)).argmax()]
    score = unlikeness(planes[largest], head[largest])
    warnings = []
    if score >= NOT_A_BRAIN:
        warnings.append(
            f"slice {largest} does not look like an axial brain (score {score:.2f}, expected less "
            f"than {NOT_A_BRAIN}): what is painted may mean nothing"
        )
    elif (head & fill_mask).sum() < fill_mask.sum() / 2:
        warnings.append("most of the region lies outside of the head")
    else:
        covered = (head & fill_mask).sum(axis=(1, 2)) / head.sum(axis=(1, 2)).clip(min=1)
        if covered.max() > MOST:
            warnings.append(
                f"the region covers {covered.max():.0%} of the head on slice {covered.argmax()}, "
                "so little is left to go by; is it the region that was meant?"
            )
    if (values := len(np.unique(planes[shown]))) <= FEW_VALUES:
        warnings.append(
            f"the image has {values} different values where it is painted, as a label map has; "
            "expected a scan"
        )
    if UNKNOWN_SEQUENCE in slices:
        warnings.append(
            "the sequence of the image is not known, so what is painted may be dark where it "
            f"should be bright; expected one of {', '.join(SEQUENCES)} as its sequence"
        )
    return round(score, 3), tuple(warnings)


def doubts_about_boxes(regions: Sequence[Region], realised: NDArray[np.int8]) -> Iterable[str]:
    """Of each box (see `Region`) in which the model, `realised` (Z, H, W), has painted hardly any
    of the tumour that it was asked for, a warning."""
    boxes = np.stack([region.boxes.astype(np.int16) for region in regions])
    tumour = np.stack([region.fill_map > TUMOUR_FREE for region in regions])
    for number in np.unique(boxes[tumour & (boxes > 0)]):
        inside = boxes == number
        painted = int((inside & (realised != KEEP) & (realised != TUMOUR_FREE)).sum())
        if painted < HARDLY * inside.sum():
            yield (
                f"of {inside.sum()} px in a box only {painted} became tumour; expected a larger "
                "box, or a region whose contour is exact"
            )
