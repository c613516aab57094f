"""Which pixels of a mask are drawn, and what the numbers of a label map ask for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.inpaint.components import KEEP, LABELS, MASK_LABELS, MIXED, TUMOUR_FREE, from_labels

LOSSY = (".jpg", ".jpeg", ".webp")
"""Images that may be compressed with loss: around what was drawn they have greys of their own."""
MAX_LABEL = 31
"""Whole numbers up to this one are labels."""
FEW = 8
"""So are larger ones, where there are no more of them than this, 0 included."""
GREY, MOST_GREY, LEAST_GREY = 0.15, 0.4, 0.1
"""A mask has two values, and others at its edges. It is a scan where more than `MOST_GREY` of what
is not background lies further than `GREY` of their distance from both, and more than `LEAST_GREY`
of all pixels do. Of 1,022 slices of brains that refuses 97 %, of the same with their contrast
raised 92 %, of 146 volumes all; and no mask that was compressed, resampled or blurred a little."""
MANY = 100
"""A volume with more different whole numbers than this is an image: atlases have fewer labels."""


def is_lossy(name: str) -> bool:
    """Whether the extension is one of `LOSSY`, in small or capital letters."""
    return name.lower().endswith(LOSSY)


def drawn_in_image(values: NDArray[np.integer[Any]], name: str) -> NDArray[np.bool_]:
    """Where the grey image `name` (H, W) is drawn on: all but 0 where it holds labels; where it has
    blended edges or was compressed with loss, half of its highest value and more.

    Raises `DataError` at labels in an image that does not keep them, and at a scan.
    """
    highest = int(values.max())
    if is_lossy(name):
        if 0 < highest <= 2 * MAX_LABEL:
            raise DataError(
                f"{name}: its values reach only {highest}, as labels do, which this format does "
                "not keep; save it as PNG"
            )
        return _half(values, name)
    are_labels = highest <= MAX_LABEL or len(np.unique(values)) <= FEW
    return np.not_equal(values, 0) if are_labels else _half(values, name)


def drawn_in_volume(values: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """Where a volume is drawn on: all but 0 where it has whole numbers; where it has fractions, as
    a mask that was resampled has, half of its highest value and more. `DataError` at a scan."""
    if not np.isfinite(values).all():
        raise DataError(f"{name}: a mask with NaN or infinite values; expected numbers")
    are_labels = np.array_equal(values, np.rint(values))
    if are_labels and (count := len(np.unique(values))) > MANY:
        raise DataError(
            f"{name}: {count} different whole numbers, as an image has; expected a mask of what to "
            "paint"
        )
    return np.not_equal(values, 0) if are_labels else _half(values, name)


def labelled(labels: NDArray[Any], name: str) -> NDArray[np.int8]:
    """The fill map of a label map numbered as in BraTS or as the masks that are written;
    `DataError` at other numbers."""
    fill_map = np.full(labels.shape, KEEP, np.int8)
    rest = np.array(labels)
    for component in (TUMOUR_FREE, MIXED):  # which BraTS does not have
        asked = rest == MASK_LABELS[component]
        fill_map[asked], rest[asked] = component, 0
    if not np.isin(rest, (0, *LABELS["brats"])).all():
        unknown = sorted(set(np.unique(rest).tolist()) - {0, *LABELS["brats"]})
        raise DataError(
            f"{name}: label {unknown[0]:g}; expected 1 core, 2 oedema, 3 or 4 enhancing, "
            "5 tumour-free, 6 mixed"
        )
    components = from_labels(rest, "brats", name)
    return np.where(components > 0, components, fill_map).astype(np.int8)


def _half(values: NDArray[Any], name: str) -> NDArray[np.bool_]:
    highest = float(values.max())
    upper = values >= highest / 2
    if upper.any() and not upper.all():
        top, background = float(np.median(values[upper])), float(np.median(values[~upper]))
        edge = GREY * (top - background)
        shown = values > background + edge
        grey = np.count_nonzero(shown & (np.abs(values - top) > edge))
        if grey > MOST_GREY * np.count_nonzero(shown) and grey > LEAST_GREY * values.size:
            raise DataError(
                f"{name}: shades of grey nearly everywhere, as a scan has; expected a mask: one "
                "value where to paint, 0 elsewhere"
            )
    return np.logical_and(values > 0, upper)
