"""Which way up a DICOM image is stored, and how it is turned to be seen the usual way.

Usual is: axial with the patient's right on the left and anterior at the top, coronal with the right
on the left and the head at the top, sagittal with anterior on the left and the head at the top.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dicom.groups import group
from polyclinic.data.dicom.header import floats, text

_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
"""Patient axis of DICOM (x to the left, y to posterior, z to the head) and direction."""
_USUAL = {  # by the axis that the image lacks: axis and direction of columns, then of rows
    2: ((0, 1), (1, 1)),
    1: ((0, 1), (2, -1)),
    0: ((1, 1), (2, -1)),
}
_NOT_TURNED = "MG"
"""Mammograms of left and right are mirrored on purpose."""
_OBLIQUE = 0.8
"""Cosine to the nearest axis below which an image is left as it is."""


@dataclass(frozen=True)
class Turn:
    """`swap` rows and columns, then reverse rows (`down`), then columns (`across`)."""

    swap: bool = False
    down: bool = False
    across: bool = False

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """(H, W, ...) turned."""
        turned = np.swapaxes(image, 0, 1) if self.swap else image
        turned = turned[::-1] if self.down else turned
        return np.ascontiguousarray(turned[:, ::-1] if self.across else turned)

    def undo(self, image: NDArray[Any]) -> NDArray[Any]:
        """What `apply` was given."""
        turned = image[:, ::-1] if self.across else image
        turned = turned[::-1] if self.down else turned
        return np.ascontiguousarray(np.swapaxes(turned, 0, 1) if self.swap else turned)


def turn_of(dataset: Any, frame: int = 0) -> Turn:
    """How frame `frame` is turned; not at all where the file does not say which way up it is.

    From Image Orientation (Patient), also of the frame, or else from Patient Orientation.
    """
    ways = _of_plane(dataset, frame) or _of_letters(dataset)
    if ways is None or text(dataset, "Modality") == _NOT_TURNED:
        return Turn()
    (across, across_way), (down, down_way) = ways
    if across == down:
        return Turn()
    columns, rows = _USUAL[3 - across - down]
    swap = across != columns[0]
    if swap:
        across_way, down_way = down_way, across_way
    return Turn(swap, down_way != rows[1], across_way != columns[1])


def _of_plane(dataset: Any, frame: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    plane = group(dataset, "PlaneOrientationSequence", frame)
    cosines = floats(plane, "ImageOrientationPatient", 6)
    if cosines is None:
        return None
    found = []
    for part in (np.array(cosines[:3]), np.array(cosines[3:])):
        axis = int(np.abs(part).argmax())
        if not np.abs(part[axis]) >= _OBLIQUE:
            return None
        found.append((axis, 1 if part[axis] > 0 else -1))
    return found[0], found[1]


def _of_letters(dataset: Any) -> tuple[tuple[int, int], tuple[int, int]] | None:
    value = text(dataset, "PatientOrientation")
    words = [word.strip(" '[]\"") for word in value.replace("\\", ",").split(",")]
    found = [_LETTERS.get(word[:1].upper()) for word in words]
    if len(found) != 2 or found[0] is None or found[1] is None:
        return None
    return found[0], found[1]
