"""The painter's network: MONAI's diffusion U-Net on patches of pixels, in two sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyclinic.inpaint.components import SEQUENCES
from polyclinic.inpaint.conditioning import CHANNELS, DIFFUSED, Request, network_input
from polyclinic.seeding import derive

PainterSize = Literal["small", "large"]

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

    Patches of pixels are folded into channels before the U-Net and unfolded after it: the network
    predicts images, not noise, so it needs no full-resolution path (Li and He, arXiv 2511.13720).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        self.config = config
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=CHANNELS * config.patch**2,
            out_channels=DIFFUSED * config.patch**2,
            num_res_blocks=config.blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=16,
            num_head_channels=min(32, config.channels[-1]),
            num_class_embeds=len(SEQUENCES) + 1,
        )

    def forward(self, state: Tensor, level: Tensor, request: Request) -> Tensor:
        """The output for levels (B); H and W are multiples of the configuration's stride."""
        channels, sequence = network_input(state, request)
        folded = F.pixel_unshuffle(channels, self.config.patch)
        out: Tensor = self.unet(folded, timesteps=level * 1000, class_labels=sequence)
        return F.pixel_shuffle(out, self.config.patch)


def build_network(config: NetworkConfig, seed: int) -> PainterNetwork:
    """A network with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "painter"))
        return PainterNetwork(config)
