"""The methods that a run compares, one function each, all from the same parts.

A method takes the federation and returns the encoder that each site ends up with. What a stage
costs, where it is stored, who took part and what travelled is the federation's business; a
method decides only what is trained where and how the server combines it. `begin` and `finish`
make every method resumable: a killed run goes on after its last finished stage.
"""

from collections.abc import Callable, Sequence

import torch

from polyclinic.errors import PrivacyError
from polyclinic.federation.aggregation import (
    WEIGHTINGS,
    Aggregator,
    add,
    aggregator,
    mean,
    server_step,
)
from polyclinic.federation.exchange import Federation, Update
from polyclinic.federation.guard import heeded
from polyclinic.federation.plans import plan_of
from polyclinic.federation.privacy.clients import noisy_mean
from polyclinic.federation.secure.stage import train_sum
from polyclinic.federation.site import with_norms
from polyclinic.federation.stages import Stages
from polyclinic.models.state import State, under
from polyclinic.models.training import TrainPlan

GAIN = "gain."
"""Before a site's name, in what the server remembers."""
Encoders = dict[str, State]
"""The encoder of each site, by the site's name."""


def mim(fed: Federation) -> Encoders:
    """Masked image modelling on the public corpus, nothing else: the start of all others."""
    return fed.everywhere(fed.start)


def contrastive(fed: Federation) -> Encoders:
    """Contrastive learning on the public corpus (SimCLR, Chen et al. 2020), nothing else."""
    return fed.everywhere(fed.start)


def local(fed: Federation) -> Encoders:
    """Every site alone: trains the common start on its own data; nothing travels."""
    stages = fed.begin(dict.fromkeys(fed.names, fed.start))
    while not stages.finished:
        updates = fed.train(stages, fed.plan(stages), exchange=False)
        encoders = {u.site: add(stages.encoders[u.site], u.change) for u in updates}
        stages = fed.finish(stages, stages.encoders | encoders, updates)
    return stages.encoders


def scratch(fed: Federation) -> Encoders:
    """Every site alone, from random weights: without the public corpus, too."""
    return local(fed)


def fedavg(fed: Federation) -> Encoders:
    """Federated averaging (McMahan et al. 2017) of the encoder; heads stay private."""
    return fed.everywhere(_averaged(fed, "fedavg").encoders[""])


def fedprox(fed: Federation) -> Encoders:
    """FedAvg with a proximal term at the sites (Li et al. 2020)."""
    return fed.everywhere(_averaged(fed, "fedprox").encoders[""])


def fedbn(fed: Federation) -> Encoders:
    """FedAvg whose sites keep the encoder's normalisation to themselves (FedBN, Li et al. 2021)."""
    stages = _averaged(fed, "fedbn")
    shared = stages.encoders[""]
    return {name: with_norms(shared, stages.heads.get(name, {})) for name in fed.names}


def fedmim(fed: Federation) -> Encoders:
    """Masked image modelling at the sites, averaged: their images serve, their labels do not."""
    return fed.everywhere(_averaged(fed, "fedmim").encoders[""])


def universal(fed: Federation) -> Encoders:
    """Ours: heads first, anchored sites, a server that combines or passes on, distillation.

    Under `cyclic` the encoder goes from site to site (cyclical weight transfer, Chang et al. 2018):
    each trains what the one before has left. The mean over the last stage's visits is the result
    (Izmailov et al. 2018): it serves sites that took no part better than the last visit does.
    """
    c = fed.config.universal
    combine = aggregator(c.aggregation, c.trim)
    stages = fed.begin({"": fed.start})
    while not stages.finished:
        plan = plan_of(fed.config, "universal", stages.done)
        received = stages.encoders[""]
        distils = c.distil_every and (stages.done + 1) % c.distil_every == 0
        if c.exchange == "cyclic":
            updates, teachers = fed.train_in_turn(stages, plan, _gains(stages))
            last = stages.done + 1 == stages.total
            encoder = mean(teachers, [1.0] * len(teachers)) if last else teachers[-1]
            memory = _told(updates)
        else:
            change, updates, account = _combined(fed, stages, plan, combine, c.weighting)
            encoder, memory = server_step(
                c.server_optimiser,
                received,
                change,
                stages.memory,
                learning_rate=c.server_learning_rate,
                momentum=c.server_momentum,
            )
            memory = memory | account
            teachers = [add(received, u.change) for u in updates] if distils else []
        if distils:
            encoder = fed.distil(stages, encoder, teachers)
        stages = fed.finish(stages, {"": encoder}, updates, memory)
    return fed.everywhere(stages.encoders[""])


def centralised(fed: Federation) -> Encoders:
    """All data in one place, one encoder, a head per site. Simulation only: the ceiling."""
    stages = fed.begin({"": fed.start})
    while not stages.finished:
        encoder, updates = fed.train_pooled(stages, fed.plan(stages))
        stages = fed.finish(stages, {"": encoder}, updates)
    return fed.everywhere(stages.encoders[""])


Method = Callable[[Federation], Encoders]
METHODS: dict[str, Method] = {
    "universal": universal,
    "fedavg": fedavg,
    "fedprox": fedprox,
    "local": local,
    "mim": mim,
    "centralised": centralised,
    "fedbn": fedbn,
    "fedmim": fedmim,
    "contrastive": contrastive,
    "scratch": scratch,
}

STARTS: dict[str, str] = {"contrastive": "contrastive", "scratch": "random"}
"""What a method's `Federation.start` comes from, where that is not masked image modelling."""

TITLES: dict[str, str] = {
    "universal": "Universal (ours)",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "local": "Each site alone",
    "mim": "Masked image modelling",
    "centralised": "All data pooled",
    "fedbn": "FedBN",
    "fedmim": "Federated masked image modelling",
    "contrastive": "Contrastive learning",
    "scratch": "Each site alone, from random",
}


def _averaged(fed: Federation, method: str) -> Stages:
    """All stages of averaging by size, with a method's local training."""
    stages = fed.begin({"": fed.start})
    while not stages.finished:
        plan = plan_of(fed.config, method, stages.done)
        change, updates, _ = _combined(fed, stages, plan, mean, "size")
        stages = fed.finish(stages, {"": add(stages.encoders[""], change)}, updates)
    return stages


def _combined(
    fed: Federation, stages: Stages, plan: TrainPlan, combine: Aggregator, weighting: str
) -> tuple[State, list[Update], State]:
    """Train for a stage: the sites' changes as one, the updates, the server's privacy account.

    With secure aggregation the server gets their weighted mean, and no update has a change. Without
    differential privacy of whole sites, there is no account.
    """
    privacy = fed.config.privacy
    if fed.config.federation.secure:
        return *train_sum(fed, stages, plan, weighting), {}
    updates = fed.train(stages, plan)
    changes = [u.change for u in updates]
    if privacy.site_epsilon:
        if weighting != "equal":
            raise PrivacyError(
                f"{fed.method}: privacy.site_epsilon needs sites of equal weight, and this method "
                f"weighs them by {weighting}; leave it out of methods"
            )
        about = (fed.seed, fed.method, stages.done)
        sites, total = len(fed.names), stages.total
        change, account = noisy_mean(changes, sites, privacy, total, stages.memory, *about)
        return change, updates, account
    weights = [
        heeded(w, u.scalars.get("gain_over_alone", 0.0), fed.config.universal.guard)
        for w, u in zip(_weights(updates, weighting), updates, strict=True)
    ]
    return combine(changes, weights), updates, {}


def _told(updates: Sequence[Update]) -> State:
    """What sites said that they gain over working alone, to be kept until the next stage."""
    return {
        GAIN + u.site: torch.tensor(u.scalars["gain_over_alone"], dtype=torch.float64)
        for u in updates
        if "gain_over_alone" in u.scalars
    }


def _gains(stages: Stages) -> dict[str, float]:
    """The inverse of `_told`, of the stage before."""
    return {name: float(value) for name, value in under(stages.memory, GAIN).items()}


def _weights(updates: Sequence[Update], weighting: str) -> list[float]:
    return [WEIGHTINGS[weighting](u.examples) for u in updates]
