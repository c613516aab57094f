"""What an edit is warned of, and that an ordinary one is not."""

import numpy as np
import pytest

from polyclinic.inpaint.components import KEEP, OEDEMA, SEQUENCES, TUMOUR_FREE, UNKNOWN_SEQUENCE
from polyclinic.inpaint.doubts import doubts_about_boxes, doubts_about_input
from polyclinic.inpaint.regions import Region

FLAIR = SEQUENCES.index("t2f")
ROWS, COLUMNS = np.mgrid[:64, :64] - 31.5
HEAD = (np.hypot(ROWS / 1.2, COLUMNS) < 24)[None]
LABELS = (HEAD * 1 + (ROWS > 0)).astype(np.float32)
SCAN = np.where(HEAD, 0.3 + 0.1 * np.cos(COLUMNS / 5) + 0.01 * ROWS, -1).astype(np.float32)


def square(side: int, row: int = 24, column: int = 24) -> np.ndarray:
    mask = np.zeros((1, 64, 64), bool)
    mask[0, row : row + side, column : column + side] = True
    return mask


def test_an_ordinary_edit_is_not_warned_of():
    score, warnings = doubts_about_input({FLAIR: SCAN}, HEAD, square(10))
    assert score < 0.6
    assert warnings == ()


@pytest.mark.parametrize(
    ("slices", "fill_mask", "expected"),
    [
        ({FLAIR: SCAN * COLUMNS.astype(np.float32)}, square(10), "like an axial brain"),
        ({FLAIR: SCAN}, square(9, 0, 0), "most of the region lies outside of the head"),
        ({FLAIR: SCAN}, HEAD, "the region covers 100% of the head on slice 0"),
        ({FLAIR: LABELS}, square(10), "the image has 3 different values"),
        ({UNKNOWN_SEQUENCE: SCAN}, square(10), "the sequence of the image is not known"),
    ],
)  # fmt: skip
def test_what_may_not_be_meant(slices, fill_mask, expected):
    _, warnings = doubts_about_input(slices, HEAD, fill_mask)
    assert any(expected in warning for warning in warnings), warnings


def test_a_box_that_hardly_became_tumour():
    fill_map = np.where(square(10)[0], OEDEMA, KEEP).astype(np.int8)
    fill_map[square(4, 50, 50)[0]] = TUMOUR_FREE  # a box too, where no tumour is expected
    boxes = np.where(square(10)[0], 1, 0) + np.where(square(4, 50, 50)[0], 2, 0)
    region = Region(fill_map, boxes.astype(np.int16))
    realised = np.where(fill_map == KEEP, KEEP, TUMOUR_FREE)[None].astype(np.int8)
    realised[0, 24, 24:33] = OEDEMA
    (warning,) = doubts_about_boxes([region], realised)
    assert warning.startswith("of 100 px in a box only 9 became tumour; expected a larger box")
    realised[0, 25, 24] = OEDEMA
    assert not list(doubts_about_boxes([region], realised))


def test_an_exact_region_is_no_box():
    fill_map = np.where(square(10)[0], OEDEMA, KEEP).astype(np.int8)
    region = Region(fill_map, np.zeros((64, 64), np.int16))
    assert not list(doubts_about_boxes([region], np.full((1, 64, 64), KEEP, np.int8)))
