"""How near a painted region is to what was there: MSE, PSNR and SSIM inside the region.

Measures of `FIDELITY` share the signature `measure(painted, real, region, data_range) -> float`.
`challenge_scores` are the same three as the BraTS inpainting challenge defines them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.checks import Image, Mask, expect_images

SIGMA = 1.5
"""Standard deviation, px, of the window of SSIM."""
RADIUS = 5
"""The window is cut off to 11 x 11 px."""
K1, K2 = 0.01, 0.03
"""Constants of SSIM, in data ranges."""
WINDOW = (0.5, 99.5)
"""Percentiles of the voided image that the challenge maps to 0 and 1."""

Edge = Literal["reflect", "mirror"]
"""How a slice goes on beyond its edge: mirrored with, or without, repeating the last pixel."""


def mse(painted: Image, real: Image, region: Mask, data_range: float) -> float:
    """Mean squared difference inside the region, in units of `data_range` squared.

    Images and region (H, W) or (Z, H, W); NaN for an empty region. Raises `DataError` at other
    shapes, numbers that are not finite, or a data range that is not above 0.
    """
    _expect("mse", painted, real, region, data_range)
    if not region.any():
        return math.nan
    difference = painted[region].astype(np.float64) - real[region]
    return float(np.mean(difference**2) / data_range**2)


def psnr(painted: Image, real: Image, region: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio inside the region, dB; infinite where nothing differs.

    Shapes and errors as `mse`, and the peak is `data_range`.
    """
    _expect("psnr", painted, real, region, data_range)
    return _decibels(mse(painted, real, region, data_range), 1.0)


def ssim(painted: Image, real: Image, region: Mask, data_range: float) -> float:
    """Structural similarity, -1..1, averaged over the pixels of the region.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    equation 13, with their Gaussian window of 11 x 11 px, on each slice by itself. Windows at the
    region's rim reach outside it, where both images should be the same. Shapes and errors as
    `mse`.
    """
    _expect("ssim", painted, real, region, data_range)
    return _mean_similarity(painted, real, region, data_range, "reflect")


Fidelity = Callable[[Image, Image, Mask, float], float]
FIDELITY: dict[str, Fidelity] = {"mse": mse, "psnr": psnr, "ssim": ssim}


@dataclass(frozen=True)
class ChallengeScores:
    """Scores inside the mask, of intensities in 0..1.

    The peak of `psnr` is the highest real intensity in the mask, that of `psnr_01` is 1.
    """

    ssim: float
    mse: float
    psnr: float
    psnr_01: float


def challenge_scores(painted: Image, real: Image, region: Mask, voided: Image) -> ChallengeScores:
    """SSIM, MSE and PSNR as the BraTS inpainting challenge defines them.

    All arrays (A, B, C) in the axis order and the intensities of the file: slices are taken along
    the first axis as it is stored, which in BraTS is from left to right. `voided` is the image
    that the painter was given, 0 where it was to paint; all of it counts for the percentiles,
    which become 0 and 1 (the lower one is at least 0); what lies beyond is clipped. Outside the
    region both images are 0 when SSIM is taken, and its data range is the larger extent of the
    two. Follows Kofler et al., arXiv 2305.08992, and where that leaves room, the package that
    computed the challenge's scores (challenge_metrics_2023 of BraTS-inpainting/inpainting).
    NaN for an empty region. Raises `DataError` at other shapes, numbers that are not finite, or a
    voided image without contrast.
    """
    expect_images("challenge scores", region, painted, real, voided, dimensions="3")
    low, high = np.percentile(voided, WINDOW)
    low = max(float(low), 0.0)
    if high <= low:
        raise DataError(
            f"challenge scores: expected a voided image with contrast, got percentiles {WINDOW} "
            f"of {low:g} and {high:g}; pass the image that was given to the painter"
        )
    if not region.any():
        return ChallengeScores(math.nan, math.nan, math.nan, math.nan)

    def infill(image: Image) -> NDArray[np.float64]:
        clipped = np.clip(np.where(region, image, 0).astype(np.float64), low, high)
        scaled: NDArray[np.float64] = (clipped - low) / (high - low)
        return scaled

    inside, truth = infill(painted), infill(real)
    extent = max(float(np.ptp(inside)), float(np.ptp(truth)))
    # without any extent both are 0 everywhere, hence equal; the quotients would be 0 of 0
    similarity = _mean_similarity(inside, truth, region, extent, "mirror") if extent else 1.0
    error = mse(inside, truth, region, 1.0)
    peak = float(truth[region].max())
    return ChallengeScores(similarity, error, _decibels(error, peak), _decibels(error, 1.0))


def similarity_map(
    a: NDArray[np.float64], b: NDArray[np.float64], data_range: float, edge: Edge
) -> NDArray[np.float64]:
    """SSIM of two slices (H, W) at every pixel: (H, W). Weighted moments, as in Wang et al."""

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.gaussian_filter(values, SIGMA, mode=edge, radius=RADIUS))

    mean_a, mean_b = smooth(a), smooth(b)
    # rounding may leave a variance a little below 0
    variance_a = np.maximum(smooth(a * a) - mean_a**2, 0)
    variance_b = np.maximum(smooth(b * b) - mean_b**2, 0)
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    similarity: NDArray[np.float64] = luminance * (
        (2 * covariance + c2) / (variance_a + variance_b + c2)
    )
    return similarity


def _mean_similarity(
    painted: Image, real: Image, region: Mask, data_range: float, edge: Edge
) -> float:
    """The mean over the region's pixels of SSIM, slice by slice along the first of three axes."""
    if not region.any():
        return math.nan
    planes = (-1, *region.shape[-2:])
    total = 0.0
    for a, b, mask in zip(
        painted.reshape(planes), real.reshape(planes), region.reshape(planes), strict=True
    ):
        if mask.any():
            found = similarity_map(a.astype(np.float64), b.astype(np.float64), data_range, edge)
            total += float(found[mask].sum())
    return total / int(np.count_nonzero(region))


def _decibels(error: float, peak: float) -> float:
    if error == 0:
        return math.inf
    if peak == 0:  # nothing but black was there, and something else was painted
        return -math.inf
    return 10 * math.log10(peak**2 / error)


def _expect(measure: str, painted: Image, real: Image, region: Mask, data_range: float) -> None:
    expect_images(measure, region, painted, real)
    if not (math.isfinite(data_range) and data_range > 0):
        raise DataError(
            f"{measure}: expected a data range above 0, got {data_range}; "
            "give the distance between the darkest and the brightest possible intensity"
        )
