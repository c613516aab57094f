"""Radiomics-like statistics of a region: its histogram, and which grey levels are neighbours."""

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.checks import Image, Mask, expect_images

LEVELS = 16
"""Grey levels of the co-occurrence matrix and of the entropy."""
TEXTURE_FEATURES = (
    "mean",
    "standard deviation",
    "skewness",
    "excess kurtosis",
    "10th percentile",
    "median",
    "90th percentile",
    "entropy",
    "GLCM contrast",
    "GLCM homogeneity",
    "GLCM energy",
    "GLCM correlation",
)
"""What `texture_features` returns, in this order; the entropy is in bits."""
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_OF_GLCM = ("contrast", "homogeneity", "energy", "correlation")


def texture_features(
    image: Image, region: Mask, low: float, high: float, levels: int = LEVELS
) -> NDArray[np.float64]:
    """`TEXTURE_FEATURES` of a region of a slice, both (H, W): (F,).

    Intensities from `low` to `high` fall into `levels` grey levels of equal width, those beyond
    into the outermost; give the same limits for all images that are to be compared. The
    co-occurrence matrix (Haralick et al. 1973, "Textural features for image classification")
    counts pairs of pixels at a distance of 1 px in four directions, both in the region. Skewness
    and kurtosis of a constant region are 0. All NaN for an empty region; the GLCM's are NaN where
    no two pixels are neighbours.
    """
    expect_images("texture", region, image, dimensions="2")
    if not low < high or levels < 2:
        raise DataError(
            f"texture: expected limits low < high and at least 2 levels, got {low:g}, {high:g} "
            f"and {levels}"
        )
    if not region.any():
        return np.full(len(TEXTURE_FEATURES), np.nan)
    values = image[region].astype(np.float64)
    grey = np.zeros(region.shape, np.uint16)  # 0: outside the region; levels from 1
    steps = np.floor((values - low) / (high - low) * levels)
    grey[region] = 1 + np.clip(steps, 0, levels - 1).astype(np.uint16)
    return np.array([*_first_order(values), _entropy(grey[region]), *_glcm(grey, levels)])


def _first_order(values: NDArray[np.float64]) -> list[float]:
    mean = values.mean()
    spread = values.std() if np.ptp(values) > 0 else 0.0
    z = (values - mean) / spread if spread > 0 else np.zeros_like(values)
    skewness = float(np.mean(z**3))
    kurtosis = float(np.mean(z**4)) - 3 if spread > 0 else 0.0
    percentiles = np.percentile(values, (10, 50, 90)).tolist()
    return [float(mean), float(spread), skewness, kurtosis, *percentiles]


def _entropy(grey: NDArray[np.uint16]) -> float:
    counts = np.unique(grey, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum() + 0.0)  # never -0


def _glcm(grey: NDArray[np.uint16], levels: int) -> list[float]:
    """Features of `_OF_GLCM` over all directions together."""
    from skimage.feature import graycomatrix, graycoprops

    pairs = graycomatrix(grey, [1], _ANGLES, levels=levels + 1, symmetric=True)
    # pairs with a pixel outside the region are in the first row and column
    inside = pairs[1:, 1:].sum(axis=(2, 3), keepdims=True)
    if not inside.any():
        return [float("nan")] * len(_OF_GLCM)
    return [float(graycoprops(inside, name)[0, 0]) for name in _OF_GLCM]
