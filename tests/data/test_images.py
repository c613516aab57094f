import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin

from polyclinic.data.images import read_image, read_label_map, to_uint8
from polyclinic.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def saved(tmp_path, image, name="a.png", **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF", "a.bmp"])
@pytest.mark.parametrize("pixels", [RGB, GREY], ids=["rgb", "grey"])
def test_lossless_files_come_back_exactly(tmp_path, name, pixels):
    np.testing.assert_array_equal(read_image(saved(tmp_path, pixels, name), name), pixels)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_lossy_files_come_back_nearly(tmp_path, name):
    smooth = np.linspace(0, 255, 32 * 32).reshape(32, 32, 1).astype(np.uint8)
    smooth = np.concatenate([smooth, 255 - smooth, smooth // 2], axis=2)
    read = read_image(saved(tmp_path, smooth, name), name)
    assert read.shape == (32, 32, 3)
    assert np.abs(read.astype(int) - smooth).mean() < 8


@settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    pixels=st.one_of(
        hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
        hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
        hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2, st.just(3))),
        hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2, st.just(4))),
        hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    )
)
def test_any_png_gives_uint8_of_its_size(tmp_path, pixels):
    read = read_image(saved(tmp_path, pixels), "a.png")
    assert read.dtype == np.uint8
    assert read.shape[:2] == pixels.shape[:2]
    assert read.shape[2:] in ((), (3,))


def test_palette_one_bit_and_equal_channels_are_grey(tmp_path):
    grey_as_rgb = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(saved(tmp_path, grey_as_rgb), "a"), GREY)
    palette = Image.fromarray(GREY).convert("P")
    np.testing.assert_array_equal(read_image(saved(tmp_path, palette), "a"), GREY)
    bits = GREY > 127
    np.testing.assert_array_equal(read_image(saved(tmp_path, bits), "a"), bits * np.uint8(255))


def test_coloured_palette_is_rgb(tmp_path):
    palette = Image.fromarray(RGB).quantize(256)
    read = read_image(saved(tmp_path, palette), "a")
    np.testing.assert_array_equal(read, np.asarray(palette.convert("RGB")))


def test_a_palette_that_is_missing_is_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(RGB).quantize(256))
    whole = path.read_bytes()
    start, end = whole.index(b"PLTE") - 4, whole.index(b"IDAT") - 4
    path.write_bytes(whole[:start] + whole[end:])
    with pytest.raises(DataError, match="a: colours by number, without the palette"):
        read_image(path, "a")


def test_transparent_pixels_are_black(tmp_path):
    alpha = np.zeros((5, 7, 1), np.uint8)
    alpha[0] = 255
    read = read_image(saved(tmp_path, np.concatenate([RGB, alpha], axis=2)), "a")
    np.testing.assert_array_equal(read[0], RGB[0])
    assert not read[1:].any()
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha[..., 0])])
    read = read_image(saved(tmp_path, grey_alpha), "a")
    np.testing.assert_array_equal(read[0], GREY[0])
    assert read.shape == (5, 7)
    assert not read[1:].any()


def test_sixteen_bits_are_scaled_robustly(tmp_path):
    deep = np.linspace(1000, 3000, 10_000).reshape(100, 100).astype(np.uint16)
    deep[0, 0] = 65_535  # a hot pixel must not darken the rest
    read = read_image(saved(tmp_path, deep), "a")
    low, high = np.percentile(deep, (0.5, 99.5))
    slow = np.rint(np.clip((deep - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(read, slow)
    assert (read.min(), read.max()) == (0, 255)


def test_few_bright_pixels_on_black_survive():
    image = np.zeros((100, 100), np.uint16)
    image[3, 4] = 700
    assert to_uint8(image, "a")[3, 4] == 255


def test_huge_floats_do_not_overflow():
    image = np.array([[-1.7e308, 0.0], [0.0, 1.7e308]])
    assert to_uint8(image, "a").tolist() == [[0, 128], [128, 255]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_by_name(tmp_path, bad):
    pixels = np.ones((4, 4), np.float32)
    pixels[1, 2] = bad
    path = saved(tmp_path, Image.fromarray(pixels), "f.tif")
    with pytest.raises(DataError, match=r"f\.tif: pixels that are NaN or infinite"):
        read_image(path, "f.tif")


@pytest.mark.parametrize("end", ["png", "jpg", "webp"])
def test_an_orientation_is_found_in_every_format(tmp_path, end):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 24)).save(tmp_path / f"a.{end}", exif=exif)
    assert read_image(tmp_path / f"a.{end}", "a").shape == (40, 24)
    Image.new("L", (40, 24)).save(tmp_path / f"b.{end}")
    assert read_image(tmp_path / f"b.{end}", "b").shape == (24, 40)


def test_an_orientation_in_a_comment_is_found(tmp_path):
    info = PngImagePlugin.PngInfo()
    packet = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    info.add_itxt("XML:com.adobe.xmp", packet)
    Image.new("L", (40, 24)).save(tmp_path / "a.png", pnginfo=info)
    assert read_image(tmp_path / "a.png", "a").shape == (40, 24)


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    read = read_image(saved(tmp_path, image, exif=exif), "a")
    np.testing.assert_array_equal(read, np.rot90(RGB, -1))


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}
"""How an image lies that is stored with each value of the orientation tag (TIFF 6.0, p. 36)."""


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation_of_a_tiff(tmp_path, compression, orientation):
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path, compression=compression, tiffinfo={0x0112: orientation})
    np.testing.assert_array_equal(read_image(path, "a.tif"), TURNS[orientation](pixels))


def bomb(path, width, height):
    """A PNG of a few bytes that declares any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        check = struct.pack(">I", zlib.crc32(kind + body))
        data += struct.pack(">I", len(body)) + kind + body + check
    path.write_bytes(data)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_refused(tmp_path, side):
    bomb(tmp_path / "bomb.png", side, side)
    with pytest.raises(DataError, match=r"bomb\.png: .*pixels.*refused"):
        read_image(tmp_path / "bomb.png", "bomb.png")


def test_damaged_files_are_named_with_a_reason(tmp_path):
    whole = saved(tmp_path, RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), "a.jpg")
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:900])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"cut\.jpg: .*truncated"):
        read_image(tmp_path / "cut.jpg", "cut.jpg")
    for name in ("empty.png", "text.png"):
        with pytest.raises(DataError, match=f"{name}: not an image"):
            read_image(tmp_path / name, name)
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png", "gone.png")
    with pytest.raises(DataError, match=r"scan\.dcm: no such file"):
        read_image(tmp_path / "scan.dcm", "scan.dcm")


def test_every_cut_of_a_file_is_a_data_error_or_an_image(tmp_path):
    data = saved(tmp_path, RGB).read_bytes()
    for length in range(0, len(data), 3):
        (tmp_path / "b.png").write_bytes(data[:length])
        try:
            assert read_image(tmp_path / "b.png", "b").dtype == np.uint8
        except DataError:
            continue


def test_content_decides_not_the_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match="not an image"):
        read_image(tmp_path / "a.png", "a.png")


def test_several_pages_are_refused(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    path = saved(tmp_path, pages[0], "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="holds 2 images; expected one"):
        read_image(path, "a.tif")


def test_label_maps_keep_their_values_and_width(tmp_path):
    for dtype in (np.uint8, np.uint16):
        labels = np.array([[0, 1], [2, 200]], dtype)
        read = read_label_map(saved(tmp_path, labels), "m")
        np.testing.assert_array_equal(read, labels)
        assert read.dtype.itemsize == labels.dtype.itemsize
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9] * 3 + [200, 0, 0])
    palette.putpixel((1, 0), 3)
    assert read_label_map(saved(tmp_path, palette), "m").tolist() == [[0, 3]]
    bits = np.array([[True, False]])
    assert read_label_map(saved(tmp_path, bits), "m").tolist() == [[1, 0]]
    with pytest.raises(DataError, match="m: a mask in colours"):
        read_label_map(saved(tmp_path, RGB), "m")
    with pytest.raises(DataError, match="m: a mask with fractions"):
        read_label_map(saved(tmp_path, np.full((2, 2), 0.5, np.float32), "m.tif"), "m")
