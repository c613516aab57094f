"""Gradient inversion: images of a batch, from the update that they made.

Geiping et al. 2020, "Inverting Gradients: How easy is it to break privacy in federated learning?",
equation 4: images whose gradients point where the update points, and which are smooth. How the
attacker computes gradients is a function that comes in, so that the same search serves a batch of
one, an optimiser's step, noisy updates and sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyclinic.errors import PrivacyError
from polyclinic.seeding import generator

Simulate = Callable[[Tensor], Sequence[Tensor]]
"""Images (B, C, H, W) in 0..1 to the update that they would make, differentiable in the images."""

_TINY = 1e-12


@dataclass(frozen=True)
class InversionPlan:
    """How long an attacker searches. `smoothness` is the weight of the total variation."""

    steps: int = 800
    restarts: int = 2
    learning_rate: float = 0.05  # of images in 0..1
    smoothness: float = 1e-3
    by_tensor: bool = False  # compare tensor by tensor, each with the same weight


@dataclass(frozen=True)
class Inverted:
    """Images (B, C, H, W) in 0..1, and how far their update is from the observed one, 0..2."""

    images: Tensor
    distance: float


def invert(
    simulate: Simulate,
    observed: Sequence[Tensor],
    shape: tuple[int, int, int, int],
    plan: InversionPlan,
    *seed: int | str,
) -> Inverted:
    """Search for images of `shape` whose simulated update points where `observed` points.

    The best of `plan.restarts` random starts, by what the attacker can measure: the distance of the
    updates. Adam on the sign of the gradient, its rate falling at 3/8, 5/8 and 7/8 of the steps,
    and images kept in 0..1 (section 6 of the paper). Raises `PrivacyError` for an update that is
    zero or not finite, of which nothing can be searched.
    """
    target = [value.detach() for value in observed]
    length = sum(float(value.double().square().sum()) for value in target) ** 0.5
    if not 0 < length < float("inf"):
        raise PrivacyError(
            f"gradient inversion: the update has a length of {length:g}; expected one above 0 and "
            "finite, so that there is a direction to search for"
        )
    best: Inverted | None = None
    for restart in range(max(1, plan.restarts)):
        found = _search(simulate, target, shape, plan, *seed, restart)
        if best is None or found.distance < best.distance:
            best = found
    assert best is not None
    return best


def _search(
    simulate: Simulate,
    target: Sequence[Tensor],
    shape: tuple[int, int, int, int],
    plan: InversionPlan,
    *seed: int | str,
) -> Inverted:
    start = torch.rand(shape, generator=generator("inversion", *seed))
    images = start.to(target[0].device).requires_grad_()
    optimiser = torch.optim.Adam([images], plan.learning_rate)
    milestones = [plan.steps * eighths // 8 for eighths in (3, 5, 7)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, 0.1)
    best = Inverted(images.detach().clone(), float("inf"))
    for _ in range(plan.steps):
        distance = distance_of(simulate(images), target, by_tensor=plan.by_tensor)
        loss = distance + plan.smoothness * total_variation(images)
        (gradient,) = torch.autograd.grad(loss, [images])
        reached = float(distance.detach())
        if reached < best.distance:
            best = Inverted(images.detach().clone(), reached)
        images.grad = gradient.sign()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return best


def distance_of(update: Sequence[Tensor], target: Sequence[Tensor], *, by_tensor: bool) -> Tensor:
    """`cosine_distance` of two updates as a whole, or its mean over the tensors that changed."""
    if not by_tensor:
        return cosine_distance(update, target)
    pairs = [(u, t) for u, t in zip(update, target, strict=True) if bool(t.any())]
    return torch.stack([cosine_distance([u], [t]) for u, t in pairs]).mean()


def cosine_distance(update: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """1 - the cosine between two updates, over all their tensors together: 0 alike, 2 opposite.

    >>> float(cosine_distance([torch.tensor([2.0, 0.0])], [torch.tensor([1.0, 0.0])]))
    0.0
    """
    pairs = list(zip(update, target, strict=True))
    inner = torch.stack([(u * t).sum() for u, t in pairs]).sum()
    ours = torch.stack([u.square().sum() for u, _ in pairs]).sum()
    theirs = torch.stack([t.square().sum() for _, t in pairs]).sum()
    return 1 - inner / (ours * theirs).clamp_min(_TINY).sqrt()


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels along both axes, images (B, C, H, W)."""
    rows = (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    columns = (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().mean()
    return rows + columns
