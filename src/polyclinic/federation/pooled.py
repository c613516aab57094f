"""Training on all sites' data in one place: what a federation may not do, as its ceiling."""

from collections.abc import Mapping

import torch
from torch import nn

from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.metrics import primary_metric
from polyclinic.evaluate.predictions import judge, score
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Preset
from polyclinic.models.heads import build_head
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, load_into, state_of
from polyclinic.models.training import Batches, TrainPlan, fit_head, remeasure
from polyclinic.seeding import generator


def train_pooled(
    sites: Mapping[str, SiteData],
    preset: Preset,
    received: State,
    head_states: Mapping[str, State],
    plan: TrainPlan,
    *seed: int | str,
) -> tuple[State, dict[str, State], dict[str, dict[str, float]]]:
    """One stage over the union of the sites: (encoder, heads, scalars by site).

    Every step takes a batch of one site; the sites' batches are shuffled together, each site
    with as many steps as it would take alone.
    """
    encoder = encoder_with(preset, received)
    heads: dict[str, nn.Module] = {}
    scalars: dict[str, dict[str, float]] = {}
    for name, site in sites.items():
        head = build_head(site.task, len(site.classes), encoder.config, seed=0).to(device())
        heads[name] = head
        if name in head_states:
            load_into(head, head_states[name])
        else:
            fit_head(encoder, head, site, plan, *seed, name)
        before = score(judge(encoder, head, site, "val"), primary_metric(site.task))
        scalars[name] = {"examples": float(len(site.split["train"])), "received_score": before}
    batches = {name: Batches(site, plan) for name, site in sites.items()}
    streams = {n: b.epochs(plan.epochs, *seed, n) for n, b in batches.items()}
    names = [name for name, b in batches.items() for _ in range(b.steps(plan.epochs))]
    order = torch.randperm(len(names), generator=generator(*seed, "order"))
    parameters = [*encoder.parameters(), *(p for h in heads.values() for p in h.parameters())]
    optimiser = torch.optim.AdamW(
        parameters, plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    losses: dict[str, list[float]] = {name: [] for name in sites}
    for module in heads.values():
        module.train()
    for index in order.tolist():
        name = names[index]
        images, targets = next(streams[name])
        with autocast():
            outputs = heads[name](encoder(images), (images.shape[2], images.shape[3]))
            loss = batches[name].loss(outputs, targets)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses[name].append(float(loss.detach()))
    for name, site in sites.items():
        remeasure(encoder, heads[name], site)
        after = score(judge(encoder, heads[name], site, "val"), primary_metric(site.task))
        scalars[name] |= {
            "trained_score": after,
            "loss": sum(losses[name]) / max(1, len(losses[name])),
        }
    return state_of(encoder), {n: state_of(h) for n, h in heads.items()}, scalars
