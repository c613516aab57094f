"""Training of encoder and head by DP-SGD (Abadi et al. 2016, algorithm 1), with AdamW's steps.

All that the steps take from the site's images is one noisy, clipped sum each. What follows, the
optimiser and the proximal anchor, is computed from that, and spends nothing more.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyclinic.data.dataset import SiteData, Task
from polyclinic.federation.privacy.head import neutral_weights
from polyclinic.federation.privacy.mechanism import (
    ImageGradients,
    Joined,
    clipped_sum,
    privatised,
)
from polyclinic.federation.privacy.units import Units, images_of, poisson_sample
from polyclinic.models.device import device
from polyclinic.models.encoder import Encoder, pool
from polyclinic.models.heads import LOSSES
from polyclinic.models.training import Batches, TrainPlan, rate_share
from polyclinic.seeding import generator

_AT_ONCE = 32
"""Images whose gradients are in memory at the same time, or those of one unit."""


@dataclass(frozen=True)
class Sampling:
    """`units`, each of which takes part in each of `steps` with probability `rate`."""

    units: Units
    rate: float
    steps: int

    @property
    def expected(self) -> float:
        """Expected number of units in a step."""
        return self.rate * len(self.units)


def sampling_of(site: SiteData, plan: TrainPlan, units: Units) -> Sampling:
    """A batch's worth of units expected in each step, as many steps as without privacy."""
    rate = min(1.0, plan.batch_size / len(units))
    return Sampling(units, rate, Batches(site, plan).steps(plan.epochs))


def train_privately(
    encoder: Encoder,
    head: nn.Module,
    site: SiteData,
    plan: TrainPlan,
    sampling: Sampling,
    noise: float,
    secret: bytes,
    *name: int | str,
) -> None:
    """Train head and encoder in place, in float32; nothing else of the images comes out.

    The losses are those of `models.training.train`, image by image, without weights that come from
    other images. A unit's gradient is that of the mean over its images in the step (at most
    `plan.privacy.patient_images`), of head and encoder together.
    """
    privacy = plan.privacy
    most = privacy.patient_images if privacy.unit == "patient" else 1
    start = copy.deepcopy(encoder).requires_grad_(False) if plan.anchor != "none" else None
    joined = Joined(encoder, head).train()
    parameters = list(joined.parameters())
    optimiser = torch.optim.AdamW(
        parameters, plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    batches = Batches(site, plan)
    weights = neutral_weights(len(site.classes)).to(device())
    with ImageGradients(joined) as gradients:
        for step in range(sampling.steps):
            drawn = poisson_sample(
                len(sampling.units), sampling.rate, secret, *name, "sample", step
            )
            gen = generator(secret.hex(), *name, "views", step)
            total = [torch.zeros_like(p) for p in parameters]
            for first in range(0, len(drawn), max(1, _AT_ONCE // most)):
                part = drawn[first : first + max(1, _AT_ONCE // most)]
                rows, unit, share = images_of(sampling.units, part, most, gen)
                images, targets = batches.draw(rows, gen)
                images.requires_grad_()  # or the hooks of the first layer would not run
                losses = _losses(joined, images, targets, weights, start, plan, site.task)
                found = gradients.of(losses * share.to(losses))
                clipped = clipped_sum(found, unit.to(losses.device), len(part), privacy.clip)
                total = [t + c for t, c in zip(total, clipped, strict=True)]
            noisy = privatised(
                total,
                *name,
                "noise",
                step,
                noise=noise,
                clip=privacy.clip,
                expected=sampling.expected,
                secret=secret,
            )
            for parameter, gradient in zip(parameters, noisy, strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            if start is not None and plan.anchor == "proximal":
                _add_proximal(encoder, start, plan.anchor_weight)
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * rate_share(step, sampling.steps, plan)
            optimiser.step()
            optimiser.zero_grad()


def _losses(
    joined: Joined,
    images: Tensor,
    targets: Tensor,
    weights: Tensor,
    start: Encoder | None,
    plan: TrainPlan,
    task: Task,
) -> Tensor:
    """The loss of each image (B,), as if it were alone in its batch."""
    outputs, maps = joined(images)
    one_by_one = zip(outputs.split(1), targets.split(1), strict=True)
    losses = torch.stack([LOSSES[task](o, t, weights) for o, t in one_by_one])
    if start is None or plan.anchor != "feature":
        return losses
    with torch.no_grad():
        before = pool(start(images))
    change = (pool(maps) - before).square().sum(1)
    return losses + plan.anchor_weight * change / before.square().sum(1).clamp_min(1e-6)


def _add_proximal(encoder: Encoder, start: Encoder, weight: float) -> None:
    """Add the gradient of weight / 2 * |theta - theta_0|^2, which depends on no image."""
    for parameter, origin in zip(encoder.parameters(), start.parameters(), strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - origin, alpha=weight)
