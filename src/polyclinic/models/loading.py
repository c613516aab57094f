"""An encoder with given weights, on the device that computes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from polyclinic.models.device import device
from polyclinic.models.encoder import PRESETS, Encoder, Preset


def encoder_with(preset: Preset, state: Mapping[str, Tensor]) -> Encoder:
    """The preset's encoder with a copy of `state`, no time lost on drawing other weights first."""
    with torch.device("meta"):
        encoder = Encoder(PRESETS[preset])
    encoder.to_empty(device=device())
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder.load_state_dict(dict(state), strict=True)
    return encoder
