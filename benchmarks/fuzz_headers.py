"""Headers that claim what is not so, and small files that unpack to large ones."""

import contextlib
import functools
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

MIB = 2**20
_TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 512, 768, 1024, 1536, 1792, 2048, 2304, 999)
_BITS = (0, 1, 8, 64, 256)
_MAGIC = (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n", b"n+2\0\n\n\n\n", b"n+1")
HUGE = (0, 1, 255, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def as_nifti2(data: bytes) -> bytearray:
    """A volume with a NIfTI-1 header, under one of NIfTI-2: the same fields, wider."""
    head = bytearray(544)
    struct.pack_into("<i8s", head, 0, 540, b"n+2\0\r\n\x1a\n")
    head[12:16] = data[70:74]  # datatype, bitpix
    struct.pack_into("<8q", head, 16, *struct.unpack_from("<8h", data, 40))  # dim
    struct.pack_into("<8d", head, 104, *struct.unpack_from("<8f", data, 76))  # pixdim
    struct.pack_into("<q2d", head, 168, 544, *struct.unpack_from("<2f", data, 112))  # scaling
    struct.pack_into("<2i", head, 344, *struct.unpack_from("<2h", data, 252))  # form codes
    struct.pack_into("<6d", head, 352, *struct.unpack_from("<6f", data, 256))  # quaternion
    struct.pack_into("<12d", head, 400, *struct.unpack_from("<12f", data, 280))  # affine
    return head + data[352:]


def claim_nifti2(data: bytearray, rng: np.random.Generator) -> None:
    """Damage the fields that `claim_nifti` does, in a NIfTI-2 header: sizes have 64 bits."""
    if len(data) < 544:
        return
    sides = [-1, 0, 1, 10, 16, 4096, 2**15, 2**27, 2 * 10**9, 2**31, 2**62]
    kind = int(rng.integers(7))
    if kind == 0:
        axes = int(rng.choice([-1, 0, 3, 3, 4, 5, 7, 9]))
        struct.pack_into("<8q", data, 16, axes, *rng.choice(sides, 7).tolist())
    elif kind == 1:
        struct.pack_into("<q", data, 16 + 8 * int(rng.integers(1, 5)), int(rng.choice(sides)))
    elif kind == 2:
        struct.pack_into("<hh", data, 12, int(rng.choice(_TYPES)), int(rng.choice(_BITS)))
    elif kind == 3:
        struct.pack_into("<q", data, 168, int(rng.choice([-1, 0, 540, 545, 10**9, 2**62])))
    elif kind == 4:
        struct.pack_into("<2d", data, 176, *rng.choice([0, 1e300, np.nan, np.inf, -1], 2).tolist())
    elif kind == 5:
        values = rng.choice([0, 1, np.nan, np.inf, 1e300], 12).tolist()
        struct.pack_into("<12d", data, 400, *values)
    else:
        struct.pack_into("<i8s", data, 0, int(rng.choice([540, 348])), _MAGIC[rng.integers(4)])


def claim_nifti(data: bytearray, rng: np.random.Generator) -> None:
    """Damage dim, datatype, bitpix, vox_offset, scaling, or the affine of a NIfTI-1 header."""
    if len(data) < 352:
        return
    kind = int(rng.integers(7))
    if kind == 0:
        sizes = rng.choice([-1, 0, 1, 16, 4096, 32767], 7).tolist()
        struct.pack_into("<8h", data, 40, int(rng.choice([-1, 0, 3, 4, 5, 7, 9])), *sizes)
    elif kind == 1:
        struct.pack_into(
            "<h", data, 40 + 2 * int(rng.integers(1, 5)), int(rng.choice([0, -5, 32767]))
        )
    elif kind == 2:
        struct.pack_into("<hh", data, 70, int(rng.choice(_TYPES)), int(rng.choice(_BITS)))
    elif kind == 3:
        offset = float(rng.choice([-1, 0, 348, 352.5, 1e9, np.nan, np.inf]))
        struct.pack_into("<f", data, 108, offset)
    elif kind == 4:
        scaling = rng.choice([0, 1e38, np.nan, np.inf, -1], 2).tolist()
        struct.pack_into("<ff", data, 112, *scaling)
    elif kind == 5:
        struct.pack_into("<12f", data, 280, *rng.choice([0, 1, np.nan, np.inf, 1e30], 12).tolist())
    else:
        data[344:352] = rng.choice(
            [b"n+1\0\1\0\0\0", b"ni1\0\0\0\0\0", b"n+2\0\0\0\0\0", b"\0" * 8]
        )


def claim_npy(raw: bytes, rng: np.random.Generator) -> bytes:
    """An `.npy` member with another header."""
    shapes = [
        "(100000000, 16, 16)", "(0, 16, 16)", "(6,)", "()", "(6, 16, 16, 4)", "(2000000000,)",
        "(-1, 16, 16)", "(6, 0, 16)", "(6, 16, 16)", "('a',)", "(1.5,)", "6", "(" * 3000,
        "(1," + "1," * 60 + ")", "(10**9,)", "(99999999999999999999, 2, 2)", "(6, 16, 8, 3)",
    ]  # fmt: skip
    kinds = [
        "|u1",
        "|O",
        "<f8",
        "<U9",
        "|V8",
        "<c16",
        "|b1",
        "M8[s]",
        "<i8",
        ">f2",
        "|S5",
        "x",
        "<U0",
    ]
    kinds += ["[('a', '<i4')]"]
    descr = kinds[rng.integers(len(kinds))] if rng.random() < 0.5 else "|u1"
    quoted = descr if descr.startswith("[") else repr(descr)
    shape = shapes[rng.integers(len(shapes))]
    order = ("False", "True", "None")[rng.choice(3, p=[0.7, 0.2, 0.1])]
    header = f"{{'descr': {quoted}, 'fortran_order': {order}, 'shape': {shape}}}".encode()
    version = int(rng.choice([1, 1, 2, 3, 9]))
    size = (
        struct.pack("<H", min(len(header), 65535))
        if version == 1
        else struct.pack("<I", len(header))
    )
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + raw[128:]


def claim_dicom(path: Path, rng: np.random.Generator) -> None:
    """One element of a DICOM file has another value, or is gone."""
    import warnings

    import pydicom

    keywords = (
        "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit",
        "SamplesPerPixel", "PixelRepresentation", "PhotometricInterpretation",
        "PlanarConfiguration", "WindowCenter",
        "WindowWidth", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue",
        "SegmentSequence", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence",
        "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PatientID", "Modality",
        "SOPClassUID", "DirectoryRecordSequence", "MaximumFractionalValue", "SegmentationType",
        "SpecificCharacterSet", "InstanceNumber", "StudyInstanceUID",
    )  # fmt: skip
    texts = (
        "nan",
        "inf",
        "-1",
        "0",
        "1e400",
        "65536",
        "9" * 40,
        "a\nb\x1b",
        "",
        "\\",
        "RGB",
        "LABELMAP",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):  # what pydicom refuses to write is no fault to plant
            dataset = pydicom.dcmread(path, force=True)
            for _ in range(int(rng.integers(1, 3))):
                keyword = keywords[rng.integers(len(keywords))]
                if rng.random() < 0.3:
                    delattr(dataset, keyword)
                    continue
                tag = pydicom.datadict.tag_for_keyword(keyword)
                text = texts[rng.integers(len(texts))]
                number = int(rng.choice(HUGE[:6]))
                vr, value = [
                    ("US", number), ("LO", text), ("IS", pydicom.valuerep.MultiString("0")),
                    ("UL", 2**31), ("UN", rng.bytes(6)), ("FD", float("nan")),
                ][rng.integers(6)]  # fmt: skip
                dataset.add(pydicom.DataElement(tag, vr, value, validation_mode=0))
            out = io.BytesIO()
            dataset.save_as(out, enforce_file_format=False)
            path.write_bytes(out.getvalue())


def nifti_of(size: int, rng: np.random.Generator) -> bytes:
    """The header of a volume of `size` bytes of 1, 2 or 8 bytes a voxel."""
    code, width = [(2, 1), (4, 2), (64, 8)][rng.integers(3)]
    data = bytearray(352)
    struct.pack_into("<i", data, 0, 348)
    struct.pack_into("<8h", data, 40, 3, 512, 512, max(1, size // width // 512**2), 1, 1, 1, 1)
    struct.pack_into("<hh", data, 70, code, 8 * width)
    struct.pack_into("<8f", data, 76, *[1.0] * 8)
    struct.pack_into("<f", data, 108, 352.0)
    data[344:348] = b"n+1\0"
    return bytes(data)


@functools.cache
def packed_zeros(start: bytes, size: int, *, gzipped: bool) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31 if gzipped else -15)
    out = packer.compress(start)
    for _ in range(-(-size // MIB)):
        out += packer.compress(bytes(MIB))
    return out + packer.flush()


def npz_bomb(path: Path, size: int, rng: np.random.Generator) -> None:
    """Images of zeros, few and large or many and small; sometimes labels as many."""
    side, count = [(1, size), (8192, 2), (8192, 5)][rng.integers(3)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("images", (count, side, side)), ("labels", (count,))):
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                head, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(head.getvalue())
                left = int(np.prod(shape))
                while left > 0:
                    file.write(bytes(min(left, MIB)))
                    left -= MIB


@functools.cache
def png_of_zeros(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def deflated_dicom(size: int) -> bytes:
    """A deflated data set with one element of `size` zeros."""
    syntax = b"1.2.840.10008.1.2.1.99"
    uid = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(syntax)) + syntax
    group = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(uid))
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", size // MIB * MIB)
    return (
        bytes(128) + b"DICM" + group + uid + packed_zeros(pixels, size // MIB * MIB, gzipped=False)
    )
