import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.data.resize import fit, fit_labels, letterbox, pad

sizes = st.integers(1, 90)


@settings(max_examples=60, derandomize=True)
@given(sizes, sizes, st.sampled_from([16, 33, 64]), st.booleans())
def test_letterbox_keeps_the_aspect_and_is_black_around(height, width, side, colour):
    image = np.full((height, width, 3) if colour else (height, width), 200, np.uint8)
    square = letterbox(image, side)
    assert square.shape == (side, side, 3)[: image.ndim]
    shown = square.reshape(side, side, -1)[..., 0] > 0
    rows, columns = shown.any(axis=1).sum(), shown.any(axis=0).sum()
    longer = max(height, width)
    assert abs(rows - max(1, height * side / longer)) <= 0.5
    assert abs(columns - max(1, width * side / longer)) <= 0.5
    assert shown.sum() == rows * columns
    assert (square.reshape(side, side, -1)[shown] == 200).all()


def test_the_right_size_is_left_alone():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(letterbox(image, 16), image)


def test_reduction_averages():
    board = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    small = letterbox(board.astype(np.uint8), 8)
    assert np.abs(small.astype(int) - 127).max() < 20  # nearest pixels would be 0 or 255


def test_fit_does_not_enlarge_unless_asked():
    image = np.ones((8, 4), np.uint8)
    assert fit(image, 16, enlarge=False).shape == (8, 4)
    assert fit(image, 16, enlarge=True).shape == (16, 8)
    assert fit(image, 4, enlarge=False).shape == (4, 2)


@settings(max_examples=40, derandomize=True)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_labels_and_image_shrink_together_and_no_label_is_invented(height, width, seed):
    labels = np.random.default_rng(seed).choice(np.array([0, 3, 7, 255], np.uint8), (height, width))
    small = fit_labels(labels, 32)
    assert small.shape == fit(labels, 32, enlarge=False).shape
    assert set(np.unique(small)) <= set(np.unique(labels))


def test_pad_centres():
    padded = pad(np.ones((2, 4), np.uint8), 6, 255)
    assert (padded == 1).sum() == 8
    assert (padded[2:4, 1:5] == 1).all()
    assert (padded == 255).sum() == 28
