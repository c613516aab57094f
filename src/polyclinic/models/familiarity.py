"""How unlike a site's own images an image is: the Mahalanobis distance of its features.

Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
Adversarial Attacks", arXiv 1807.03888, equation 2: the distance to the nearest class mean, with one
covariance for all classes. Where images have no single class there is one mean. A hospital has few
images and an embedding has many dimensions, so the covariance is shrunk (Ledoit and Wolf 2004).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNFAMILIAR = 0.99
"""An image that is further away than this share of the site's own held-out images is unfamiliar."""


@dataclass(frozen=True)
class Familiarity:
    """Class means (M, E) and precision (E, E) of features that were standardised by `centre` and
    `scale` (E,); `held_out` (N,) are the sorted distances of images that the fit had not seen."""

    centre: Tensor
    scale: Tensor
    means: Tensor
    precision: Tensor
    held_out: Tensor

    def distance(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distance of features (B, E) to the nearest mean, (B,)."""
        x = (features.float() - self.centre) / self.scale
        apart = x[:, None] - self.means  # (B, M, E)
        return torch.einsum("bme,ef,bmf->bm", apart, self.precision, apart).min(1).values

    def strangeness(self, features: Tensor) -> Tensor:
        """The share of the site's held-out images that are nearer than each of (B, E): (B,)."""
        nearer = torch.searchsorted(self.held_out, self.distance(features).contiguous())
        return nearer / max(1, len(self.held_out))


def fit_familiarity(features: Tensor, groups: NDArray[np.int64]) -> Familiarity:
    """Means of each of `groups` (N,) of the features (N, E), and the covariance around them.

    `held_out` is empty: `calibrated` adds what cross-validation found.
    """
    from sklearn.covariance import LedoitWolf

    x = features.cpu().double().numpy()
    centre, scale = x.mean(0), x.std(0)
    scale[scale < 1e-6] = 1.0
    x = (x - centre) / scale
    names, group = np.unique(groups, return_inverse=True)
    means = np.stack([x[group == number].mean(0) for number in range(len(names))])
    fitted = LedoitWolf(assume_centered=True).fit(x - means[group])
    middle, width, places, precision = (
        torch.from_numpy(part).float() for part in (centre, scale, means, fitted.precision_)
    )
    return Familiarity(middle, width, places, precision, held_out=torch.zeros(0))


def calibrated(fitted: Familiarity, distances: NDArray[np.float64]) -> Familiarity:
    """`fitted` with the distances of images that fits without them had to judge."""
    held_out = torch.from_numpy(np.sort(distances)).float()
    return Familiarity(fitted.centre, fitted.scale, fitted.means, fitted.precision, held_out)
