"""Updates to be inverted: what an attacker sees of them, and all that it is told besides.

Attackers here know more than the server does: the head, which stays at the site, and the labels.
So a reconstruction that fails would fail all the more for the server. One victim is made to leak on
purpose, to show that the attack works: a batch of one, the plain gradient, and a head that sees
every position of the feature maps, whose gradient leaves as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.audit.inversion import Simulate
from polyclinic.federation.audit.stages import stage_of
from polyclinic.federation.audit.updates import narrowed, network, plain, steps_change
from polyclinic.federation.privacy.mechanism import clipped_sum, privatised
from polyclinic.models.device import device
from polyclinic.models.encoder import Encoder, Preset
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State
from polyclinic.models.training import Batches, TrainPlan, rate_share
from polyclinic.seeding import derive, generator

SHALLOW = ("stem.", "norms.", "down.0.", "blocks.0.", "blocks.1.")
"""Weights that still see where things are: an attacker does better with these alone."""

_ROUNDING = 1e-3  # of a step of Adam


@dataclass(frozen=True)
class Victim:
    """An update to be inverted, and what the attacker can compute.

    `update` are tensors as `simulate` gives them for images of `shape` (B, C, H, W); `truth`
    (T, C, H, W) are the views that the update was made of, all in 0..1.
    """

    update: Sequence[Tensor]
    simulate: Simulate
    shape: tuple[int, int, int, int]
    truth: Tensor


class EveryPosition(nn.Module):
    """A head that leaks: a linear map of all positions of all maps, (B, outputs).

    By its gradient one gets the feature maps of a single image. Polyclinic has no such head.
    """

    def __init__(self, maps: Sequence[Tensor], outputs: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive("audit", "head", seed))
            self.linear = nn.Linear(sum(m[0].numel() for m in maps), outputs)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """All maps side by side, and the linear layer."""
        out: Tensor = self.linear(torch.cat([m.flatten(1) for m in maps], 1))
        return out


def leaking_victim(preset: Preset, received: State, image: Tensor, seed: int) -> Victim:
    """One image (1, C, H, W) in 0..1, one plain gradient, of the encoder and of a head that leaks.

    The label is one of two, and told.
    """
    encoder = encoder_with(preset, received)
    images = image.to(device())
    with torch.no_grad():
        head = EveryPosition(encoder(images), 2, seed).to(device())
    label = torch.full((len(images),), seed % 2, device=device())
    parameters = [*encoder.parameters(), *head.parameters()]

    def simulate(dummies: Tensor) -> Sequence[Tensor]:
        outputs = head(encoder(dummies))
        labels = label[:1].expand(len(dummies))
        loss = nn.functional.cross_entropy(outputs, labels)
        return torch.autograd.grad(loss, parameters, create_graph=True)

    update = [gradient.detach() for gradient in simulate(images)]
    return Victim(update, simulate, _shape(images, len(images)), images.cpu())


def noisy(victim: Victim, noise: float, clip: float, secret: bytes) -> Victim:
    """The same victim by the mechanism of DP-SGD: its gradient clipped, with noise."""
    gradients = [value.unsqueeze(0) for value in victim.update]
    total = clipped_sum(gradients, torch.zeros(1, dtype=torch.long), 1, clip)
    update = privatised(total, "audit", noise=noise, clip=clip, expected=1.0, secret=secret)
    return replace(victim, update=update)


def image_victim(
    site: SiteData, preset: Preset, received: State, head_state: State, row: int, plan: TrainPlan
) -> Victim:
    """A view of one training image, one plain gradient of encoder and head, the network as it is.

    The head predicts with its running statistics: those of a batch of one are undefined.
    """
    batches = Batches(narrowed(site, np.array([row])), plain(plan))
    images, targets = batches.draw(torch.tensor([row]), generator("audit view", row))
    encoder, head = network(site, preset, received, head_state)
    simulate = _gradients(encoder, head.eval(), batches, targets, lambda g: g)
    update = [value.detach() for value in simulate(images)]
    return Victim(update, simulate, _shape(images, 1), images.cpu())


def steps_victim(
    site: SiteData,
    preset: Preset,
    received: State,
    head_state: State,
    plan: TrainPlan,
    rows: NDArray[np.int64],
    steps: int,
    *seed: int | str,
) -> Victim:
    """`steps` steps of the site's own training on the batch of `rows`: the encoder's change.

    The attacker is told the head before the first step, the labels and the plan. The first step of
    Adam shows the signs of the gradients; so what is compared is their size, flattened.
    """
    part = narrowed(site, rows)
    one = replace(plan, epochs=1, min_steps=steps, max_steps=steps, batch_size=len(rows))
    views = list(Batches(part, one).epochs(1, *seed))
    change = steps_change(part, preset, received, head_state, one, *seed)
    truth = torch.cat([images.cpu() for images, _ in views])
    targets = views[0][1]
    return _of_change(change, part, preset, received, head_state, one, steps, targets, truth)


def stage_victim(
    site: SiteData,
    preset: Preset,
    received: State,
    plan: TrainPlan,
    images: int,
    *seed: int | str,
) -> Victim:
    """A whole stage of the site's own training; the attacker searches for `images` images.

    Under a privacy budget by the same DP-SGD as in a federation. The attacker is told the head that
    the site has afterwards, and the labels of the first images.
    """
    stage = stage_of(site, preset, received, plan, *seed)
    batches = Batches(site, plan)
    rows = torch.from_numpy(site.split["train"])[:images]
    targets = batches.draw(rows, generator("labels", *seed))[1]
    return _of_change(
        stage.change,
        site,
        preset,
        received,
        stage.head,
        plan,
        batches.steps(plan.epochs),
        targets,
        stage.views,
        private=stage.noise > 0,
    )


def _of_change(
    change: State,
    site: SiteData,
    preset: Preset,
    received: State,
    head_state: State,
    plan: TrainPlan,
    steps: int,
    targets: Tensor,
    truth: Tensor,
    *,
    private: bool = False,
) -> Victim:
    encoder, head = network(site, preset, received, head_state, private=private)
    if private:
        head.eval()
    else:
        head.train()
    batches = Batches(site, plan)
    decay = sum(rate_share(step, steps, plan) for step in range(steps))
    shrunk = plan.learning_rate * plan.weight_decay * decay
    named = {name: p for name, p in encoder.named_parameters() if name.startswith(SHALLOW)}
    # the way of the gradient: the change turned round, without what weight decay did; what is
    # left of weights that had no gradient is rounding
    turned = [-(change[name].to(p) + shrunk * p.detach()) for name, p in named.items()]
    update = [u.where(u.abs() > _ROUNDING * plan.learning_rate, 0.0) for u in turned]
    simulate = _gradients(encoder, head, batches, targets, _flattened, list(named.values()))
    return Victim(update, simulate, _shape(truth, len(targets)), truth)


def _gradients(
    encoder: Encoder,
    head: nn.Module,
    batches: Batches,
    targets: Tensor,
    seen: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter] | None = None,
) -> Simulate:
    chosen = list(parameters or [*encoder.parameters(), *head.parameters()])

    def simulate(images: Tensor) -> Sequence[Tensor]:
        outputs = head(encoder(images), (images.shape[2], images.shape[3]))
        loss = batches.loss(outputs, targets)
        return [seen(g) for g in torch.autograd.grad(loss, chosen, create_graph=True)]

    return simulate


def _flattened(gradient: Tensor) -> Tensor:
    """Numbers as an optimiser such as Adam makes them: large ones all alike, small ones small."""
    size = gradient.abs()
    return gradient / (size + size.mean().detach() + 1e-12)


def _shape(images: Tensor, batch: int) -> tuple[int, int, int, int]:
    _, channels, height, width = images.shape
    return batch, channels, height, width
