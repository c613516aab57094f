"""The universal encoder: a residual network without batch statistics, for any image size.

Group normalisation (Wu and He 2018) instead of batch normalisation: nothing about a site's images
is stored in the network besides its weights, and small batches train as well as large ones. Blocks
are pre-activation residual blocks (He et al. 2016).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyclinic.seeding import derive

Preset = Literal["small", "base"]


@dataclass(frozen=True)
class EncoderConfig:
    """Widths and numbers of blocks, stage by stage; the first stage has stride 2."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def embedding(self) -> int:
        """Length of the vector that `Encoder.embed` gives for an image."""
        return sum(self.widths)

    @property
    def stride(self) -> int:
        """Pixels of the input per position of the last feature map, along each axis."""
        return int(2 ** len(self.widths))


PRESETS: dict[Preset, EncoderConfig] = {
    "small": EncoderConfig((16, 32, 64, 128), depths=(1, 1, 2, 2)),  # 0.8 M, for CPUs
    "base": EncoderConfig((48, 96, 192, 384, 768), depths=(1, 2, 2, 6, 2)),  # 40 M, for GPUs
}


class Features(nn.Module):
    """Images (B, C, H, W) in 0..1, C 1 or 3, to feature maps at strides 2, 4, 8, ..."""

    config: EncoderConfig

    def embed(self, images: Tensor) -> Tensor:
        """One vector an image: the mean of every stage's map, side by side, (B, sum of widths)."""
        return pool(self(images))


class Encoder(Features):
    """The residual network."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(3, config.widths[0], kernel_size=4, stride=2, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=2, stride=2)
            for a, b in zip(config.widths, config.widths[1:], strict=False)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_Block(width) for _ in range(depth)))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in config.widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps, one a stage: [(B, W0, h/2, w/2), (B, W1, h/4, w/4), ...].

        h and w are H and W, rounded up to a multiple of the encoder's stride (edges repeated).
        """
        return self.stages(_standardise(images, self.config.stride))

    def stages(self, x: Tensor) -> list[Tensor]:
        """`forward` after standardising and padding: (B, 3, h, w) to feature maps."""
        x = self.stem(x)  # (B, W0, h/2, w/2)
        maps = []
        for i, (blocks, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            if i > 0:
                x = self.down[i - 1](x)
            x = blocks(x)
            maps.append(F.relu(norm(x)))
        return maps


def pool(maps: list[Tensor]) -> Tensor:
    """The mean of every map, side by side: (B, sum of widths)."""
    return torch.cat([m.mean((2, 3)) for m in maps], dim=1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # a block starts as the identity (Goyal et al. 2017)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.relu(self.norm2(y)))
        return out


def _standardise(images: Tensor, stride: int) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"expected images (B, 1 or 3, H, W), got shape {tuple(images.shape)}")
    x = (images - 0.5) / 0.25
    if x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    bottom, right = -x.shape[2] % stride, -x.shape[3] % stride
    if bottom or right:
        x = F.pad(x, (0, right, 0, bottom), mode="replicate")
    return x.contiguous(memory_format=torch.channels_last)


def build_encoder(preset: Preset, seed: int | None = None) -> Encoder:
    """An encoder of the preset, its weights drawn from `seed` (None: from the global state)."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(derive(seed, "encoder"))
        encoder = Encoder(PRESETS[preset])
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return encoder
