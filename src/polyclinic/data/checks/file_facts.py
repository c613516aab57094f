"""The head of one file to its facts: what it is, whatever its name says."""

import warnings
from pathlib import Path
from typing import Any

from polyclinic.data.checks.check import FileFacts
from polyclinic.data.checks.identity import dicom_identity, image_identity

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
    if name.lower().endswith((".nii", ".nii.gz")):
        return FileFacts(name, kind, grid=_grid(path))
    return FileFacts(name, kind, empty=not head)


def _image(path: Path, name: str, kind: str) -> FileFacts:
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path, formats=IMAGE_KINDS) as image:
            warnings.simplefilter("ignore")
            bits = 16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8)
            return FileFacts(name, kind, bits=bits, identity=image_identity(image))
    except Exception:  # decoders trip in many ways over damaged files
        return FileFacts(name, kind)


def _grid(path: Path) -> tuple[float, ...]:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        affine = [round(float(value), 3) for value in image.affine.ravel()]
        return (*(float(n) for n in image.shape[:3]), *affine)
    except Exception:  # as above; the reader says what is wrong with it
        return ()
