"""Masked image modelling on the server's public corpus: everybody's start, and the baseline.

Patches of an image are blanked and predicted from the rest, as in SimMIM (Xie et al. 2022): the
whole image passes through the encoder, a light head predicts pixels, and the loss counts masked
pixels only. Targets are normalised patch by patch (He et al. 2022, section 4.1). All stages' maps
feed the head, so that every stage learns.
"""

import torch
from torch import Tensor, nn

from polyclinic.data.transforms import Augmentation, apply_views, sample_views
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Encoder
from polyclinic.models.heads import SegmentationHead
from polyclinic.models.pretraining import Objective, PretrainPlan


class MaskedModel(nn.Module):
    """Encoder, the value that blanks a pixel, and the head that predicts pixels."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.blank = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))
        self.head = SegmentationHead(encoder.config, classes=3, hidden=32)

    def forward(self, images: Tensor, masked: Tensor) -> Tensor:
        """Predict all pixels of `images` (B, 3, H, W) with `masked` (B, 1, H, W) ones blanked."""
        visible = torch.where(masked, self.blank, images)
        out: Tensor = self.head(self.encoder(visible), (images.shape[2], images.shape[3]))
        return out


def sample_mask(n: int, size: int, patch: int, ratio: float, gen: torch.Generator) -> Tensor:
    """Random masks, bool (N, 1, size, size): `ratio` of the patches of each image, at least one."""
    side = size // patch
    count = max(1, round(ratio * side * side))
    order = torch.rand(n, side * side, generator=gen).argsort(1)
    grid = (order < count).view(n, 1, side, side)
    return grid.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def masked_loss(predicted: Tensor, images: Tensor, masked: Tensor, patch: int) -> Tensor:
    """Mean squared error over masked pixels against patch-normalised targets."""
    n, channels, size, _ = images.shape
    side = size // patch
    tiles = images.reshape(n, channels, side, patch, side, patch)
    mean = tiles.mean((1, 3, 5), keepdim=True)
    deviation = tiles.var((1, 3, 5), keepdim=True).add(1e-4).sqrt()
    target = ((tiles - mean) / deviation).reshape(images.shape)
    return ((predicted - target).square() * masked).sum() / (masked.sum() * channels)


def _masked_step(
    model: nn.Module, images: Tensor, side: int, plan: PretrainPlan, gen: torch.Generator
) -> Tensor:
    views = sample_views(len(images), images.shape[-1], side, _VIEWS, gen)
    batch = apply_views(images, views, side)[0].to(device())
    batch = batch.expand(-1, 3, -1, -1)  # grey images count as colours that are equal
    masked = sample_mask(len(batch), side, plan.patch, plan.mask_ratio, gen).to(device())
    with autocast():
        return masked_loss(model(batch, masked), batch, masked, plan.patch)


_VIEWS = Augmentation(rotation=5, zoom=0.3, shift=0.08, brightness=0.0, contrast=0.0)

MASKED = Objective("mim", MaskedModel, _masked_step)
