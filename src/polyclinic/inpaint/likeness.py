"""How much a slice looks like a brain from above: cheap, and enough to warn of other images."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.inpaint.intensity import BLACK

NOT_A_BRAIN = 0.6
"""From this score on, an image gets a warning. Measured on public images, one threshold for all:
3 % of 636 axial slices with a glioma get one, all their sequences shown (6 % of the T1 before
contrast alone; most are of a head that the image cuts off), and so do, of 300 images each, 87 % of
chest radiographs, 99 % of breast ultrasounds and all blood smears. Other axial sections that are
round and symmetrical, a knee's or an abdomen's, may pass for a head."""
SIDE = 24
"""Halves of a head are compared at this resolution, px."""


def unlikeness(plane: NDArray[np.float32], head: NDArray[np.bool_]) -> float:
    """From 0 (an axial head) to 1 for a slice (H, W) of scaled intensities and its head.

    One minus the product of three shares: how well the head fills an ellipse of its width and
    height, how much of the image's edge is air, and how symmetrical the head is, as the
    correlation of the slice with its mirror image.
    """
    if not head.any():
        return 1.0
    rows, columns = np.flatnonzero(head.any(1)), np.flatnonzero(head.any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    height, width = head[box].shape
    filled = head.sum() / (np.pi / 4 * height * width)
    ellipse = min(filled, 1 / filled)
    edge = np.concatenate([head[0], head[-1], head[:, 0], head[:, -1]])
    cut = np.where(head, plane, BLACK)[box].astype(np.float64)
    small = ndimage.zoom(
        ndimage.gaussian_filter(cut, (height / SIDE / 2, width / SIDE / 2)),
        (SIDE / height, SIDE / width),
        order=1,
    )
    mirrored = small[:, ::-1]
    alike = 0.0
    if small.std() > 0:
        alike = max(0.0, float(np.corrcoef(small.ravel(), mirrored.ravel())[0, 1]))
    return float(1 - ellipse * (1 - edge.mean()) * alike)
