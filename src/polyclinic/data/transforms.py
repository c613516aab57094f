"""Random views of images: one affine draw a sample, applied to image and label map alike.

Sampling the parameters is split from applying them, so a view can be replayed and tested.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from polyclinic.data.dataset import IGNORE


@dataclass(frozen=True)
class Augmentation:
    """Ranges that random views are drawn from, the same at every site."""

    rotation: float = 15.0  # degrees, either way
    zoom: float = 0.15  # relative, either way
    shift: float = 0.08  # of the view's side, either way
    flip: float = 0.5  # probability, left-right
    brightness: float = 0.1  # added, of the 0..1 range
    contrast: float = 0.2  # relative, either way


@dataclass(frozen=True)
class Views:
    """Parameters of B views: `theta` (B, 2, 3) maps view to image; the rest are (B, 1, 1, 1)."""

    theta: Tensor
    brightness: Tensor
    contrast: Tensor


def sample_views(
    n: int, side: int, size: int, augmentation: Augmentation, generator: torch.Generator
) -> Views:
    """Draw `n` views of `size` px, from square images of `side` px.

    Views smaller than the image are crops, their centres uniform over the image.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    a = augmentation
    angle = uniform(-a.rotation, a.rotation).deg2rad()
    share = size / side  # of the image's side that the view covers
    scale = share / (1 + uniform(-a.zoom, a.zoom))
    flip = torch.where(torch.rand(n, generator=generator) < a.flip, -1.0, 1.0)
    slack = max(0.0, 1 - share) + 2 * a.shift * share
    x, y = uniform(-slack, slack), uniform(-slack, slack)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([cos * flip, -sin, x, sin * flip, cos, y], dim=1).view(n, 2, 3)
    shape = (n, 1, 1, 1)
    return Views(
        theta,
        uniform(-a.brightness, a.brightness).view(shape),
        (1 + uniform(-a.contrast, a.contrast)).view(shape),
    )


def apply_views(
    images: Tensor, views: Views, size: int, label_maps: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Images uint8 (B, C, S, S) to float views 0..1 (B, C, size, size), label maps alike.

    Beyond the border images are reflected, label maps are `IGNORE`.
    """
    n, channels = images.shape[:2]
    grid = F.affine_grid(views.theta, [n, channels, size, size], align_corners=False)
    pixels = images.float() / 255
    out = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    out = ((out - 0.5) * views.contrast + 0.5 + views.brightness).clamp(0, 1)
    if label_maps is None:
        return out, None
    shifted = label_maps.unsqueeze(1).float() - IGNORE  # so that the zero padding means IGNORE
    labels = F.grid_sample(shifted, grid, mode="nearest", align_corners=False)
    return out, (labels + IGNORE).round().to(torch.uint8).squeeze(1)
