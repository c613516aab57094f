"""Multi-teacher feature distillation: the server learns from the sites' encoders on public images.

Each site's encoder embeds the public corpus; its embeddings are standardised dimension by
dimension, so that no teacher dominates by scale (Ranzinger et al. 2024, section 3.3). The global
encoder, through one linear projector per teacher, learns to predict them; in every step each
teacher is left out with a fixed probability (Sariyildiz et al. 2024, section 3.3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.errors import RunError
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Preset
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, state_of
from polyclinic.models.training import embed
from polyclinic.seeding import derive, generator


@dataclass(frozen=True)
class DistilPlan:
    """How to distil."""

    epochs: int
    batch_size: int
    learning_rate: float
    teacher_drop: float  # probability of leaving a teacher out of a step


def distil(
    preset: Preset,
    student_state: State,
    teachers: Sequence[State],
    corpus: NDArray[np.uint8],
    plan: DistilPlan,
    *seed: int | str,
) -> tuple[State, float]:
    """Distil `teachers` into the student on corpus images (N, 3, S, S): (new state, mean loss).

    Raises `RunError` where that diverges.
    """
    targets = torch.stack([_standardised(preset, teacher, corpus) for teacher in teachers])
    student = encoder_with(preset, student_state)
    width = student.config.embedding
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*seed, "projectors"))
        projectors = nn.ModuleList(nn.Linear(width, width) for _ in teachers).to(device())
    _fit_projectors(projectors, embed(student, corpus), targets)
    optimiser = torch.optim.AdamW(
        [*student.parameters(), *projectors.parameters()],
        plan.learning_rate,
        weight_decay=0.0,
        fused=True,
    )
    images = torch.from_numpy(corpus)
    steps = plan.epochs * math.ceil(len(images) / plan.batch_size)
    step, total = 0, 0.0
    for epoch in range(plan.epochs):
        gen = generator(*seed, "distil", epoch)
        for rows in torch.randperm(len(images), generator=gen).split(plan.batch_size):
            kept = _keep(len(teachers), plan.teacher_drop, gen)
            with autocast():
                embedding = student.embed(images[rows].to(device()).float() / 255)
                losses = [
                    nn.functional.smooth_l1_loss(projectors[t](embedding), targets[t, rows])
                    for t in kept
                ]
                loss = torch.stack(losses).mean()
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimiser.step()
            step += 1
            total += float(loss.detach())
    distilled = state_of(student)
    if not all(bool(value.isfinite().all()) for value in distilled.values()):
        raise RunError(
            "distillation: the encoder became NaN or infinite; lower universal.distil_learning_rate"
        )
    return distilled, total / max(step, 1)


def _standardised(preset: Preset, teacher: State, corpus: NDArray[np.uint8]) -> Tensor:
    encoder = encoder_with(preset, teacher)
    features = embed(encoder, corpus)
    return (features - features.mean(0)) / features.std(0).clamp_min(1e-4)


def _fit_projectors(projectors: nn.ModuleList, features: Tensor, targets: Tensor) -> None:
    """Start each projector at its ridge solution: the student need not unlearn a random one."""
    centre, scale = features.mean(0), features.std(0).clamp_min(1e-4)
    x = (features - centre) / scale
    gram = x.T @ x + 0.01 * len(x) * torch.eye(x.shape[1], device=x.device)
    for projector, target in zip(projectors, targets, strict=True):
        weight = torch.linalg.solve(gram, x.T @ target).T / scale
        with torch.no_grad():
            projector.get_parameter("weight").copy_(weight)
            projector.get_parameter("bias").copy_(target.mean(0) - weight @ centre)


def _keep(teachers: int, drop: float, gen: torch.Generator) -> list[int]:
    """The teachers of one step; never none."""
    draw = torch.rand(teachers, generator=gen)
    kept = [t for t in range(teachers) if draw[t] >= drop]
    return kept or [int(draw.argmax())]
