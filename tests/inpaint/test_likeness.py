"""The score knows round symmetrical heads from other pictures."""

import numpy as np

from polyclinic.inpaint.likeness import NOT_A_BRAIN, unlikeness

ROWS, COLUMNS = np.mgrid[:64, :64] - 31.5


def test_a_head_in_air_is_like_a_brain_and_other_images_are_not():
    head = np.hypot(ROWS / 1.2, COLUMNS) < 24
    tissue = np.where(head, np.cos(COLUMNS / 6) * 0.5, -1).astype(np.float32)
    everywhere = np.ones_like(head)
    slope = np.where(head, COLUMNS / 24, -1).astype(np.float32)
    assert unlikeness(tissue, head) < 0.2
    assert unlikeness(tissue, everywhere) == 1
    assert unlikeness(slope, head) >= NOT_A_BRAIN
    assert unlikeness(tissue, np.zeros_like(head)) == 1


def test_odd_shapes_have_a_score_too():
    plane = np.zeros((9, 7), np.float32)
    for head in (np.eye(9, 7, dtype=bool), plane == 1, plane == 0):
        head[4, 3] = True
        assert 0 <= unlikeness(plane, head) <= 1
