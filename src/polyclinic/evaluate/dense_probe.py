"""A linear probe for segmentation: one linear layer on frozen feature maps, at every position.

It is fitted to convergence (L-BFGS), as the probes of classification are, to a sample of positions
in which rare classes are as frequent as common ones; each position counts for those that it stands
for. Features come from whole images, the way the probe will meet them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.data.dataset import IGNORE, SiteData
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Features
from polyclinic.models.heads import upsample
from polyclinic.models.training import site_weights
from polyclinic.seeding import derive

POSITIONS = 20_000
ITERATIONS = 60
CHUNK = 2**18
"""Pixels of the images that are embedded together."""


class DenseProbe(nn.Module):
    """Class scores (B, classes, H, W) that are linear in standardised maps, 2 x 2 px a position."""

    def __init__(self, mean: Tensor, deviation: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation  # (E,)
        self.weight, self.bias = weight, bias  # (4 classes, E), (4 classes,)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Class scores for images of `size` (H, W)."""
        x = (_stacked(maps).movedim(1, -1) - self.mean) / self.deviation  # (B, h, w, E)
        scores = F.linear(x, self.weight, self.bias).movedim(-1, 1)
        return F.pixel_shuffle(scores, 2)[:, :, : size[0], : size[1]]


@dataclass(frozen=True)
class Sample:
    """Positions of a site's training images: features (P, E), labels (P, 4), weights (P,).

    A position is a block of 2 x 2 pixels, its labels row by row, `IGNORE` where there is none.
    The weight is the number of positions that it stands for.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor


@torch.no_grad()
def draw_positions(encoder: Features, site: SiteData, *seed: int | str) -> Sample:
    """Up to `POSITIONS` of the training split, shared equally by the classes that have so many.

    A position belongs to the rarest class within it, in pixels of the whole split.
    """
    rows, classes = site.split["train"], len(site.classes)
    pixels = sum(_counts(site.targets[row].ravel(), classes) for row in rows)
    rank = np.argsort(np.argsort(pixels, kind="stable"))  # 0 for the rarest class
    strata = [_strata(_blocks(site.targets[row]), rank) for row in rows]
    held = np.array([_counts(stratum, classes) for stratum in strata])  # (images, classes)
    ends = held.cumsum(0)
    rng = np.random.default_rng(derive(*seed, "positions"))
    taken = [
        np.sort(rng.choice(total, number, replace=False))
        for total, number in zip(ends[-1], _shared(ends[-1]), strict=True)
    ]
    stands_for = ends[-1] / np.maximum([len(t) for t in taken], 1)

    features, labels, weights = [], [], []
    step = max(1, CHUNK // site.images[0, 0].size)
    for begin in range(0, len(rows), step):
        part = range(begin, min(begin + step, len(rows)))
        images = torch.from_numpy(site.images[rows[part]]).to(device()).float() / 255
        with autocast():
            stacked = _stacked(encoder(images))  # (n, E, h, w)
        for n, maps in zip(part, stacked, strict=True):
            blocks = _blocks(site.targets[rows[n]])
            for rarest in range(classes):
                first = ends[n, rarest] - held[n, rarest]
                low, high = np.searchsorted(taken[rarest], (first, ends[n, rarest]))
                places = np.flatnonzero(strata[n] == rarest)[taken[rarest][low:high] - first]
                wide = -(-site.targets.shape[-1] // 2)
                features.append(maps[:, places // wide, places % wide].T.float())
                labels.append(torch.from_numpy(blocks[places]))
                weights.append(torch.full((len(places),), float(stands_for[rarest])))
    return Sample(
        torch.cat(features), torch.cat(labels).long().to(device()), torch.cat(weights).to(device())
    )


def fit_probes(sample: Sample, site: SiteData, penalties: Sequence[float]) -> Iterator[DenseProbe]:
    """A probe for each L2 penalty; the loss is a segmentation head's, on all positions at once."""
    share = (sample.weights / sample.weights.sum()).unsqueeze(1)
    mean = (sample.features * share).sum(0)
    deviation = ((sample.features - mean).square() * share).sum(0).add(1e-5).sqrt()
    x = (sample.features - mean) / deviation
    classes = len(site.classes)
    known = sample.labels != IGNORE
    weights = known * sample.weights.unsqueeze(1)  # (P, 4)
    truth = F.one_hot(sample.labels.masked_fill(~known, 0), classes) * weights.unsqueeze(2)
    balanced = truth * site_weights(site)
    for penalty in penalties:
        layer = nn.Linear(x.shape[1], classes * 4, device=x.device)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        optimiser = torch.optim.LBFGS(
            layer.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe"
        )

        def closure(
            layer: nn.Linear = layer,
            optimiser: torch.optim.Optimizer = optimiser,
            penalty: float = penalty,
        ) -> Tensor:
            optimiser.zero_grad()
            logs = layer(x).unflatten(1, (classes, 4)).movedim(1, 2).log_softmax(2)  # (P, 4, K)
            said = logs.exp()
            entropy = -(logs * balanced).sum() / balanced.sum()
            overlap = (said * truth).sum((0, 1))[1:]
            total = (said * weights.unsqueeze(2) + truth).sum((0, 1))[1:]
            missed = (1 - (2 * overlap + 1) / (total + 1)).mean()
            loss: Tensor = entropy + missed + penalty * layer.weight.square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        yield DenseProbe(mean, deviation, layer.weight.detach(), layer.bias.detach())


def _stacked(maps: list[Tensor]) -> Tensor:
    """All maps side by side at the size of the first, (B, E, h, w)."""
    return torch.cat([upsample(m, maps[0].shape[2:]) for m in maps], dim=1)


def _blocks(labels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Blocks of 2 x 2 px of a label map (H, W), row by row: (ceil(H / 2) ceil(W / 2), 4)."""
    height, width = labels.shape
    even = np.pad(labels, ((0, height % 2), (0, width % 2)), constant_values=IGNORE)
    halves = even.reshape(-(-height // 2), 2, -(-width // 2), 2)
    return halves.swapaxes(1, 2).reshape(-1, 4)


def _strata(blocks: NDArray[np.generic], rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rarest class within each block (N, 4) by `rank`, IGNORE where nothing is known."""
    ranks = np.append(rank, len(rank))[np.minimum(blocks, len(rank)).astype(np.int64)].min(1)
    return np.asarray(np.append(np.argsort(rank), IGNORE)[ranks], np.int64)


def _shared(held: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of `POSITIONS` each class gets: the same, but for those that have fewer."""
    shares, left = np.zeros_like(held), POSITIONS
    for done, poorest in enumerate(np.argsort(held, kind="stable")):
        shares[poorest] = min(held[poorest], left // (len(held) - done))
        left -= shares[poorest]
    return shares


def _counts(labels: NDArray[np.generic], classes: int) -> NDArray[np.int64]:
    counts = np.bincount(labels.astype(np.int64), minlength=IGNORE + 1)
    return np.asarray(counts[:classes], np.int64)
