"""Text in the pixels: names and dates that a device or a viewer wrote into the image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding

MIN_CHARACTERS = 4
"""A shorter line is not called text: side markers (R, L) are common and harmless."""
CONTRAST = 90
"""Grey values by which a stroke stands out from what is around it."""
MAX_SIDE = 1024  # px; larger images are thinned out first, as text in them is larger too
_STROKE = 5  # px; broader structures are anatomy


def longest_line(grey: NDArray[np.uint8]) -> int:
    """Number of marks in the longest line of letters, brighter or darker than around, 0 for none.

    `grey` (H, W). A letter is a thin, compact structure of high contrast, 5 px high to a fifth
    of the image; a line is a row of letters of similar height on one base line, side by side.
    """
    step = -(-max(grey.shape) // MAX_SIDE)
    small = grey[::step, ::step]
    if min(small.shape) < 2 * _STROKE or int(small.max()) - int(small.min()) < CONTRAST:
        return 0
    return max(_longest(small), _longest(255 - small))


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every image with a line of at least `MIN_CHARACTERS` letters."""
    return [
        Finding(
            "warning",
            survey.item(row).key,
            f"may show burned-in text (a line of {survey.images[row].characters} marks)",
            "look at it; paint over what identifies a patient",
        )
        for row in survey.readable
        if survey.images[row].characters >= MIN_CHARACTERS
    ]


def _longest(grey: NDArray[np.uint8]) -> int:
    from scipy import ndimage

    opened = ndimage.grey_opening(grey, size=(_STROKE, _STROKE))
    strokes = grey.astype(np.int16) - opened >= CONTRAST
    if int(strokes.sum()) < 5 * MIN_CHARACTERS:
        return 0
    labelled, _ = ndimage.label(strokes, np.ones((3, 3), np.int64))
    letters = []
    for rows, columns in ndimage.find_objects(labelled):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if 5 <= height <= max(5, grey.shape[0] // 5) and width <= 1.6 * height:
            letters.append((columns.start, columns.stop, rows.stop, height))
    letters.sort()
    return max((_run_from(letters, start) for start in range(len(letters))), default=0)


def _run_from(letters: list[tuple[int, int, int, int]], start: int) -> int:
    """Letters that follow one another from letter `start` on, each near to the one before."""
    _, end, base, height = letters[start]
    length = 1
    for left, right, below, tall in letters[start + 1 :]:
        if left - end > 1.5 * height:
            break
        alike = abs(below - base) <= max(1, 0.25 * height) and abs(tall - height) <= 0.4 * height
        if alike and left >= end - 1:
            end, length = right, length + 1
    return length


CHECK = Check("text", "burned-in text", run)
