"""Frames of a DICOM file as they are stored: decoded, unpacked, in RGB, and not yet scaled."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dicom.codestream import declared_size
from polyclinic.data.dicom.header import quiet, reason_of, text, whole_number
from polyclinic.data.files import plain
from polyclinic.errors import DataError

MAX_PIXELS = 89_478_485
"""Frames with more are refused: a header of a few bytes may declare any size."""
MAX_FRAMES = 65_536
ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")

_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_RLE = "1.2.840.10008.1.2.5"
_JPEG_2000 = "1.2.840.10008.1.2.4.9"
_RLE_HEADER = 64


@dataclass(frozen=True)
class Frame:
    """Stored values of a frame: (H, W) grey or palette indices, (H, W, 3) RGB.

    `photometric` is what they mean now: `YBR...` has become `RGB`. Whole numbers have `bits`,
    fractions 0.
    """

    values: NDArray[Any]
    photometric: str
    bits: int
    signed: bool


def frame_count(dataset: Any, name: str) -> int:
    """Number of Frames, 1 where it is missing; `DataError` where it is no sensible number."""
    frames = whole_number(dataset, "NumberOfFrames", name, 1)
    if not 0 <= frames <= MAX_FRAMES:
        raise DataError(f"{name}: {frames} frames; expected at most {MAX_FRAMES}")
    return frames or 1


def decode(dataset: Any, name: str, frame: int = 0) -> Frame:
    """Frame number `frame` of a data set that was read with its pixels.

    The values are those of pydicom's `pixel_array`, which makes RGB of YBR. Beyond it, frames of
    one bit are decoded that are compressed as RLE, and frames that are deflated one by one.
    Raises `DataError`, which calls the file `name`, where there are no pixels, where they are too
    many, cut off, damaged, or in a transfer syntax that no installed decoder knows.
    """
    present = [keyword for keyword in ELEMENTS if keyword in dataset]
    if not present:
        kind = text(dataset, "Modality") or "no modality"
        raise DataError(f"{name}: has no pixel data ({kind}); expected a DICOM image")
    shape, samples = _shape(dataset, name)
    frames = frame_count(dataset, name)
    if not 0 <= frame < frames:
        raise DataError(f"{name}: no frame {frame}; expected 0 to {frames - 1}")
    photometric = text(dataset, "PhotometricInterpretation")
    bits = whole_number(dataset, "BitsStored", name) if present[0] == "PixelData" else 0
    signed = bool(bits and whole_number(dataset, "PixelRepresentation", name, 0))
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))
    if not syntax:
        raise DataError(f"{name}: does not say its transfer syntax; convert it with another tool")
    try:
        with quiet():
            values, photometric = _values(dataset, syntax, frame, shape, samples, photometric)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # each decoder has errors of its own, and some are not installed
        raise DataError(
            f"{name}: its pixels ({_syntax_name(syntax)}) cannot be decoded ({reason_of(error)}); "
            "repair the file, or decompress it with another tool"
        ) from None
    expected = shape if samples == 1 else (*shape, samples)
    if values.shape != expected:
        raise DataError(f"{name}: its pixels decode to {values.shape}; expected {expected}")
    return Frame(values, photometric, bits, signed)


def _shape(dataset: Any, name: str) -> tuple[tuple[int, int], int]:
    rows, columns = whole_number(dataset, "Rows", name), whole_number(dataset, "Columns", name)
    samples = whole_number(dataset, "SamplesPerPixel", name, 1)
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise DataError(
            f"{name}: {columns} x {rows} pixels; expected at least one and at most {MAX_PIXELS}"
        )
    if samples not in (1, 3):
        raise DataError(f"{name}: {samples} samples a pixel; expected 1 or 3")
    return (rows, columns), samples


def _values(
    dataset: Any,
    syntax: str,
    frame: int,
    shape: tuple[int, int],
    samples: int,
    photometric: str,
) -> tuple[NDArray[Any], str]:
    """Stored values and what they mean; errors do not name the file yet."""
    allocated = int(dataset.get("BitsAllocated") or 0)
    if syntax == _DEFLATED_FRAMES:
        return _deflated(_encapsulated(dataset, frame), shape, samples, allocated), photometric
    if syntax == _RLE and allocated == 1:
        return _packed_rle(_encapsulated(dataset, frame), shape), photometric
    from pydicom.pixels.decoders.base import get_decoder

    decoder: Any = get_decoder(syntax)
    if not decoder.is_available:
        raise DataError(
            f"its pixels ({_syntax_name(syntax)}) need a decoder that is not installed; install "
            "it with: pip install 'polyclinic[dicom]'"
        )
    if decoder.is_encapsulated and syntax != _RLE:
        declared = declared_size(_encapsulated(dataset, frame))
        if declared is not None and declared != shape:
            raise DataError(
                f"its compressed pixels are {declared[1]} x {declared[0]}, its header says "
                f"{shape[1]} x {shape[0]}; expected the same"
            )
    # pydicom's second choice for JPEG 2000 writes what it dislikes to the terminal
    only = syntax.startswith(_JPEG_2000) and "pylibjpeg" in decoder.available_plugins
    plugin = "pylibjpeg" if only else ""
    # frames of single bits may begin within a byte, which pydicom heeds only in all of them at once
    together = allocated == 1 and not decoder.is_encapsulated and shape[0] * shape[1] % 8 != 0
    index = None if together else frame
    values, meaning = decoder.as_array(dataset, index=index, decoding_plugin=plugin)
    values = values[frame] if together and values.ndim > 2 else values
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native, str(meaning["photometric_interpretation"])


def _encapsulated(dataset: Any, frame: int) -> bytes:
    from pydicom.encaps import get_frame

    frames = int(dataset.get("NumberOfFrames") or 1)
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return bytes(
        get_frame(
            dataset.PixelData,
            frame,
            number_of_frames=frames,
            extended_offsets=offsets if all(offsets) else None,
        )
    )


def _deflated(packed: bytes, shape: tuple[int, int], samples: int, allocated: int) -> NDArray[Any]:
    """Deflated Image Frame Compression (PS3.5 A.4.12): a frame at a time, no more than its size."""
    count = shape[0] * shape[1] * samples
    expected = -(-count // 8) if allocated == 1 else count * allocated // 8
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, expected + 1)
    if len(unpacked) < expected:
        raise DataError(f"its pixel data are cut off: {len(unpacked)} bytes of {expected}")
    if allocated == 1:
        return _from_bits(unpacked, shape)
    values = np.frombuffer(unpacked, f"<u{allocated // 8}", count)
    return values.reshape(shape if samples == 1 else (*shape, samples))


def _packed_rle(packed: bytes, shape: tuple[int, int]) -> NDArray[Any]:
    """RLE Lossless (PS3.5 annex G) of eight pixels a byte, which pydicom does not decode."""
    segments, start, end = struct.unpack("<3I", packed[:12])
    if segments != 1:
        raise DataError(f"its RLE frame has {segments} segments; expected 1")
    expected = -(-shape[0] * shape[1] // 8)
    source = memoryview(packed)[max(start, _RLE_HEADER) : end or None]
    unpacked, place = bytearray(), 0
    while place < len(source) and len(unpacked) < expected:
        control = source[place]
        if control < 128:
            unpacked += source[place + 1 : place + 2 + control]
            place += 2 + control
        elif control > 128:
            unpacked += bytes(source[place + 1 : place + 2]) * (257 - control)
            place += 2
        else:
            place += 1
    if len(unpacked) < expected:
        raise DataError(f"its pixel data are cut off: {len(unpacked)} bytes of {expected}")
    return _from_bits(bytes(unpacked), shape)


def _from_bits(packed: bytes, shape: tuple[int, int]) -> NDArray[np.uint8]:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    return bits[: shape[0] * shape[1]].reshape(shape)


def _syntax_name(syntax: str) -> str:
    from pydicom.uid import UID

    with quiet():  # it warns of what is no UID
        return plain(str(UID(syntax).name))
