"""Masked image modelling on the server's public corpus: everybody's start, and the baseline.

Patches of an image are blanked and predicted from the rest, as in SimMIM (Xie et al. 2022): the
whole image passes through the encoder, a light head predicts pixels, and the loss counts masked
pixels only. Targets are normalised patch by patch (He et al. 2022, section 4.1). All stages' maps
feed the head, so that every stage learns.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.data.transforms import Augmentation, apply_views, sample_views
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Encoder, EncoderConfig, build_encoder
from polyclinic.models.heads import SegmentationHead
from polyclinic.models.state import State, load_into, state_of
from polyclinic.seeding import derive, generator


@dataclass(frozen=True)
class MimPlan:
    """How long and how to pre-train."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    mask_ratio: float
    patch: int  # px


class MaskedModel(nn.Module):
    """Encoder, the value that blanks a pixel, and the head that predicts pixels."""

    def __init__(self, encoder: Encoder, config: EncoderConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.blank = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))
        self.head = SegmentationHead(config, classes=3, hidden=32)

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


def pretrain(
    preset: str, images: NDArray[np.uint8], plan: MimPlan, seed: int, resumed: State | None = None
) -> Iterator[tuple[int, float, State]]:
    """Pre-train on images (N, 3, S, S); yields (epoch, mean loss, everything) after each epoch.

    The yielded state resumes the training at the next epoch when handed in again as `resumed`;
    `encoder_of` takes the encoder out of it.
    """
    encoder = build_encoder(preset, seed)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "mim-head"))
        model = MaskedModel(encoder, encoder.config).to(device())
    optimiser = torch.optim.AdamW(
        model.parameters(),
        plan.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=plan.weight_decay,
        fused=True,
    )
    first = 0
    if resumed is not None:
        first = int(resumed["epoch"]) + 1
        load_into(model, {k[6:]: v for k, v in resumed.items() if k.startswith("model.")})
        _restore_optimiser(optimiser, model, resumed)
    data = torch.from_numpy(images)
    steps = math.ceil(len(data) / plan.batch_size)
    for epoch in range(first, plan.epochs):
        gen = generator(seed, "mim", epoch)
        order = torch.randperm(len(data), generator=gen)
        total = 0.0
        for step, rows in enumerate(order.split(plan.batch_size)):
            rate = _cosine(epoch * steps + step, plan.epochs * steps, warmup=2 * steps)
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * rate
            size = data.shape[-1]
            views = sample_views(len(rows), size, size, _VIEWS, gen)
            batch = apply_views(data[rows], views, size)[0].to(device())
            masked = sample_mask(len(rows), size, plan.patch, plan.mask_ratio, gen).to(device())
            with autocast():
                loss = masked_loss(model(batch, masked), batch, masked, plan.patch)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        yield epoch, total / len(data), _everything(model, optimiser, epoch)


def encoder_of(everything: State) -> State:
    """The encoder's weights in a state that `pretrain` yielded."""
    prefix = "model.encoder."
    return {k[len(prefix) :]: v for k, v in everything.items() if k.startswith(prefix)}


_VIEWS = Augmentation(rotation=5, zoom=0.3, shift=0.08, brightness=0.0, contrast=0.0)


def _cosine(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _everything(model: MaskedModel, optimiser: torch.optim.Optimizer, epoch: int) -> State:
    state = {f"model.{name}": value for name, value in state_of(model).items()}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state[parameter].items():
            state[f"optimiser.{name}.{key}"] = value.detach().cpu().clone()
    state["epoch"] = torch.tensor(epoch)
    return state


def _restore_optimiser(
    optimiser: torch.optim.Optimizer, model: MaskedModel, resumed: State
) -> None:
    for name, parameter in model.named_parameters():
        prefix = f"optimiser.{name}."
        entries = {k[len(prefix) :]: v for k, v in resumed.items() if k.startswith(prefix)}
        optimiser.state[parameter] = {
            # Adam's step count stays on the CPU; its moments live beside the parameter and in its
            # memory layout: the fused optimiser pairs numbers by where they lie in memory
            k: v.clone() if k == "step" else torch.empty_like(parameter).copy_(v)
            for k, v in entries.items()
        }
