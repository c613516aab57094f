"""What each method asks of a site's training in a stage.

The server asks for it, a site on another machine holds the server to it, and an audit repeats it.
"""

import math
from dataclasses import replace
from typing import Any, Protocol

from polyclinic.config import (
    DataConfig,
    FedProxConfig,
    LocalConfig,
    MimConfig,
    PrivacyConfig,
    UniversalConfig,
    Weighting,
)
from polyclinic.models.pretraining import pretrain_plan
from polyclinic.models.training import TrainPlan, site_plan


class Settings(Protocol):
    """The settings that decide what sites train: of a whole run, or what a site agreed to."""

    @property
    def data(self) -> DataConfig:
        """How images are prepared."""

    @property
    def local(self) -> LocalConfig:
        """How a site trains."""

    @property
    def privacy(self) -> PrivacyConfig:
        """What a site may spend."""

    @property
    def mim(self) -> MimConfig:
        """Of masked image modelling."""

    @property
    def universal(self) -> UniversalConfig:
        """Of the universal method."""

    @property
    def fedprox(self) -> FedProxConfig:
        """Of FedProx."""


def stage_plan(settings: Settings, done: int) -> TrainPlan:
    """Plain training in the stage after `done` stages; learning rates fall as a cosine."""
    decay = 0.5 * (1 + math.cos(math.pi * done / settings.local.stages))
    rate = settings.local.learning_rate * max(decay, 0.05)
    return replace(site_plan(settings.data, settings.local), learning_rate=rate)


def plan_of(settings: Settings, method: str, done: int = 0) -> TrainPlan:
    """A method's training in the stage after `done` stages, with the budget that all share."""
    plan = stage_plan(settings, done)
    shared: dict[str, Any] = {"privacy": settings.privacy, "stages": settings.local.stages}
    return replace(plan, **shared, **_own(settings, method))


def _own(settings: Settings, method: str) -> dict[str, Any]:
    """What a method asks for besides plain training."""
    u = settings.universal
    if method == "universal":
        anchor = {"anchor": u.anchor, "anchor_weight": u.anchor_weight}
        return {"head_first": u.head_first, **anchor, "guard": u.guard > 0}
    if method == "fedprox":
        return {"anchor": "proximal", "anchor_weight": settings.fedprox.mu}
    if method == "fedbn":
        return {"own_norms": True}
    if method == "fedmim":
        return {"masking": pretrain_plan(settings.mim)}
    return {}


def weighting_of(settings: Settings, method: str) -> Weighting:
    """How a method weighs sites: averaging by size, and `universal` as it is configured."""
    return settings.universal.weighting if method == "universal" else "size"
