"""Shadow models: a stage of a site's own training, again and again, on halves of its images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.data.dataset import SiteData
from polyclinic.federation.aggregation import add
from polyclinic.federation.audit.stages import stage_of
from polyclinic.federation.audit.updates import narrowed
from polyclinic.federation.privacy.head import private_head
from polyclinic.models.device import device
from polyclinic.models.encoder import Encoder, Preset
from polyclinic.models.heads import LOSSES, build_head
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, load_into
from polyclinic.models.training import TrainPlan, fit_head, remeasure, site_weights
from polyclinic.seeding import derive

BY_HEART_STEPS = 60


@dataclass(frozen=True)
class Shadows:
    """The loss of each model for each image of the pool, (M, N).

    `own` with the head that was trained with the model, which stays at the site; `fitted` with one
    that an attacker who has the encoder alone fits to other images.
    """

    own: NDArray[np.float64]
    fitted: NDArray[np.float64]


def train_shadows(
    site: SiteData,
    preset: Preset,
    received: State,
    plan: TrainPlan,
    pool: NDArray[np.int64],
    inside: NDArray[np.bool_],
    *seed: int | str,
    told: Callable[[int], None] = lambda _: None,
) -> Shadows:
    """Train a stage for each row of `inside` (M, N), on those images of `pool` (N,) that are in."""
    own, fitted = [], []
    others = np.concatenate([site.split["val"], site.split["test"]])
    for number, members in enumerate(inside):
        part = narrowed(site, pool[members])
        stage = stage_of(part, preset, received, plan, *seed, number)
        encoder = encoder_with(preset, add(received, stage.change))
        head: nn.Module = build_head(site.task, len(site.classes), encoder.config, seed=0)
        if stage.noise:
            head = private_head(site.task, len(site.classes), encoder.config)
        load_into(head, stage.head)
        own.append(image_losses(encoder, head.to(device()), site, pool))
        elsewhere = narrowed(site, others)
        guess = build_head(site.task, len(site.classes), encoder.config, seed=0).to(device())
        fit_head(encoder, guess, elsewhere, plan, *seed, number, "attacker")
        fitted.append(image_losses(encoder, guess, site, pool))
        told(number)
    return Shadows(np.stack(own), np.stack(fitted))


def learnt_by_heart(
    site: SiteData,
    preset: Preset,
    received: State,
    pool: NDArray[np.int64],
    inside: NDArray[np.bool_],
    *seed: int | str,
    told: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float64]:
    """Losses (M, N) of models made to leak: `pool` with shuffled labels, always the same views.

    Such labels can only be learnt by heart, image by image; nothing holds the weights back.
    """
    rng = np.random.default_rng(derive("shuffled labels", *seed))
    targets = np.array(site.targets)
    targets[pool] = targets[rng.permutation(pool)]
    shuffled = replace(site, targets=targets)
    losses = []
    for number, members in enumerate(inside):
        part = narrowed(shuffled, pool[members])
        encoder = encoder_with(preset, received)
        head = build_head(site.task, len(site.classes), encoder.config, seed=number).to(device())
        _learn(encoder, head, part)
        remeasure(encoder, head, part)
        losses.append(image_losses(encoder, head, shuffled, pool))
        told(number)
    return np.stack(losses)


def _learn(encoder: Encoder, head: nn.Module, site: SiteData) -> None:
    rows = site.split["train"]
    images = (torch.from_numpy(site.images[rows]).float() / 255).to(device())
    targets = torch.from_numpy(site.targets[rows]).to(device())
    weights = _weights(site)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-3)
    head.train()
    for _ in range(BY_HEART_STEPS):
        outputs = head(encoder(images), (images.shape[2], images.shape[3]))
        loss = LOSSES[site.task](outputs, targets, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _weights(site: SiteData) -> Tensor:
    """Of the loss: all classes alike; of a regression, what scales its targets."""
    if site.task == "regression":
        return site_weights(site)
    return torch.ones(len(site.classes), device=device())


@torch.no_grad()
def image_losses(
    encoder: Encoder, head: nn.Module, site: SiteData, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The loss of each image of `rows` (N,), without weights of classes."""
    head.eval()
    weights = _weights(site)
    losses: list[Tensor] = []
    for part in torch.from_numpy(rows).split(64):
        images = (torch.from_numpy(site.images[part.numpy()]).float() / 255).to(device())
        targets = torch.from_numpy(site.targets[part.numpy()]).to(device())
        outputs = head(encoder(images), (images.shape[2], images.shape[3])).float()
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        losses += [LOSSES[site.task](o, t, weights) for o, t in pairs]
    return np.asarray(torch.stack(losses).double().cpu().numpy())
