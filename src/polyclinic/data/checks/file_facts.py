"""The head of one file to its facts: what it is, whatever its name says."""

from pathlib import Path

from polyclinic.data.checks.check import FileFacts
from polyclinic.data.checks.identity import dicom_identity, image_identity
from polyclinic.data.images import quiet_decoders
from polyclinic.data.nifti import grid, is_volume

IMAGE_KINDS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_HEAD = 352  # bytes; the mark of NIfTI ends there
_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "DICOM"),  # first: its preamble may hold the mark of a TIFF
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "GZIP"),
    (344, b"n+1\0", "NIfTI"),
)
_BITS = {"1": 1, "I": 32, "F": 32}  # of Pillow's modes; I;16 and its like have 16, others 8


def file_facts(folder: Path, name: str) -> FileFacts:
    """Look at the first bytes of a file, and at the header of an image, volume or DICOM file.

    Headers that cannot be read leave their facts empty: whether an image can be decoded is for
    `image_facts` to say.
    """
    path = folder / name
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return FileFacts(name)
    kind = next((k for at, mark, k in _MARKS if head[at : at + len(mark)] == mark), "")
    if kind in IMAGE_KINDS:
        return _image(path, name, kind)
    if kind == "DICOM":
        return FileFacts(name, kind, identity=dicom_identity(path))
    if is_volume(name):
        return FileFacts(name, kind, grid=grid(path))
    return FileFacts(name, kind, empty=not head)


def _image(path: Path, name: str, kind: str) -> FileFacts:
    from PIL import Image

    try:
        with quiet_decoders(), Image.open(path, formats=IMAGE_KINDS) as image:
            bits = 16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8)
            return FileFacts(name, kind, bits=bits, identity=image_identity(image))
    except Exception:  # decoders trip in many ways over damaged files
        return FileFacts(name, kind)
