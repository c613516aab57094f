"""Whether reconstructed images are those that were trained on, or merely such images."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from polyclinic.evaluate.painting.fidelity import ssim

SUCCESS_DB = 3.0
"""A reconstruction counts whose error is at most half of what is possible without the update."""

_BEST_DB = 100.0  # identical images


@dataclass(frozen=True)
class Match:
    """The best pair of a reconstruction and a true image; PSNR in dB, SSIM -1..1.

    `baseline_psnr` and `baseline_ssim` are the best that was to be had without the update: other
    images of the same site, their mean, or the reconstructions held against other images.
    """

    psnr: float
    ssim: float
    baseline_psnr: float
    baseline_ssim: float

    @property
    def succeeded(self) -> bool:
        """Clearly nearer to the truth than anything that does not know the update."""
        return self.psnr >= self.baseline_psnr + SUCCESS_DB and self.ssim > self.baseline_ssim


def best_match(found: Tensor, truth: Tensor, others: Tensor) -> Match:
    """The best of `found` (K, C, H, W) against `truth` (T, C, H, W), images in 0..1.

    `others` (U, C, H, W) are images of the same site that the update knows nothing of. As the best
    of many pairs is good by chance, each baseline is the best of pairs, too: others with the truth,
    their mean with the truth, and `found` with as many others as there are true images.
    """
    pairs = [(found, truth)]
    pairs.append((others, truth))
    pairs.append((others.mean(0, keepdim=True), truth))
    pairs.append((found, others[: len(truth)]))
    (psnr, likeness), *baselines = [_best_pair(a, b) for a, b in pairs]
    return Match(psnr, likeness, max(b[0] for b in baselines), max(b[1] for b in baselines))


def psnr_table(a: Tensor, b: Tensor) -> Tensor:
    """PSNR in dB of every pair of images (A, C, H, W) and (B, C, H, W) in 0..1: (A, B)."""
    x, y = a.double().flatten(1), b.double().flatten(1)
    error = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T) / x.shape[1]
    return (-10 * error.clamp_min(10 ** (-_BEST_DB / 10)).log10()).clamp_max(_BEST_DB)


def _best_pair(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The highest PSNR of a pair, and that pair's SSIM."""
    table = psnr_table(a, b)
    row, column = divmod(int(table.argmax()), table.shape[1])
    one, other = (images.detach().cpu().double().numpy() for images in (a[row], b[column]))
    likeness = ssim(one, other, np.ones(one.shape, bool), 1.0)
    return float(table[row, column]), likeness if math.isfinite(likeness) else 0.0
