"""A site's stage without its labels: masked image modelling on its own images.

What federated masked image modelling is made of. The images leave no more than they do otherwise,
and the labels are not read.
"""

import math

import torch
from torch import nn

from polyclinic.data.dataset import SiteData
from polyclinic.federation.aggregation import subtract
from polyclinic.federation.knowledge import Knowledge
from polyclinic.models.device import device
from polyclinic.models.encoder import Preset
from polyclinic.models.loading import encoder_with
from polyclinic.models.masked import MASKED
from polyclinic.models.pretraining import PretrainPlan, network
from polyclinic.models.state import State, load_into, state_of
from polyclinic.models.training import Batches, TrainPlan, rate_share
from polyclinic.seeding import generator

_ENCODER = "encoder."


def unlabelled_stage(
    site: SiteData,
    preset: Preset,
    received: State,
    kept: State | None,
    plan: TrainPlan,
    masking: PretrainPlan,
    *seed: int | str,
) -> tuple[Knowledge, State]:
    """Train the received encoder for one stage: (what may leave, what stays at the site).

    As many batches of views as with labels. The head that predicts pixels stays. Scores would need
    labels, so they are NaN.
    """
    encoder = encoder_with(preset, received)
    model = network(MASKED, encoder, *seed).to(device())
    if kept is not None:
        whole = {**state_of(model), **kept}
        load_into(model, whole | {_ENCODER + name: value for name, value in received.items()})
    batches = Batches(site, plan)
    optimiser = torch.optim.AdamW(
        model.parameters(), plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    total, step, steps = 0.0, 0, batches.steps(plan.epochs)
    for epoch in range(plan.epochs):
        gen = generator(*seed, epoch)
        order = batches.rows[torch.randperm(len(batches.rows), generator=gen)]
        for rows in order.split(plan.batch_size)[: batches.steps(1)]:
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * rate_share(step, steps, plan)
            loss = MASKED.loss(model, batches.images[rows], batches.size, masking, gen)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total, step = total + float(loss.detach()), step + 1
    scalars = {
        "examples": float(len(site.split["train"])),
        "loss": total / step,
        "received_score": math.nan,
        "trained_score": math.nan,
    }
    head = {k: v for k, v in state_of(model).items() if not k.startswith(_ENCODER)}
    return Knowledge(subtract(state_of(encoder), received), scalars), head
