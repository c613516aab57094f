"""Learning from public images without labels: one loop for every objective, resumable.

An objective is a network around an encoder, and a loss of a batch: `models.masked.MASKED`,
`models.contrastive.CONTRASTIVE`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.config import MimConfig
from polyclinic.models.device import device
from polyclinic.models.encoder import Encoder, Preset, build_encoder
from polyclinic.models.state import State, load_into, state_of
from polyclinic.seeding import derive, generator

ObjectiveName = Literal["mim", "contrastive"]


@dataclass(frozen=True)
class PretrainPlan:
    """How long and how to pre-train; the last two are for masked image modelling."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    mask_ratio: float
    patch: int  # px


def pretrain_plan(config: MimConfig) -> PretrainPlan:
    """The plan that a run's configuration asks for."""
    c = config
    return PretrainPlan(
        c.epochs, c.batch_size, c.learning_rate, c.weight_decay, c.mask_ratio, c.patch
    )


@dataclass(frozen=True)
class Objective:
    """What is learned without labels.

    `around` puts an encoder into the network that is trained, as its part `encoder`. `loss` takes
    (network, images uint8 (B, C, S, S), side of the views in px, plan, generator).
    """

    name: ObjectiveName
    around: Callable[[Encoder], nn.Module]
    loss: Callable[[nn.Module, Tensor, int, PretrainPlan, torch.Generator], Tensor]


def pretrain(
    objective: Objective,
    preset: Preset,
    images: NDArray[np.uint8],
    plan: PretrainPlan,
    seed: int,
    resumed: State | None = None,
) -> Iterator[tuple[int, float, State]]:
    """Pre-train on images (N, 3, S, S); yields (epoch, mean loss, everything) after each epoch.

    The yielded state resumes the training at the next epoch when handed in again as `resumed`;
    `encoder_of` takes the encoder out of it.
    """
    model = network(objective, build_encoder(preset, seed), seed).to(device())
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
        gen = generator(seed, objective.name, epoch)
        order = torch.randperm(len(data), generator=gen)
        total = 0.0
        for step, rows in enumerate(order.split(plan.batch_size)):
            rate = _cosine(epoch * steps + step, plan.epochs * steps, warmup=2 * steps)
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * rate
            loss = objective.loss(model, data[rows], data.shape[-1], plan, gen)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        yield epoch, total / len(data), _everything(model, optimiser, epoch)


def network(objective: Objective, encoder: Encoder, *seed: int | str) -> nn.Module:
    """The encoder in the network of `objective`, whose other weights come from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*seed, f"{objective.name}-head"))
        return objective.around(encoder)


def encoder_of(everything: State) -> State:
    """The encoder's weights in a state that `pretrain` yielded."""
    prefix = "model.encoder."
    return {k[len(prefix) :]: v for k, v in everything.items() if k.startswith(prefix)}


def _cosine(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _everything(model: nn.Module, optimiser: torch.optim.Optimizer, epoch: int) -> State:
    state = {f"model.{name}": value for name, value in state_of(model).items()}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state[parameter].items():
            state[f"optimiser.{name}.{key}"] = value.detach().cpu().clone()
    state["epoch"] = torch.tensor(epoch)
    return state


def _restore_optimiser(optimiser: torch.optim.Optimizer, model: nn.Module, resumed: State) -> None:
    for name, parameter in model.named_parameters():
        prefix = f"optimiser.{name}."
        entries = {k[len(prefix) :]: v for k, v in resumed.items() if k.startswith(prefix)}
        optimiser.state[parameter] = {
            # Adam's step count stays on the CPU; its moments lie beside the parameter and in its
            # memory layout: the fused optimiser pairs numbers by where they lie in memory
            k: v.clone() if k == "step" else torch.empty_like(parameter).copy_(v)
            for k, v in entries.items()
        }
