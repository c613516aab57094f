"""What a compressed frame says of its own size, before anything is decoded.

A frame of a few bytes may declare any size, and decoders believe the frame, not the header.
"""

import struct

_J2K = b"\xff\x4f\xff\x51"  # start of codestream, image and tile size
_JPEG = b"\xff\xd8"
_J2K_WITHIN = 4096
"""Bytes in which a codestream begins that is wrapped in a JP2 file."""
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # tables and extensions among the numbers of frame headers
_JPEG_LS_FRAME = 0xF7
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def declared_size(frame: bytes) -> tuple[int, int] | None:
    """(H, W) of a JPEG, JPEG-LS or JPEG 2000 frame; None where it does not say.

    ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2, 15444-1 A.5.1.
    """
    if frame.startswith(_JPEG):
        return _jpeg_size(frame)
    start = frame[:_J2K_WITHIN].find(_J2K)
    if start < 0 or len(frame) < start + 24:
        return None
    width, height, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
    return height - top, width - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(frame):
        if frame[place] != 0xFF:
            return None
        marker = frame[place + 1]
        if marker == 0xFF:  # filled up
            place += 1
        elif marker in _ALONE:
            place += 2
        elif (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == _JPEG_LS_FRAME:
            height, width = struct.unpack(">HH", frame[place + 5 : place + 9])
            return (height, width) if height else None  # it may follow after the first scan
        else:
            place += 2 + struct.unpack(">H", frame[place + 2 : place + 4])[0]
    return None
