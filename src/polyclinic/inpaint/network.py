"""The painter's network: a U-Net on patches of pixels, in two sizes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyclinic.inpaint.components import SEQUENCES
from polyclinic.inpaint.conditioning import CHANNELS, DIFFUSED, Request, network_input
from polyclinic.seeding import derive

PainterSize = Literal["small", "large"]

GROUPS = 8
"""Groups of channels that are normalised together."""
HEAD = 32
"""Channels of a head of attention, at least."""
FREQUENCIES = 1000.0
"""The highest frequency in the code of a level; the lowest is 1."""
SAME_SCALE = (0.8, 1.25)
"""Scales that count as 1."""


@dataclass(frozen=True)
class NetworkConfig:
    """Width of each level, which levels attend, pixels a patch side, crop side in training."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int  # residual blocks a level
    patch: int  # px; the network works at 1 / patch of the resolution
    crop: int  # px; side of the crops that it is trained on
    head_px: float  # larger side of a head, to which images of another resolution are brought

    def scale(self, head_px: float) -> float:
        """Network pixels a pixel of an image whose head measures `head_px`.

        1 where that is near: an image's own pixels are better than interpolated ones.
        """
        scale = self.head_px / head_px
        return 1.0 if SAME_SCALE[0] <= scale <= SAME_SCALE[1] else scale

    @property
    def stride(self) -> int:
        """Crops have sides that are multiples of this many pixels."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


SIZES: Mapping[PainterSize, NetworkConfig] = {
    "small": NetworkConfig(
        (32, 64, 128), (False, False, True), blocks=1, patch=2, crop=64, head_px=105
    ),
    "large": NetworkConfig(
        (128, 256, 384, 512), (False, False, True, True), blocks=2, patch=2, crop=192, head_px=190
    ),
}


class PainterNetwork(nn.Module):
    """State (B, 2, H, W), level and request to an output (B, 2, H, W).

    The U-Net of Ho et al. (arXiv 2006.11239, appendix B), with levels that scale and shift
    (Dhariwal and Nichol, arXiv 2105.05233, section 3). Patches of pixels are folded into channels
    before it and unfolded after it: the network predicts images, not noise, so it needs no
    full-resolution path (Li and He, arXiv 2511.13720).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths, self.config = config.channels, config
        self.code = 4 * widths[0]  # what level and sequence become
        self.level = nn.Sequential(
            nn.Linear(self.code, self.code), nn.SiLU(), nn.Linear(self.code, self.code)
        )
        self.sequence = nn.Embedding(len(SEQUENCES) + 1, self.code)
        self.first = nn.Conv2d(CHANNELS * config.patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for depth, wider in enumerate(widths):
            if depth:
                self.down.append(_Half(width))
                skips.append(width)
            for _ in range(config.blocks):
                self.down.append(_Block(width, wider, self.code, config.attention[depth]))
                width = wider
                skips.append(width)
        self.middle = nn.ModuleList(
            [_Block(width, width, self.code, True), _Block(width, width, self.code, False)]
        )
        for depth, wider in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                joined = width + skips.pop()
                self.up.append(_Block(joined, wider, self.code, config.attention[depth]))
                width = wider
            if depth:
                self.up.append(_Double())
        self.last = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            _zero(nn.Conv2d(width, DIFFUSED * config.patch**2, 3, padding=1)),
        )

    def forward(self, state: Tensor, level: Tensor, request: Request) -> Tensor:
        """The output for levels (B); H and W are multiples of the configuration's stride."""
        channels, sequence = network_input(state, request)
        code = self.level(waves(level, self.code)) + self.sequence(sequence)
        x = self.first(F.pixel_unshuffle(channels, self.config.patch))
        kept = [x]
        for layer in self.down:
            x = layer(x, code)
            kept.append(x)
        for layer in self.middle:
            x = layer(x, code)
        for layer in self.up:
            if isinstance(layer, _Block):
                x = torch.cat([x, kept.pop()], dim=1)
            x = layer(x, code)
        return F.pixel_shuffle(self.last(x), self.config.patch)


class _Block(nn.Module):
    """Two convolutions with a code between them, added to what came in; attention if `attends`."""

    def __init__(self, width: int, out: int, code: int, attends: bool) -> None:
        super().__init__()
        self.before = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1)
        )
        self.code = nn.Sequential(nn.SiLU(), nn.Linear(code, 2 * out))
        self.norm = nn.GroupNorm(GROUPS, out)
        self.after = nn.Sequential(nn.SiLU(), _zero(nn.Conv2d(out, out, 3, padding=1)))
        self.straight = nn.Identity() if width == out else nn.Conv2d(width, out, 1)
        self.attention = _Attention(out) if attends else nn.Identity()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.code(code)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm(self.before(x)) * (1 + scale) + shift
        out: Tensor = self.attention(self.straight(x) + self.after(inner))
        return out


class _Attention(nn.Module):
    """Every place looks at all others, in heads of at least `HEAD` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.asked = nn.Conv2d(width, 3 * width, 1)
        self.out = _zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        count, width, height, across = x.shape
        asked = self.asked(self.norm(x)).view(count, 3, self.heads, width // self.heads, -1)
        query, key, value = asked.transpose(-1, -2).unbind(1)
        seen = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.out(seen.transpose(-1, -2).reshape(count, width, height, across))
        return out


class _Half(nn.Module):
    """Half the resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Double(nn.Module):
    """Twice the resolution; the blocks that follow smooth it."""

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


def waves(level: Tensor, width: int) -> Tensor:
    """Levels (B) as sines and cosines (B, `width`) of frequencies from 1 to `FREQUENCIES`."""
    steps = torch.linspace(0, math.log(FREQUENCIES), width // 2, device=level.device)
    angles = level[:, None] * steps.exp()[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    """A layer that begins as 0: blocks pass on what they get, and the first output is 0."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


def build_network(config: NetworkConfig, seed: int) -> PainterNetwork:
    """A network with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "painter"))
        return PainterNetwork(config)
