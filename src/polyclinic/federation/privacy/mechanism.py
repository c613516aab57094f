"""The mechanism of DP-SGD: a sum of clipped gradients, one for each unit, and Gaussian noise.

Abadi et al. 2016, algorithm 1. A unit is an image, or a patient with several.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polyclinic.errors import PrivacyError
from polyclinic.federation.privacy.randomness import normal
from polyclinic.models.encoder import Encoder


class Joined(nn.Module):
    """Encoder and head as one network, whose gradients are clipped together."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images (B, C, H, W) to the head's outputs and the encoder's maps."""
        maps = self.encoder(images)
        return self.head(maps, (images.shape[2], images.shape[3])), maps


class ImageGradients:
    """Computes the gradient of each image of a batch in one backward pass, by Opacus.

    Use as a context manager: inside, the module carries hooks, and images must ask for gradients
    (`requires_grad`), or the hooks of the first layer would not run. Raises `PrivacyError` for a
    module that normalises over the batch: there an image changes the gradients of all others, and
    Opacus itself does not notice where the layer has no weights.
    """

    def __init__(self, module: nn.Module) -> None:
        from opacus.grad_sample import GradSampleModule

        for name, layer in module.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise PrivacyError(
                    f"differential privacy: `{name}` normalises over the batch, so clipping image "
                    "by image bounds nothing; expected a network without batch statistics"
                )
        # Opacus' own rule for convolutions reads images in channels_last order wrongly, in
        # silence; its rule by functional transforms does not, and serves every layer.
        self._wrapped = GradSampleModule(
            module, loss_reduction="sum", strict=True, force_functorch=True
        )
        self._parameters = list(module.parameters())

    def __enter__(self) -> "ImageGradients":
        return self

    def __exit__(self, *_: object) -> None:
        self._wrapped.to_standard_module()

    def of(self, losses: Tensor) -> list[Tensor]:
        """Gradients of `losses` (B,), each that of its image alone: (B, ...) a parameter."""
        losses.sum().backward()
        gradients = []
        for parameter in self._parameters:
            found = parameter.grad_sample  # type: ignore[attr-defined]
            shape = (len(losses), *parameter.shape)
            if found is None:  # the head is at zero, or does not use it
                found = torch.zeros(shape, device=losses.device)
            gradients.append(found.detach())
            parameter.grad_sample = parameter.grad = None  # type: ignore[attr-defined]
        return gradients


def clipped_sum(gradients: Sequence[Tensor], unit: Tensor, units: int, clip: float) -> list[Tensor]:
    """The sum over units of their gradients, each shortened to a norm of at most `clip`.

    `gradients` holds (B, ...) a parameter; `unit` (B,) says to which of the `units` an image
    belongs: gradients of one unit are added before they are clipped. The norm is that over all
    parameters together. A unit whose gradient is not finite adds nothing.
    """
    of_units = [
        torch.zeros((units, *g.shape[1:]), dtype=g.dtype, device=g.device).index_add_(0, unit, g)
        for g in gradients
    ]
    squares = torch.stack([g.flatten(1).double().square().sum(1) for g in of_units])
    norms = squares.sum(0).sqrt()
    finite = norms.isfinite()
    factors = torch.where(finite, (clip / norms.clamp_min(1e-12)).clamp_max(1.0), 0.0)
    return [
        torch.tensordot(factors.to(g.dtype), torch.where(_wide(finite, g), g, 0.0), dims=1)
        for g in of_units
    ]


def privatised(
    total: Sequence[Tensor],
    *name: int | str,
    noise: float,
    clip: float,
    expected: float,
    secret: bytes,
) -> list[Tensor]:
    """(`total` + Gaussian noise of standard deviation `noise` * `clip`) / `expected`.

    `expected` is the expected number of units in a step, which does not tell how many there were.
    The noise is drawn from `secret` and `name`. Raises `PrivacyError` where there would be none.
    """
    if not (noise > 0 and clip > 0):
        raise PrivacyError(
            f"differential privacy without noise: expected noise and clip above 0, got {noise:g} "
            f"and {clip:g}; nothing is released"
        )
    drawn = torch.from_numpy(normal(sum(value.numel() for value in total), secret, *name))
    parts = drawn.split([value.numel() for value in total])
    return [
        (value + (noise * clip * part).reshape(value.shape).to(value)) / expected
        for value, part in zip(total, parts, strict=True)
    ]


def _wide(of_units: Tensor, like: Tensor) -> Tensor:
    """(units,) as (units, 1, 1, ...), to be compared with `like`."""
    return of_units.reshape(-1, *[1] * (like.ndim - 1))
