"""Heads: what turns features into a site's own answer. They never leave the site.

Every head takes the encoder's feature maps; a pooled head averages them first. `loss` and
`predict` are chosen by the site's task, in the two dictionaries at the end.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyclinic.data.dataset import IGNORE, Task
from polyclinic.models.encoder import EncoderConfig, pool
from polyclinic.seeding import derive


class PooledHead(nn.Module):
    """A linear map of the batch-normalised, pooled embedding: maps -> (B, outputs).

    Pooled features differ little between images compared with how far one training step moves
    them all together. Normalising over the batch takes that common part out; its statistics are
    the site's own and stay there with the head.
    """

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(config.embedding, affine=False)
        self.linear = nn.Linear(config.embedding, outputs)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Pool every map, normalise, apply the linear layer."""
        out: Tensor = self.linear(self.norm(pool(maps)))
        return out

    def measure(self, embeddings: Tensor) -> None:
        """Take the statistics of `embeddings` (N, embedding) as those to predict with."""
        self.norm.running_mean = embeddings.mean(0)
        self.norm.running_var = embeddings.var(0)


class SegmentationHead(nn.Module):
    """Maps -> class scores at every pixel, (B, classes, H, W).

    All maps are brought to stride 2 and mixed; the last layer predicts the 2 x 2 pixels of each
    position (sub-pixel convolution, Shi et al. 2016).
    """

    def __init__(self, config: EncoderConfig, classes: int, hidden: int = 24) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(w, hidden, 1) for w in config.widths)
        self.norm = nn.GroupNorm(8, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, classes * 4, 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Class scores for images of `size` (H, W)."""
        reduced = (conv(m) for conv, m in zip(self.reduce, maps, strict=True))
        x = torch.stack([upsample(m, maps[0].shape[2:]) for m in reduced]).sum(0)
        x = F.relu(self.norm(x))
        x = F.relu(self.mix(x))
        return F.pixel_shuffle(self.out(x), 2)[:, :, : size[0], : size[1]]


def upsample(x: Tensor, grid: torch.Size) -> Tensor:
    """`x` (B, C, h, w) at the size of `grid`, bilinearly."""
    if x.shape[2:] == grid:
        return x
    return F.interpolate(x, size=tuple(grid), mode="bilinear", align_corners=False)


def build_head(
    task: Task, classes: int, config: EncoderConfig, seed: int
) -> PooledHead | SegmentationHead:
    """A fresh head for a site's task."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "head"))
        if task == "segmentation":
            return SegmentationHead(config, classes)
        return PooledHead(config, 1 if task == "regression" else classes)


def _cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, weight=weights)


def _binary(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets.float(), pos_weight=weights)


def _squared(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    centre, scale = weights[0], weights[1]
    return F.mse_loss(outputs[:, 0], (targets.float() - centre) / scale)


def _cross_entropy_and_dice(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of the foreground (Milletari et al. 2016), padding ignored."""
    targets = targets.long()
    known = (targets != IGNORE).unsqueeze(1)
    if not known.any():  # the mean over no pixel would be NaN
        return outputs.sum() * 0
    entropy = F.cross_entropy(outputs, targets, weight=weights, ignore_index=IGNORE)
    probability = outputs.softmax(1) * known
    truth = F.one_hot(targets.masked_fill(targets == IGNORE, 0), outputs.shape[1])
    truth = truth.movedim(-1, 1) * known
    overlap = (probability * truth).sum((0, 2, 3))[1:]
    total = (probability + truth).sum((0, 2, 3))[1:]
    missed: Tensor = (1 - (2 * overlap + 1) / (total + 1)).mean()
    return torch.add(entropy, missed)


def _squared_predict(outputs: Tensor, weights: Tensor) -> Tensor:
    centre, scale = weights[0], weights[1]
    return outputs[:, 0] * scale + centre


LOSSES: dict[Task, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "single-label": _cross_entropy,
    "multi-label": _binary,
    "regression": _squared,
    "segmentation": _cross_entropy_and_dice,
}
"""(outputs, targets, weights) -> scalar; `weights` come from `target_weights`."""

PREDICTIONS: dict[Task, Callable[[Tensor, Tensor], Tensor]] = {
    "single-label": lambda outputs, _: outputs.softmax(1),
    "multi-label": lambda outputs, _: outputs.sigmoid(),
    "regression": _squared_predict,
    "segmentation": lambda outputs, _: outputs.argmax(1).to(torch.uint8),
}
"""(outputs, weights) -> probabilities (B, K), values (B,), or label maps (B, H, W)."""


def target_weights(task: Task, targets: Tensor, classes: int) -> Tensor:
    """What balances the loss over a site's training targets.

    single-label and segmentation: how much rarer a class is than the commonest, 10 at most,
    mean 1 over the classes that occur, (K,); multi-label: negatives per positive, 10 at most,
    (K,); regression: mean and standard deviation, (2,).
    """
    if task == "regression":
        return torch.stack([targets.float().mean(), targets.float().std().clamp_min(1e-6)])
    if task == "multi-label":
        positive = targets.float().mean(0).clamp_min(1e-6)
        return ((1 - positive) / positive).clamp_max(10)
    values = targets.flatten().long()
    counts = torch.bincount(values[values != IGNORE], minlength=classes).float()
    weights = (counts.max() / counts.clamp_min(1)).clamp_max(10) * (counts > 0)
    return weights / (weights.sum() / (weights > 0).sum())
