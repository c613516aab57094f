"""Guard against negative transfer: sites say what they gain, and the server heeds those that lose.

A site goes on training an encoder of its own beside the federation's, from the one that it received
first, with the same plan and without an anchor. Both are judged alike, as they stand before a
stage: a head fitted on frozen features, or gone on from the stage before, on validation images. The
differences are two numbers that the site tells. Where the exchange is parallel, what is received
first is the common start, masked image modelling for example.

The server gives more weight to who loses, as agnostic federated learning does (Mohri et al. 2019,
arXiv 1902.00146, in the spirit of its section 4: weights that follow the losses); where the encoder
goes from site to site, they come last, because what was trained last is remembered best.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from polyclinic.data.dataset import SiteData
from polyclinic.federation.aggregation import add
from polyclinic.federation.knowledge import Knowledge
from polyclinic.federation.site import Trained
from polyclinic.models.encoder import Preset
from polyclinic.models.state import State, under
from polyclinic.models.training import TrainPlan

OWN = "alone."
"""Before the names of what a site trains by itself; it stays there with its head."""
MOST = 4.0
"""A site that loses weighs at most so many times as much as it would."""
Training = Callable[..., Trained]


def guarded(training: Training) -> Training:
    """`training` that also tells what the site gains; the signature is that of `train_stage`."""

    def stage(
        site: SiteData,
        preset: Preset,
        received: State,
        kept: State | None,
        plan: TrainPlan,
        *seed: int | str,
    ) -> Trained:
        head = {k: v for k, v in (kept or {}).items() if not k.startswith(OWN)}
        own = under(kept or {}, OWN)
        encoder = under(own, "encoder.") or received
        shared = training(site, preset, received, head or None, plan, *seed)
        plain = replace(plan, anchor="none", anchor_weight=0.0)
        alone = training(site, preset, encoder, under(own, "head.") or None, plain, *seed, "alone")
        there, here = (t.knowledge.scalars["received_score"] for t in (shared, alone))
        start = own.get("start", torch.tensor(here, dtype=torch.float64))
        gains = {"gain_over_alone": there - here, "gain_over_start": there - float(start)}
        now = add(encoder, alone.knowledge.tensors)
        stays = {
            **shared.head,
            **{f"{OWN}encoder.{name}": value for name, value in now.items()},
            **{f"{OWN}head.{name}": value for name, value in alone.head.items()},
            f"{OWN}start": start,
        }
        knowledge = Knowledge(shared.knowledge.tensors, {**shared.knowledge.scalars, **gains})
        return Trained(knowledge, stays)

    return stage


def heeded(weight: float, gain: float, strength: float) -> float:
    """A site's weight, larger where it loses: times e^(-strength * gain), at most `MOST` times.

    `gain` is over working alone, in units of the metric (0..1); NaN and gains change nothing.

    >>> print(heeded(1.0, 0.03, 20.0), round(heeded(1.0, -0.03, 20.0), 3))
    1.0 1.822
    """
    if not gain < 0:
        return weight
    return weight * min(MOST, math.exp(-strength * gain))


def in_order(names: Sequence[str], gains: Mapping[str, float]) -> list[str]:
    """The sites, those that lose most last; the others, and unknown ones, in the order given."""

    def loss(name: str) -> float:
        gain = gains.get(name, 0.0)
        return -gain if gain < 0 else 0.0

    return sorted(names, key=loss)
