"""What a site agrees to when it joins, and holds the server to from then on.

It is in the invitation, so a person at the site can read it first (`polyclinic site check`), and
is kept at the site. A server that later asks for another budget, other seeds, other images or
another way of sending is refused, whatever its reasons.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polyclinic.config import (
    Config,
    DataConfig,
    Exchange,
    FederationConfig,
    PrivacyConfig,
    Weighting,
    secure_threshold,
)
from polyclinic.errors import PrivacyError

if TYPE_CHECKING:  # it brings PyTorch along, and whoever reads an invitation needs none
    from polyclinic.deploy.tasks import Task


@dataclass(frozen=True)
class Agreement:
    """The part of a federation's file that is a site's business."""

    sites: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: int
    data: DataConfig = field(default_factory=DataConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    weighting: Weighting = "equal"  # of the universal method; the others weigh by size
    exchange: Exchange = "parallel"  # of the universal method; `cyclic`: other sites go on from it
    threshold: int = 0  # sites that unmask a sum, under secure aggregation

    @property
    def trainings(self) -> int:
        """Methods times seeds: each has a privacy account of its own."""
        return len(self.methods) * len(self.seeds)


def agreement_of(config: Config) -> Agreement:
    """What the sites of `config` agree to."""
    return Agreement(
        sites=tuple(site.name for site in config.sites),
        methods=config.methods,
        seeds=config.seeds,
        stages=config.local.stages,
        data=config.data,
        federation=config.federation,
        privacy=config.privacy,
        weighting=config.universal.weighting,
        exchange=config.universal.exchange,
        threshold=secure_threshold(config) if config.federation.secure else 0,
    )


def hold_to(agreement: Agreement, task: "Task") -> None:
    """`PrivacyError` where a task is not one that the site agreed to."""
    from polyclinic.federation.wire import writing_of

    asked: list[tuple[str, object, object]] = [("data", task.data, agreement.data)]
    for name, value, known in (
        ("methods", task.method, agreement.methods),
        ("seeds", task.seed, agreement.seeds),
    ):
        if value not in known:
            asked.append((name, value, known))
    if task.kind not in ("evaluate", "nudge"):
        plan, most = task.plans["train"], agreement.stages
        asked += [
            ("privacy", plan.privacy, agreement.privacy),
            ("wire", task.how, writing_of(agreement.federation)),
            ("stages", (plan.stages, task.stage < most), (most, True)),
            ("secure", bool(task.exchange), agreement.federation.secure),
        ]
    for name, got, expected in asked:
        if got != expected:
            raise PrivacyError(
                f"{task.about}: the server asks for another `{name}` than this site agreed to when "
                f"it joined: expected {expected}, got {got}; nothing is done, ask the coordinator"
            )


def promise(privacy: PrivacyConfig, trainings: int) -> str:
    """What at most will be spent at a site, in words.

    >>> promise(PrivacyConfig(epsilon=8.0), 1)
    'epsilon at most 8 at delta 1e-05 for each record'
    """
    if not privacy.epsilon:
        return "none of images or patients: changes leave without noise"
    text = f"epsilon at most {privacy.epsilon:g} at delta {privacy.delta:g} for each {privacy.unit}"
    if trainings == 1:
        return text
    total = f"{trainings * privacy.epsilon:g} at delta {trainings * privacy.delta:g}"
    return f"{text}, in each of {trainings} trainings; together at most {total}"
