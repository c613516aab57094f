"""A federation in one process: who trains, what travels, what is kept, for one method and seed."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.errors import PolyclinicError, RunError
from polyclinic.federation.distillation import DistilPlan, distil
from polyclinic.federation.knowledge import Schema, encode, pack, schema_of, unpack
from polyclinic.federation.pooled import train_pooled
from polyclinic.federation.site import train_stage
from polyclinic.federation.stages import Record, Stages, StageStore
from polyclinic.federation.workers import Workers
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan


@dataclass(frozen=True)
class Update:
    """What the federation holds of one site after a stage."""

    site: str
    change: State  # of the encoder
    head: State  # never read by the server's side; kept for the site's next stage
    scalars: Mapping[str, float]
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def examples(self) -> float:
        """Number of training images that the site declared."""
        return self.scalars["examples"]


Tell = Callable[[str, int, str, float | None], None]
"""(phase, stage, site, loss): called as work is finished."""


@dataclass
class Federation:
    """The parts that methods are made of. `start` is the encoder that everybody begins with."""

    method: str
    seed: int
    start: State
    corpus: NDArray[np.uint8]
    config: Config
    workers: Workers
    store: StageStore
    tell: Tell
    _absent: list[dict[str, str]] = field(default_factory=list)
    _began: float = 0.0

    @property
    def sites(self) -> Mapping[str, SiteData]:
        """The sites by name, in the configuration's order."""
        return self.workers.sites

    def everywhere(self, encoder: State) -> dict[str, State]:
        """The same encoder for every site."""
        return dict.fromkeys(self.sites, encoder)

    def begin(self, encoders: dict[str, State]) -> Stages:
        """The method's last finished stage, or its beginning with `encoders`."""
        self._began = time.perf_counter()
        total = self.config.local.stages
        return self.store.latest(total) or Stages(0, total, encoders)

    def plan(self, stages: Stages, **changes: Any) -> TrainPlan:
        """The local training of the coming stage; learning rates fall with the stages."""
        c = self.config.local
        decay = 0.5 * (1 + math.cos(math.pi * stages.done / stages.total))
        plan = TrainPlan(
            size=self.config.data.image_size,
            epochs=c.epochs,
            min_steps=c.min_steps,
            max_steps=c.max_steps,
            batch_size=c.batch_size,
            learning_rate=c.learning_rate * max(decay, 0.05),
            weight_decay=c.weight_decay,
            dense_head_epochs=c.dense_head_epochs,
        )
        return replace(plan, **changes)

    def train(self, stages: Stages, plan: TrainPlan, *, exchange: bool = True) -> list[Update]:
        """Let every site train for a stage; updates in the order of the sites.

        A site that fails, or whose message is refused, is absent from the stage and named in its
        record. `RunError` if none is left.
        """
        shared = stages.encoders.get("")
        schema = schema_of(self.start) if exchange else None
        bytes_down = len(encode(shared)) if exchange and shared is not None else 0
        tasks = [
            (
                name,
                (
                    self.config.preset,
                    stages.encoders.get(name, shared),
                    stages.heads.get(name),
                    plan,
                    schema,
                    (self.seed, self.method, stages.done, name),
                ),
            )
            for name in self.sites
        ]
        updates = []
        for name, result in self.workers.map(_site_stage, tasks):
            try:
                if isinstance(result, PolyclinicError):
                    raise result
                update = _arrived(name, *result, schema=schema, bytes_down=bytes_down)
            except PolyclinicError as error:
                self._absent.append({"site": name, "reason": str(error)})
                self.tell("absent", stages.done + 1, name, None)
                continue
            self.tell("train", stages.done + 1, name, update.scalars["loss"])
            updates.append(update)
        if not updates:
            reasons = "; ".join(f"{a['site']}: {a['reason']}" for a in self._absent)
            raise RunError(f"{self.method}: stage {stages.done + 1}: every site failed ({reasons})")
        return updates

    def train_pooled(self, stages: Stages, plan: TrainPlan) -> tuple[State, list[Update]]:
        """Train on the union of all sites' data for a stage: (encoder, one update a site)."""
        seed = (self.seed, self.method, stages.done)
        encoder, heads, scalars = train_pooled(
            self.sites, self.config.preset, stages.encoders[""], stages.heads, plan, *seed
        )
        updates = []
        for name in self.sites:
            self.tell("train", stages.done + 1, name, scalars[name]["loss"])
            updates.append(Update(name, {}, heads[name], scalars[name]))
        return encoder, updates

    def distil(self, stages: Stages, encoder: State, teachers: Sequence[State]) -> State:
        """Distil the sites' encoders into the global one on the public corpus."""
        c = self.config.universal
        plan = DistilPlan(
            epochs=c.distil_epochs,
            batch_size=self.config.mim.batch_size,
            learning_rate=c.distil_learning_rate,
            teacher_drop=c.teacher_drop,
        )
        seed = (self.seed, self.method, stages.done)
        encoder, loss = distil(self.config.preset, encoder, teachers, self.corpus, plan, *seed)
        self.tell("distil", stages.done + 1, "", loss)
        return encoder

    def finish(
        self,
        stages: Stages,
        encoders: dict[str, State],
        updates: Sequence[Update],
        memory: State | None = None,
    ) -> Stages:
        """Store the stage; returns where the method stands now."""
        heads = {**stages.heads, **{u.site: u.head for u in updates}}
        after = Stages(stages.done + 1, stages.total, encoders, heads, memory or {})
        now = time.perf_counter()
        record: Record = {
            "unit": f"seed-{self.seed}/{self.method}/stage-{after.done:03d}",
            "kind": "stage",
            "method": self.method,
            "seed": self.seed,
            "stage": after.done,
            "sites": {
                u.site: {**u.scalars, "bytes_up": u.bytes_up, "bytes_down": u.bytes_down}
                for u in updates
            },
            "absent": self._absent,
            "seconds": now - self._began,
        }
        self.store.save(after, record)
        self._began, self._absent = now, []
        return after


def _site_stage(
    site: SiteData,
    preset: Any,
    received: State,
    head: State | None,
    plan: TrainPlan,
    schema: Schema | None,
    seed: tuple[int | str, ...],
) -> tuple[Any, State]:
    trained = train_stage(site, preset, received, head, plan, *seed)
    if schema is None:  # the site works alone: nothing leaves
        return trained.knowledge, trained.head
    return pack(trained.knowledge, schema, site.name), trained.head


def _arrived(
    name: str, message: Any, head: State, *, schema: Schema | None, bytes_down: int
) -> Update:
    if schema is None:
        return Update(name, message.tensors, head, message.scalars)
    knowledge = unpack(message, schema, name)
    return Update(name, knowledge.tensors, head, knowledge.scalars, len(message), bytes_down)
