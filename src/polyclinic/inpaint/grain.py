"""The scanner's noise, which no network that estimates the image paints: put back as it is around.

An estimate of the image given noise is a mean over what the image may be, and what nobody can tell
is averaged away: the noise of the scanner first of all. A painted region then is smoother than its
surroundings, and is told from them by that alone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.inpaint.intensity import BLACK

REACH = 1 / 16
"""Width of the surroundings that are looked at, as a share of the head's extent."""
SMOOTHING = 0.5
"""Standard deviation, px, of the filter that makes grain of white noise: pixels of slices that
were resampled are not independent."""
AIR = BLACK + 0.2
"""Darker pixels are air: their noise is another, and they neither give nor take grain."""
LEAST = 12
"""Pixels from which the strength of grain can be told."""
CALM = 1 / 3
"""Quantile of absolute values that noise is told from: the folds of the brain lie above it."""
_CALM_NORMAL = 0.4307  # that quantile of normal numbers, as a share of their standard deviation


def strength(plane: NDArray[np.floating], where: NDArray[np.bool_]) -> float:
    """Standard deviation of the Laplacian of `plane` (H, W) over the pixels `where`, as if it were
    normal, from its lower third; 0 where there are too few pixels.

    Immerkaer (Fast Noise Variance Estimation, 1996, equation 7) takes the mean of its absolute
    values, and so takes every edge for noise.
    """
    if np.count_nonzero(where) < LEAST:
        return 0.0
    return float(np.quantile(np.abs(ndimage.laplace(plane)[where]), CALM) / _CALM_NORMAL)


def grained(
    plane: NDArray[np.float32],
    painted: NDArray[np.bool_],
    head_px: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """`plane` (H, W), scaled intensities, with grain in the pixels `painted`, all others as before.

    Each piece gets what it lacks against the tissue around it; one that is as rough stays as it is.
    `head_px` is the head's extent in this plane.
    """
    noise = ndimage.gaussian_filter(rng.standard_normal(plane.shape), SMOOTHING)
    unit = strength(noise, np.ones(plane.shape, bool))
    width = max(3, round(head_px * REACH))
    tissue = plane > AIR
    beside = ndimage.binary_dilation(painted)  # its Laplacian sees painted pixels
    out = plane.copy()
    pieces, count = ndimage.label(painted)
    for number in range(1, count + 1):
        piece = pieces == number
        around = ndimage.binary_dilation(piece, iterations=width) & ~beside & tissue
        within = ndimage.binary_erosion(piece) & tissue
        if np.count_nonzero(within) < LEAST:
            within = piece & tissue
        wanted, there = strength(plane, around), strength(plane, within)
        if wanted > there:
            amplitude = np.sqrt(wanted**2 - there**2) / unit
            out = np.where(piece & tissue, out + amplitude * noise, out).astype(np.float32)
    return out
