"""The scanner's noise, which no network that estimates the image paints: put back as it is around.

An estimate of the image given noise is a mean over what the image may be, and what nobody can tell
is averaged away: the noise of the scanner first of all. A painted region then is smoother than its
surroundings, and is told from them by that alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.inpaint.components import KEEP, TUMOUR_FREE
from polyclinic.inpaint.intensity import BLACK

RIM = 1 / 16
"""Width of the skin and skull, which are rough by their edges and left out, as a share of the
head's extent."""
REACH = 3 / 16
"""Width of the surroundings that are looked at, as a share of the head's extent."""
SMOOTHING = 0.5
"""Standard deviation, px, of the filter that makes grain of white noise: pixels of slices that
were resampled are not independent."""
AIR = BLACK + 0.2
"""Darker pixels are air: their noise is another, and they neither give nor take grain."""
WINDOW = 5
"""Side, px, of the windows that roughness is told from."""
LEAST = 12
"""Windows from which the strength of grain can be told."""
CALM, USUAL = 1 / 4, 1 / 2
"""Quantile of the windows that tell how rough a tumour has to be, and tissue without one: the folds
of the brain, which a tumour has not, and edges lie above."""


def strength(
    plane: NDArray[np.floating], where: NDArray[np.bool_], quantile: float
) -> float | None:
    """Roughness of `plane` (H, W) in `where`: root of the quantile `quantile`, over the windows of
    5 x 5 pixels that lie in `where`, of their mean squared Laplacian. Where it is too narrow for
    whole windows, half a window is enough; None where there are too few pixels to tell.

    Immerkaer (Fast Noise Variance Estimation, 1996, equation 7) takes the mean of the Laplacian's
    absolute values over the image, and so takes every edge for noise; that the calmest blocks of an
    image tell its noise is an old rule (Olsen, Estimation of Noise in Images, 1993).
    """
    inside = where.astype(np.float64)
    share = ndimage.uniform_filter(inside, WINDOW, mode="constant")
    squares = ndimage.uniform_filter(ndimage.laplace(plane) ** 2 * inside, WINDOW, mode="constant")
    for enough in (0.99, 0.5):
        windows = where & (share > enough)
        if np.count_nonzero(windows) >= LEAST:
            found = np.quantile(squares[windows] / share[windows], quantile)
            return float(
                np.sqrt(max(found, 0.0))
            )  # running sums leave less than 0 where it is flat
    return None


def grained(
    plane: NDArray[np.float32],
    fill_map: NDArray[np.int8],
    head_px: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """`plane` (H, W), scaled intensities, with grain where `fill_map` (H, W) says that something
    was painted, all other pixels as before.

    Each piece gets what it lacks against the tissue around it: its tumour as much as calm tissue
    has, the rest as much as tissue usually has. Where too little tissue is left around, all tissue
    within the skull tells, or all of the head but its edge; where nothing can tell, there is no
    grain. What is as rough stays as it is. `head_px` is the head's extent in its largest slice.
    """
    noise = ndimage.gaussian_filter(rng.standard_normal(plane.shape), SMOOTHING)
    tissue = plane > AIR
    head = ndimage.binary_fill_holes(ndimage.binary_opening(tissue))
    within_skull = ndimage.binary_erosion(head, iterations=_width(RIM, head_px))
    painted = fill_map != KEEP
    real = tissue & ~ndimage.binary_dilation(painted)  # beside it, the Laplacian sees painted ones
    brain, edgeless = real & within_skull, real & ndimage.binary_erosion(head)
    out = plane.copy()
    pieces, count = ndimage.label(painted)
    for number in range(1, count + 1):
        piece = pieces == number
        near = ndimage.binary_dilation(piece, iterations=_width(REACH, head_px))
        tumour = piece & (fill_map > TUMOUR_FREE)
        for part, quantile in ((tumour, CALM), (piece & ~tumour, USUAL)):
            if not part.any():
                continue
            wanted = _first(plane, (brain & near, brain, edgeless), quantile)
            # Of a part that is too narrow to tell: what a network paints is smooth.
            there = _first(plane, (ndimage.binary_erosion(part) & tissue,), quantile)
            if wanted > there:
                unit = _first(noise, (np.ones(plane.shape, bool),), quantile)
                amplitude = np.sqrt(wanted**2 - there**2) / unit
                out = np.where(part & tissue, out + amplitude * noise, out).astype(np.float32)
    return out


def _first(
    plane: NDArray[np.floating], places: Sequence[NDArray[np.bool_]], quantile: float
) -> float:
    """Strength in the first of the places that can tell, 0 where none can."""
    found = (strength(plane, place, quantile) for place in places)
    return next((one for one in found if one is not None), 0.0)


def _width(share: float, head_px: float) -> int:
    return max(3, round(share * head_px))
