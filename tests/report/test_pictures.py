"""Example pictures: contours, and what may be read."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, PngImagePlugin

from polyclinic.errors import RunError
from polyclinic.report import pictures


@settings(max_examples=40, derandomize=True)
@given(arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2), elements=st.integers(0, 2)))
def test_thin_contours_are_where_a_neighbour_differs(labels: np.ndarray) -> None:
    expected = np.zeros(labels.shape, dtype=bool)
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            left = column and labels[row, column] != labels[row, column - 1]
            above = row and labels[row, column] != labels[row - 1, column]
            expected[row, column] = bool(left or above)
    np.testing.assert_array_equal(pictures.contour(labels, 1), expected)
    assert (pictures.contour(labels, 3) >= expected).all()


def test_both_contours_are_visible_where_they_coincide() -> None:
    labels = np.zeros((32, 32), dtype=np.uint8)
    labels[8:24, 8:24] = 1
    drawn = np.asarray(pictures.overlay(Image.new("L", (32, 32), 90), labels, labels))
    assert drawn.shape[0] >= pictures.OVERLAY_SIDE
    for colour in (pictures.TRUTH_COLOUR, pictures.PREDICTED_COLOUR):
        assert (drawn == colour).all(axis=-1).sum() > 100
    assert tuple(drawn[0, 0]) == (90, 90, 90)


def test_padding_has_no_contour(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[8:] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.new("L", (16, 16), 40).save(tmp_path / "i.png")
    uri = pictures.overlay_uri(tmp_path, "i.png", "m.png", "m.png")
    assert uri is not None
    assert decoded(uri).getcolors() == [(320 * 320, (40, 40, 40))]


def test_masks_of_another_size_are_not_drawn(tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "i.png")
    Image.new("L", (8, 8)).save(tmp_path / "m.png")
    assert pictures.overlay_uri(tmp_path, "i.png", "m.png", "m.png") is None


def test_text_in_a_picture_stays_behind(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "Jane Roe")
    Image.new("L", (8, 8), 7).save(tmp_path / "i.png", pnginfo=info)
    uri = pictures.picture_uri(tmp_path, "i.png")
    assert uri is not None
    assert b"Jane" not in base64.b64decode(uri.split(",")[1])
    assert decoded(uri).getcolors() == [(64, 7)]


def test_links_out_of_the_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "run/link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(RunError, match=r"'link\.png' lies outside the run directory"):
        pictures.picture_uri(tmp_path / "run", "link.png")


@pytest.mark.parametrize("name", ["", "none.png", "text.png", "huge.png", "bad\0.png"])
def test_what_is_no_picture_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("L", (64, 64)).save(tmp_path / "huge.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    if "\0" in name:
        with pytest.raises(RunError, match="outside"):
            pictures.picture_uri(tmp_path, name)
    else:
        assert pictures.picture_uri(tmp_path, name) is None


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
