"""Stored values, against pydicom and against slow and obvious code."""

import struct
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from polyclinic.data.dicom.codestream import declared_size
from polyclinic.data.dicom.header import read_dataset
from polyclinic.data.dicom.images import read_image
from polyclinic.data.dicom.pixels import decode, frame_count
from polyclinic.errors import DataError

DEFLATED = "1.2.840.10008.1.2.8.1"


def numbers(shape, dtype, seed=0):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2", "<u4", "<i4"])
@pytest.mark.parametrize("frames", [None, 3])
def test_grey_of_every_depth(tmp_path, write_dicom, dtype, frames):
    cells = numbers((frames or 1, 5, 7), dtype)
    path = write_dicom(tmp_path / "a", cells if frames else cells[0], frames=frames)
    dataset = read_dataset(path, "a")
    assert frame_count(dataset, "a") == (frames or 1)
    for number in range(frames or 1):
        frame = decode(dataset, "a", number)
        assert np.array_equal(frame.values, cells[number])
        assert (frame.signed, frame.bits) == (cells.dtype.kind == "i", cells.itemsize * 8)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_by_pixel_and_by_plane(tmp_path, write_dicom, planar):
    rgb = numbers((5, 7, 3), "u1")
    stored = rgb if planar == 0 else rgb.transpose(2, 0, 1).copy().reshape(5, 7, 3)
    path = write_dicom(tmp_path / "a", stored, PlanarConfiguration=planar)
    assert np.array_equal(decode(read_dataset(path, "a"), "a").values, rgb)


def test_ybr_becomes_rgb(tmp_path, write_dicom):
    grey = np.stack([np.full((2, 2), value, np.uint8) for value in (77, 128, 128)], -1)
    path = write_dicom(tmp_path / "a", grey, PhotometricInterpretation="YBR_FULL")
    frame = decode(read_dataset(path, "a"), "a")
    assert frame.photometric == "RGB"
    assert (frame.values == 77).all()


@pytest.mark.parametrize("frames", [1, 3])
def test_one_bit_whose_frames_begin_within_a_byte(tmp_path, write_dicom, frames):
    bits = numbers((frames, 3, 5), "u1") % 2
    packed = np.packbits(bits.ravel(), bitorder="little")
    elements = {"BitsAllocated": 1, "BitsStored": 1, "Rows": 3, "Columns": 5}
    path = write_dicom(tmp_path / "a", packed[None], NumberOfFrames=frames, **elements)
    dataset = read_dataset(path, "a")
    for number in range(frames):
        assert np.array_equal(decode(dataset, "a", number).values, bits[number])


def compressed(path, frames, syntax):
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    # pydicom refuses to write a syntax that it does not know
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless if syntax == DEFLATED else syntax
    dataset.save_as(path)
    if syntax == DEFLATED:
        known, wanted = JPEG2000Lossless.encode(), DEFLATED.encode() + b"\0"
        path.write_bytes(path.read_bytes().replace(known, wanted))
    return read_dataset(path, path.name)


def test_deflated_frames_and_frames_of_one_bit_in_rle(tmp_path, write_dicom):
    bits = numbers((2, 16, 16), "u1") % 2
    packed = [np.packbits(frame, bitorder="little").tobytes() for frame in bits]
    elements = {"BitsAllocated": 1, "BitsStored": 1, "Rows": 16, "Columns": 16}

    def deflated(data):
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        return packer.compress(data) + packer.flush()

    def rle(data):  # runs of one, and literal pieces
        head = struct.pack("<16I", 1, 64, *[0] * 14)
        return head + bytes([255, data[0], 128, len(data) - 3]) + data[2:] + b"\x80"

    packed_twice = [bytes([p[0], p[0]]) + p[2:] for p in packed]  # begins with a run
    for coder, source, uid in (
        (deflated, packed, DEFLATED),
        (rle, packed_twice, RLELossless),
    ):
        write_dicom(tmp_path / "a", np.zeros((1, 64), "u1"), NumberOfFrames=2, **elements)
        dataset = compressed(tmp_path / "a", [coder(p) for p in source], uid)
        for number, data in enumerate(source):
            expected = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            assert np.array_equal(decode(dataset, "a", number).values.ravel(), expected)
        with pytest.raises(DataError, match=r"^a: its pixel data are cut off: \d+ bytes of 32$"):
            decode(compressed(tmp_path / "a", [coder(p[:9]) for p in source], uid), "a")


def test_a_compressed_frame_of_another_size_is_not_decoded(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "a", numbers((8, 8), "u1"))
    wide = b"\xff\x4f\xff\x51" + struct.pack(">HH4I", 41, 0, 60000, 60000, 0, 0) + bytes(30)
    dataset = compressed(path, [wide], JPEG2000Lossless)
    message = r"^a: its compressed pixels are 60000 x 60000, its header says 8 x 8; expected the"
    with pytest.raises(DataError, match=message):
        decode(dataset, "a")


def test_sizes_that_frames_declare():
    jpeg = (
        b"\xff\xd8\xff\xe0\0\4ab\xff\xff\xc0\0\x0b\x08" + struct.pack(">HH", 3, 4) + b"\1\1\x11\0"
    )
    assert declared_size(jpeg) == (3, 4)
    assert declared_size(jpeg.replace(b"\xff\xc0", b"\xff\xf7")) == (3, 4)  # JPEG-LS
    assert declared_size(jpeg[:14]) is None
    assert declared_size(b"\xff\xd8\0\0" + bytes(20)) is None
    assert declared_size(b"") is None


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"NumberOfFrames": 4}, r"its pixels \(Explicit VR Little Endian\) cannot be decoded"),
        ({"Rows": 900}, r"^a: its pixels \(Explicit VR Little Endian\) cannot be decoded \("),
        ({"Rows": 65535, "Columns": 65535}, r"65535 x 65535 pixels; expected at least one and"),
        ({"Rows": 0}, r"6 x 0 pixels; expected at least one"),
        ({"SamplesPerPixel": 4}, r"4 samples a pixel; expected 1 or 3"),
        ({"BitsStored": None, "HighBit": 7}, r"has no BitsStored; expected a DICOM image"),
        ({"NumberOfFrames": 10**6}, r"1000000 frames; expected at most 65536"),
    ],
)
def test_what_cannot_be_decoded_is_refused(tmp_path, write_dicom, ramp, elements, expected):
    dataset = read_dataset(write_dicom(tmp_path / "a", ramp(), **elements), "a")
    with pytest.raises(DataError, match=expected) as caught:
        decode(dataset, "a", 3 if elements.get("NumberOfFrames") == 4 else 0)
    assert "\n" not in str(caught.value)


def test_files_without_pixels_frames_or_decoders(tmp_path, write_dicom, ramp, monkeypatch):
    path = write_dicom(tmp_path / "a", ramp())
    dataset = read_dataset(path, "a", pixels=False)
    with pytest.raises(DataError, match=r"^a: has no pixel data \(CT\); expected a DICOM image$"):
        decode(dataset, "a")
    dataset = read_dataset(path, "a")
    with pytest.raises(DataError, match=r"^a: no frame 1; expected 0 to 0$"):
        decode(dataset, "a", 1)
    monkeypatch.setattr("pydicom.pixels.common.CoderBase.is_available", False)
    with pytest.raises(DataError, match=r"need a decoder that is not installed; install it with"):
        decode(dataset, "a")
    del dataset.file_meta.TransferSyntaxUID
    with pytest.raises(DataError, match=r"^a: does not say its transfer syntax"):
        decode(dataset, "a")


def test_a_transfer_syntax_that_is_none_is_one_printable_line(tmp_path, write_dicom, ramp):
    path = write_dicom(tmp_path / "a", ramp())
    whole = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"\xb1.2&840.100\x108.1.2.1\0", 1)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"^a: its pixels \([ -~±]+\) cannot be decoded \("):
        read_image(path, "a")
