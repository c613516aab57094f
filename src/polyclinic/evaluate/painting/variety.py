"""Are painted regions many, and new: diversity over seeds, nearness to training images."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.checks import Image, Mask, expect_finite, expect_images


@dataclass(frozen=True)
class Diversity:
    """`distance`: mean over pairs of samples of the root mean square difference in the region;
    `deviation`: standard deviation over samples at each pixel, float64 of the region's shape, 0
    outside it; `mean_deviation`: its mean in the region."""

    distance: float
    deviation: NDArray[np.float64]
    mean_deviation: float


def diversity(samples: Image, region: Mask) -> Diversity:
    """How much samples with different seeds differ: `samples` (S, H, W) or (S, Z, H, W), S > 1.

    `region` has a sample's shape. Distances are in intensities; standard deviations have S - 1 in
    the denominator. NaN for an empty region. Raises `DataError` at other shapes, fewer than two
    samples, or numbers that are not finite.
    """
    if len(samples) < 2:
        raise DataError(f"diversity: expected at least 2 samples, got {len(samples)}")
    expect_images("diversity", region, samples[0])
    expect_finite("diversity", samples)
    deviation = np.zeros(region.shape)
    if not region.any():
        return Diversity(math.nan, deviation, math.nan)
    from scipy.spatial.distance import pdist

    values = samples[:, region].astype(np.float64)  # (S, pixels)
    distance = float(pdist(values).mean()) / math.sqrt(values.shape[1])
    deviation[region] = values.std(axis=0, ddof=1)
    return Diversity(distance, deviation, float(deviation[region].mean()))


def variants(sources: Image, shift: int) -> Image:
    """Every shift of up to `shift` px, each as it is and mirrored left to right.

    `sources` (M, H + 2 shift, W + 2 shift) are cut around a region with that much room; returns
    candidates (M * (2 shift + 1)^2 * 2, H, W), whose region `standardised` takes.
    """
    if sources.ndim != 3 or shift < 0 or min(sources.shape[1:]) <= 2 * shift:
        raise DataError(
            f"variants: expected sources (M, H + 2 shift, W + 2 shift), got {sources.shape} for a "
            f"shift of {shift} px"
        )
    window = tuple(side - 2 * shift for side in sources.shape[1:])
    views = np.lib.stride_tricks.sliding_window_view(sources, window, axis=(1, 2))
    shifted = views.reshape(-1, *window)
    return np.concatenate([shifted, shifted[..., ::-1]])


def nearest_of(pixels: Image, candidates: Image) -> float:
    """Distance of a region's pixels (P,) to the nearest of `standardised` candidates (M, P).

    The pixels are brought to mean 0 and standard deviation 1, too, so that brightness and contrast
    do not hide a copy; the distance is the root mean square difference: 0 for a copy, sqrt(2) for
    unrelated images. A region without contrast is all 0. For the real-to-real distances to compare
    with, take the pixels from a real image, and candidates from other patients. NaN for an empty
    region or without candidates. Raises `DataError` where a number is not finite.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, so that a single product serves all candidates.
    """
    if not len(pixels) or not len(candidates):
        return math.nan
    target = standardised(pixels[None])[0]
    squares = np.einsum("mp,mp->m", candidates, candidates) + np.square(target).sum()
    squares = squares - 2 * (candidates @ target.astype(candidates.dtype))
    return math.sqrt(max(0.0, float(squares.min())) / len(pixels))


def standardised(values: Image) -> NDArray[np.float64]:
    """Rows (M, P) with mean 0 and standard deviation 1; rows without contrast all 0. Raises
    `DataError` where a number is not finite."""
    expect_finite("nearest distance", values)
    if not values.size:
        return np.zeros(values.shape)
    flat = np.ptp(values, axis=1, keepdims=True) == 0
    centred = values - values.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = np.where(flat, 1.0, centred.std(axis=1, keepdims=True))
    return np.where(flat, 0.0, centred / spread)


@dataclass(frozen=True)
class CopyRate:
    """`share` of painted regions nearer to training images than `threshold`, the distance that
    `expected` of the real ones stay under."""

    share: float
    threshold: float
    expected: float


def copy_rate(
    painted: NDArray[np.float64], real: NDArray[np.float64], percentile: float = 5.0
) -> CopyRate:
    """Painted regions that are nearer to training images than real ones usually are.

    `painted` (N,) and `real` (M,) are nearest distances, of painted regions and of real ones, to
    equally many candidates. The threshold is that percentile of `real`; a painter that copies no
    more than chance has a share of about `percentile` / 100. Raises `DataError` where a set is
    empty or a distance is not finite.
    """
    if painted.ndim != 1 or real.ndim != 1 or not len(painted) or not len(real):
        raise DataError(
            f"copy rate: expected distances (N,) and (M,) of at least one region, got "
            f"{painted.shape} and {real.shape}"
        )
    expect_finite("copy rate", painted, real)
    threshold = float(np.percentile(real, percentile))
    return CopyRate(float(np.mean(painted < threshold)), threshold, percentile / 100)
