"""PNG, JPEG and TIFF: read, and written with nothing changed but what was edited."""

import json

import numpy as np
import pytest
from PIL import Image

from polyclinic.errors import DataError
from polyclinic.inpaint.files import FORMATS, images, read_source

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12


def kinds():
    rgba = np.dstack([GREY, GREY, GREY, 255 - GREY])
    return {
        "8.png": Image.fromarray(GREY),
        "16.png": Image.fromarray(GREY.astype(np.uint16) * 257),
        "16.tif": Image.fromarray(GREY.astype(np.uint16) * 257),
        "rgb.png": Image.fromarray(rgba[..., :3]),
        "rgba.png": Image.fromarray(rgba),
        "palette.png": Image.fromarray(GREY).convert("P"),
        "a.JPG": Image.fromarray(GREY),
    }


@pytest.mark.parametrize("name", kinds())
def test_only_edited_pixels_change(tmp_path, record, name):
    kinds()[name].save(tmp_path / name)
    source = read_source(tmp_path / name, "t1n")
    stored = source.volumes[0]
    edited = stored.copy()
    edited[0, 1, 2] = 77
    FORMATS["png"].write(source, {0: edited}, tmp_path / "out", record)
    with Image.open(tmp_path / "out") as image:
        again = np.array(image)
        assert image.format == "PNG"
        assert image.info["Description"].startswith("SYNTHETIC")
        assert json.loads(image.info[images.TEXT_KEY])["painter"] == record.painter
    before = np.array(Image.open(tmp_path / name))
    if name == "palette.png":
        before = np.dstack([GREY] * 3)
    expected = before.copy()
    if expected.ndim == 3:
        expected[1, 2, :3] = 77
    else:
        expected[1, 2] = 77
    assert again.dtype == expected.dtype
    assert np.array_equal(again, expected)


def test_a_tiff_that_lies_on_its_side_is_turned(tmp_path):
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    read, _ = read_source(tmp_path / "a.tif", "t1n").held
    np.testing.assert_array_equal(read, np.rot90(pixels, -1))


def test_the_text_tells_no_folder_of_the_user(tmp_path, record):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    source = read_source(tmp_path / "a.png")
    FORMATS["png"].write(source, dict(source.volumes), tmp_path / "out", record)
    with Image.open(tmp_path / "out") as image:
        assert json.loads(image.info[images.TEXT_KEY])["input"] == "a.png"


def test_other_images_are_refused(tmp_path):
    coloured = np.dstack([GREY, GREY, 255 - GREY])
    Image.fromarray(coloured).save(tmp_path / "c.png")
    Image.fromarray(GREY > 30).save(tmp_path / "bits.png")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "f.tif")
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(GREY).save(
        tmp_path / "two.tif", save_all=True, append_images=[Image.fromarray(GREY)]
    )
    for name, expected in {
        "c.png": r"c\.png: an image in colours; expected a grey MRI slice",
        "bits.png": r"black and white, 1 bit; expected a grey slice",
        "f.tif": r"pixels of type float32; expected grey of 8 or 16 bits",
        "text.png": r"not a PNG, JPEG or TIFF image, or damaged",
        "two.tif": r"holds several images; expected one",
        "gone.png": r"gone\.png: no such file or folder; expected a PNG",
    }.items():
        with pytest.raises(DataError, match=expected):
            read_source(tmp_path / name)


def test_deep_colours_are_refused_rather_than_halved(tmp_path):
    import cv2

    deep = np.full((3, 3, 3), 0x1234, np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    with pytest.raises(DataError, match=r"colours of 16 bits; expected grey"):
        read_source(tmp_path / "deep.png")
