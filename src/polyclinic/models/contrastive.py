"""Contrastive learning on the server's public corpus: the second baseline without labels.

Two views of an image are to lie closer to each other than to any other view in the batch, as in
SimCLR (Chen et al. 2020). The views are stronger than those of supervised training, and the loss
looks at them through a small projector, which is thrown away.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyclinic.data.transforms import Augmentation, apply_views, sample_views
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Encoder
from polyclinic.models.pretraining import Objective, PretrainPlan

TEMPERATURE = 0.2


class ContrastiveModel(nn.Module):
    """Encoder and projector: images (B, C, H, W) to unit vectors (B, 64)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.embedding
        self.projector = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 64)
        )

    def forward(self, images: Tensor) -> Tensor:
        """The views' places on the unit sphere."""
        out: Tensor = F.normalize(self.projector(self.encoder.embed(images)), dim=1)
        return out


def contrastive_loss(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """NT-Xent (Chen et al. 2020, equation 1) of two sets of unit vectors (B, D), B at least 2.

    Row i of one is the only partner of row i of the other; the remaining 2 B - 2 are to be far.
    """
    n = len(first)
    both = torch.cat([first, second]).float()
    alike = both @ both.T / temperature
    alike = alike.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=both.device), -torch.inf)
    partner = torch.arange(2 * n, device=both.device).roll(n)
    return F.cross_entropy(alike, partner)


def _contrastive_step(
    model: nn.Module,
    images: Tensor,
    side: int,
    plan: PretrainPlan,  # noqa: ARG001 - the objectives share a signature
    gen: torch.Generator,
) -> Tensor:
    views = torch.cat([_view(images, side, gen), _view(images, side, gen)]).to(device())
    with autocast():
        first, second = model(views).chunk(2)
    return contrastive_loss(first, second)


def _view(images: Tensor, side: int, gen: torch.Generator) -> Tensor:
    views = sample_views(len(images), images.shape[-1], side, _VIEWS, gen)
    batch = apply_views(images, views, side)[0]
    blurred = torch.rand(len(batch), generator=gen) < 0.5
    share = 0.4 + 0.5 * float(torch.rand((), generator=gen))  # of the side, and so of the detail
    small = F.interpolate(batch, size=max(4, round(share * side)), mode="area")
    smooth = F.interpolate(small, size=side, mode="bilinear", align_corners=False)
    return torch.where(blurred.view(-1, 1, 1, 1), smooth, batch)


_VIEWS = Augmentation(rotation=20, zoom=0.5, shift=0.15, brightness=0.2, contrast=0.4)

CONTRASTIVE = Objective("contrastive", ContrastiveModel, _contrastive_step)
