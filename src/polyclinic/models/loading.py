"""Encoders with given weights, on the device that computes."""

from collections.abc import Mapping

from torch import Tensor

from polyclinic.models.device import device
from polyclinic.models.encoder import Encoder, Features, Preset, build_encoder
from polyclinic.models.side_by_side import SideBySide, apart


def encoder_with(preset: Preset, state: Mapping[str, Tensor]) -> Encoder:
    """The preset's encoder with a copy of `state`; names and shapes must match exactly."""
    encoder = build_encoder(preset, seed=0)  # drawn and replaced: faster than PyTorch's meta device
    encoder.load_state_dict(dict(state), strict=True)
    return encoder.to(device())


def features_with(preset: Preset, state: Mapping[str, Tensor]) -> Features:
    """The same for judging: `state` may be of several encoders (`side_by_side.beside`)."""
    encoders = [encoder_with(preset, own) for own in apart(dict(state))]
    return encoders[0] if len(encoders) == 1 else SideBySide(encoders)
