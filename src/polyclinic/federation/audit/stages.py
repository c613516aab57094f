"""A site's stage as a federation makes it, with everything kept that an audit compares it with."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyclinic.data.dataset import SiteData
from polyclinic.errors import PrivacyError
from polyclinic.federation.aggregation import subtract
from polyclinic.federation.privacy.accounting import Steps, epsilon_of, noise_for
from polyclinic.federation.privacy.head import private_head
from polyclinic.federation.privacy.sgd import Sampling, sampling_of, train_privately
from polyclinic.federation.privacy.units import units_of
from polyclinic.federation.site import train_stage
from polyclinic.models.device import device
from polyclinic.models.encoder import Preset
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, state_of
from polyclinic.models.training import Batches, TrainPlan
from polyclinic.seeding import derive

MOST_VIEWS = 768
"""Views of a stage that are kept to be compared with."""


@dataclass(frozen=True)
class Stage:
    """A stage that was trained: the encoder's change, the head, and the views that made it.

    `views` (T, C, S, S) are in 0..1, the first `MOST_VIEWS`. Without differential privacy `noise`
    is 0 and `epsilon`, what the stage spent, infinite.
    """

    change: State
    head: State
    views: Tensor
    noise: float = 0.0
    epsilon: float = math.inf


def noise_of(site: SiteData, plan: TrainPlan) -> tuple[Sampling, float]:
    """How a site samples under the plan's budget, and the noise it adds, in clips."""
    privacy = plan.privacy
    sampling = sampling_of(site, plan, units_of(site, privacy.unit))
    steps = sampling.steps * plan.stages
    noise = privacy.noise or noise_for(privacy.epsilon, privacy.delta, sampling.rate, steps)
    return sampling, noise


def stage_of(
    site: SiteData, preset: Preset, received: State, plan: TrainPlan, *seed: int | str
) -> Stage:
    """Train for a stage: as `train_stage` does, and under a budget by the same DP-SGD.

    The secret is drawn from the seed here, and known: an audit has to know the noise.
    """
    if not plan.privacy.epsilon:
        trained = train_stage(site, preset, received, None, plan, *seed)
        views = [images.cpu() for images, _ in Batches(site, plan).epochs(plan.epochs, *seed)]
        return Stage(trained.knowledge.tensors, trained.head, torch.cat(views)[:MOST_VIEWS])
    sampling, noise = noise_of(site, plan)
    return private_stage_of(site, preset, received, plan, sampling, noise, *seed)


def private_stage_of(
    site: SiteData,
    preset: Preset,
    received: State,
    plan: TrainPlan,
    sampling: Sampling,
    noise: float,
    *seed: int | str,
) -> Stage:
    """A stage by DP-SGD with a sampling and a noise that are given."""
    secret = derive("audit secret", *seed).to_bytes(8, "big") * 4
    encoder = encoder_with(preset, received)
    head = private_head(site.task, len(site.classes), encoder.config).to(device())
    views: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module is encoder:  # and not its copy, the anchor
            views.append(inputs[0].detach().cpu())

    with encoder.register_forward_pre_hook(keep):
        train_privately(encoder, head, site, plan, sampling, noise, secret, *seed)
    if not views:
        raise PrivacyError(
            f"site '{site.name}': no image was drawn in the stage; expected more steps or a larger "
            "batch, to audit it"
        )
    steps = (Steps(noise, sampling.rate, sampling.steps),)
    return Stage(
        subtract(state_of(encoder), received),
        state_of(head),
        torch.cat(views)[:MOST_VIEWS],
        noise,
        epsilon_of(steps, plan.privacy.delta),
    )
