"""An encoder with given weights, on the device that computes."""

from collections.abc import Mapping

from torch import Tensor

from polyclinic.models.device import device
from polyclinic.models.encoder import Encoder, Preset, build_encoder


def encoder_with(preset: Preset, state: Mapping[str, Tensor]) -> Encoder:
    """The preset's encoder with a copy of `state`; names and shapes must match exactly."""
    encoder = build_encoder(preset, seed=0)  # drawn and replaced: faster than PyTorch's meta device
    encoder.load_state_dict(dict(state), strict=True)
    return encoder.to(device())
