"""What a site agrees to when it joins, and holds the server to from then on.

It is in the invitation, so a person at the site can read it first (`polyclinic site check`), and
is kept at the site. A server that later asks for another budget, other seeds, other images, another
training or another way of sending is refused, whatever its reasons. And it gets one answer: a site
trains a stage for one encoder and judges one, however often it is asked (`asked`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from polyclinic.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    FedProxConfig,
    LocalConfig,
    MimConfig,
    PrivacyConfig,
    UniversalConfig,
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
    preset: Literal["small", "base"] = "small"
    data: DataConfig = field(default_factory=DataConfig)
    mim: MimConfig = field(default_factory=MimConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    universal: UniversalConfig = field(default_factory=UniversalConfig)
    fedprox: FedProxConfig = field(default_factory=FedProxConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    threshold: int = 0  # sites that unmask a sum, under secure aggregation

    @property
    def stages(self) -> int:
        """Exchanges with the server, in each training."""
        return self.local.stages

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
        preset=config.preset,
        data=config.data,
        mim=config.mim,
        local=config.local,
        federation=config.federation,
        privacy=config.privacy,
        universal=config.universal,
        fedprox=config.fedprox,
        evaluation=config.evaluation,
        threshold=secure_threshold(config) if config.federation.secure else 0,
    )


def hold_to(agreement: Agreement, task: "Task") -> None:
    """`PrivacyError` where a task is not one that the site agreed to."""
    for name, got, expected in _compared(agreement, task):
        if got != expected:
            raise PrivacyError(
                f"{task.about}: the server asks for another `{name}` than this site agreed to when "
                f"it joined: expected {expected}, got {got}; nothing is done, ask the coordinator"
            )


def _compared(agreement: Agreement, task: "Task") -> Iterator[tuple[str, object, object]]:
    """(name, what is asked for, what was agreed), the first difference first."""
    from polyclinic.evaluate.protocols import protocol_plan
    from polyclinic.federation.ledger import digest
    from polyclinic.federation.plans import plan_of
    from polyclinic.federation.wire import writing_of

    yield "data", task.data, agreement.data
    yield "preset", task.preset, agreement.preset
    yield "methods", _one_of(task.method, agreement.methods), agreement.methods
    yield "seeds", _one_of(task.seed, agreement.seeds), agreement.seeds
    if task.kind == "nudge":
        return
    most = agreement.stages
    if task.kind == "evaluate":
        yield "stages", task.stage, most
        yield "encoder", digest(task.encoder), task.broadcast
        yield "bootstrap", task.bootstrap, agreement.evaluation.bootstrap
        plan = protocol_plan(agreement)
    else:
        yield "stages", max(task.stage + 1, most), most
        yield "wire", task.how, writing_of(agreement.federation)
        yield "secure", bool(task.exchange), agreement.federation.secure
        plan = plan_of(agreement, task.method, task.stage)
    for asked in task.plans.values():
        for part in fields(plan):
            yield part.name, *_near(getattr(asked, part.name), getattr(plan, part.name))


def _one_of(value: object, known: tuple[Any, ...]) -> object:
    return known if value in known else value


def _near(got: object, expected: object) -> tuple[object, object]:
    """Both; the same twice where two machines may round a learning rate differently."""
    if isinstance(got, float) and isinstance(expected, float):
        return (expected if math.isclose(got, expected, rel_tol=1e-9) else got), expected
    return got, expected


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
