"""What a site does in a stage: train on its own data, and say what may be said.

The same function serves the in-process federation and a site on a hospital's machine. It is pure:
everything it needs comes in, everything it made goes out, and its random numbers come from its
name, so the order of sites and the process they run in do not matter. (Under differential privacy
a site draws a secret in its first stage, and numbers come from that as well.)
"""

from dataclasses import dataclass

import torch

from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.metrics import primary_metric
from polyclinic.evaluate.predictions import judge, score
from polyclinic.federation.aggregation import subtract
from polyclinic.federation.knowledge import Knowledge
from polyclinic.federation.privacy.stage import private_stage
from polyclinic.federation.unlabelled import unlabelled_stage
from polyclinic.models.device import device
from polyclinic.models.encoder import Preset
from polyclinic.models.heads import build_head
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, load_into, state_of, under
from polyclinic.models.training import TrainPlan, fit_head, remeasure, train

NORMS = "own-norms."
"""Before the names of normalisations that stay at the site, with its head."""


@dataclass(frozen=True)
class Trained:
    """A site's stage: `knowledge` may leave (the encoder's change), `head` stays at the site."""

    knowledge: Knowledge
    head: State


def train_stage(
    site: SiteData,
    preset: Preset,
    received: State,
    head_state: State | None,
    plan: TrainPlan,
    *seed: int | str,
) -> Trained:
    """Train the received encoder on the site's data for one stage.

    The private head goes on from `head_state`; a fresh one (None), and any under a plan that puts
    the head first, is fitted on frozen features before the encoder moves, so that the encoder is
    not pulled by a head that does not fit it yet (Kumar et al. 2022). `received_score` and
    `trained_score` are the primary metric on the site's validation split before and after the
    encoder was trained. With `plan.own_norms` the site's normalisation takes the place of the
    received one, its change is sent as zero, and it stays with the head. A plan with a privacy
    budget, or without labels, goes another way: see `private_stage`, `unlabelled_stage`.
    """
    if plan.privacy.epsilon:
        return Trained(*private_stage(site, preset, received, head_state, plan, *seed))
    if plan.masking is not None:
        return Trained(
            *unlabelled_stage(site, preset, received, head_state, plan, plan.masking, *seed)
        )
    if plan.own_norms:
        received = with_norms(received, head_state or {})
    encoder = encoder_with(preset, received)
    head = build_head(site.task, len(site.classes), encoder.config, seed=0).to(device())
    if head_state is not None:
        load_into(head, {k: v for k, v in head_state.items() if not k.startswith(NORMS)})
    if plan.head_first or head_state is None:
        fit_head(encoder, head, site, plan, *seed)
    else:
        remeasure(encoder, head, site)
    metric = primary_metric(site.task)
    received_score = score(judge(encoder, head, site, "val"), metric)
    loss = train(encoder, head, site, plan, *seed)
    trained_score = score(judge(encoder, head, site, "val"), metric)
    scalars = {
        "examples": float(len(site.split["train"])),
        "loss": loss,
        "received_score": received_score,
        "trained_score": trained_score,
    }
    trained, kept = state_of(encoder), state_of(head)
    change = subtract(trained, received)
    if plan.own_norms:
        norms = [name for name in trained if _is_norm(name)]
        kept |= {NORMS + name: trained[name] for name in norms}
        change |= {name: torch.zeros_like(trained[name]) for name in norms}
    return Trained(Knowledge(change, scalars), kept)


def with_norms(encoder: State, kept: State) -> State:
    """The encoder with the normalisation that a site kept, if it has."""
    return {**encoder, **under(kept, NORMS)}


def _is_norm(name: str) -> bool:
    """Whether it belongs to a normalisation of the encoder, as `norms.0.weight` does."""
    return any(part.startswith("norm") for part in name.split("."))
