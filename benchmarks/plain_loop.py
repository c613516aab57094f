"""Federated averaging with private heads as one writes it by hand: a loop over sites and batches.

The same network, batches, head fits, validation passes and averaging as Polyclinic's `fedavg`, and
nothing else: no messages, no schema, no stages on disk, no record of who took part. It is what
`overhead.py` measures the federation against. Validation is a parameter, so that what it costs can
be told apart.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.metrics import primary_metric
from polyclinic.evaluate.predictions import judge, score
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Encoder, build_encoder
from polyclinic.models.heads import build_head
from polyclinic.models.state import State
from polyclinic.models.training import Batches, TrainPlan, fit_head, remeasure

Validate = Callable[[Encoder, nn.Module, SiteData], float]


def validate(encoder: Encoder, head: nn.Module, site: SiteData) -> float:
    """The primary metric on the site's validation split."""
    return score(judge(encoder, head, site, "val"), primary_metric(site.task))


def plain_fedavg(
    config: Config,
    sites: dict[str, SiteData],
    start: State,
    seed: int,
    validate: Validate = validate,
) -> State:
    """Train for the configured stages; returns the averaged encoder."""
    local = config.local
    encoder = build_encoder(config.preset).to(device())
    heads = {
        name: build_head(site.task, len(site.classes), encoder.config, seed=0).to(device())
        for name, site in sites.items()
    }
    images = {name: len(site.split["train"]) for name, site in sites.items()}
    shared = start
    for stage in range(local.stages):
        decay = 0.5 * (1 + math.cos(math.pi * stage / local.stages))
        plan = TrainPlan(
            size=config.data.image_size,
            epochs=local.epochs,
            min_steps=local.min_steps,
            max_steps=local.max_steps,
            batch_size=local.batch_size,
            learning_rate=local.learning_rate * max(decay, 0.05),
            weight_decay=local.weight_decay,
        )
        changes = []
        for name, site in sites.items():
            encoder.load_state_dict(shared)
            names = (seed, "fedavg", stage, name)  # what Polyclinic seeds the site's work with
            if stage == 0:
                fit_head(encoder, heads[name], site, plan, *names)
            else:
                remeasure(encoder, heads[name], site)
            validate(encoder, heads[name], site)
            train_site(encoder, heads[name], site, plan, names)
            validate(encoder, heads[name], site)
            share = images[name] / sum(images.values())
            # contiguous, because the order in which `sum` adds depends on the layout
            trained = {key: value.cpu().contiguous() for key, value in encoder.state_dict().items()}
            changes.append({key: (trained[key] - shared[key]) * share for key in shared})
        shared = {
            key: shared[key] + torch.stack([c[key] for c in changes]).sum(0) for key in shared
        }
    return shared


def train_site(
    encoder: Encoder,
    head: nn.Module,
    site: SiteData,
    plan: TrainPlan,
    seed: tuple[int | str, ...],
) -> None:
    """One site's batches: forward, backward, clip, step."""
    parameters = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    batches = Batches(site, plan)
    warm_up = 1 + min(10, batches.steps(plan.epochs) // 4)
    head.train()
    for step, (images, targets) in enumerate(batches.epochs(plan.epochs, *seed)):
        optimiser.param_groups[0]["lr"] = plan.learning_rate * min(1.0, (step + 1) / warm_up)
        with autocast():
            outputs = head(encoder(images), (images.shape[2], images.shape[3]))
            loss = batches.loss(outputs, targets)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        loss.item()
    remeasure(encoder, head, site)
