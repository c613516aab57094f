"""A federation in one process: who trains, what travels, what is kept, for one method and seed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.errors import AbsentError, KnowledgeError, PolyclinicError, RunError
from polyclinic.federation.aggregation import add
from polyclinic.federation.arrival import Parcel, admit, agree, length, too_long
from polyclinic.federation.distillation import DistilPlan, distil
from polyclinic.federation.guard import guarded, in_order
from polyclinic.federation.knowledge import Knowledge, Schema, encode, pack, schema_of
from polyclinic.federation.ledger import Label, Ledger, digest, leave
from polyclinic.federation.plans import stage_plan
from polyclinic.federation.pooled import train_pooled
from polyclinic.federation.privacy.account import account_part
from polyclinic.federation.secure.masking import Masking, pack_masked
from polyclinic.federation.site import Trained, train_stage
from polyclinic.federation.stages import Record, Stages, StageStore
from polyclinic.federation.wire import PLAIN, Writing, compensated, writing_of
from polyclinic.federation.workers import SiteWork
from polyclinic.models.state import State, under
from polyclinic.models.training import TrainPlan
from polyclinic.seeding import derive


@dataclass(frozen=True)
class Update:
    """What the federation holds of one site after a stage."""

    site: str
    change: State  # of the encoder
    head: State  # and what else stays at the site; never read by the server's side
    scalars: Mapping[str, float]
    bytes_up: int = 0
    bytes_down: int = 0
    digest: str = ""  # of its message
    messages: int = 2  # in both directions together

    @property
    def examples(self) -> float:
        """Number of training images that the site declared."""
        return self.scalars["examples"]


Tell = Callable[[str, int, str, float | None], None]
"""(phase, stage, site, loss): called as work is finished; `refused` after a site's `train`."""

RESIDUAL = "residual."
"""Before the names of what rounding left of a site's last change; it stays there with its head."""


@dataclass(frozen=True)
class Door:
    """How a site's message leaves, and what it must have received."""

    label: Label
    how: Writing = PLAIN
    broadcast: str = ""  # digest of the encoder that all sites were sent
    ledger: Ledger | None = None
    masking: Masking | None = None  # with secure aggregation
    training: Callable[..., Trained] | None = None  # in place of `train_stage`, which it calls


@dataclass
class Federation:
    """The parts that methods are made of. `start` is the encoder that everybody begins with."""

    method: str
    seed: int
    start: State
    corpus: NDArray[np.uint8]
    config: Config
    workers: SiteWork
    store: StageStore
    tell: Tell
    ledgers: Path | None = None  # folder of the sites' ledgers; None keeps none
    used: set[str] = field(default_factory=set)  # what may not come again, besides messages
    _charged: dict[str, State] = field(default_factory=dict)
    _absent: list[dict[str, str]] = field(default_factory=list)
    _began: float = 0.0
    _broadcast: str = ""

    @property
    def names(self) -> Sequence[str]:
        """The sites, in the configuration's order."""
        return self.workers.names

    def everywhere(self, encoder: State) -> dict[str, State]:
        """The same encoder for every site."""
        return dict.fromkeys(self.names, encoder)

    def begin(self, encoders: dict[str, State]) -> Stages:
        """The method's last finished stage, or its beginning with `encoders`."""
        self._began = time.perf_counter()
        total = self.config.local.stages
        return self.store.latest(total) or Stages(0, total, encoders)

    def plan(self, stages: Stages, **changes: Any) -> TrainPlan:
        """Plain training in the coming stage; learning rates fall with the stages."""
        return replace(stage_plan(self.config, stages.done), **changes)

    def train(self, stages: Stages, plan: TrainPlan, *, exchange: bool = True) -> list[Update]:
        """Let every site train for a stage; updates in the order of the sites.

        A site that fails, or whose message is refused, is absent from the stage and named in its
        record. `RunError` if none is left, `KnowledgeError` if sites are sent different encoders.
        """
        schema = schema_of(self.start, gains=plan.guard) if exchange else None
        broadcast = self.broadcast(stages) if exchange else b""
        label = self.label(stages)
        how = writing_of(self.config.federation)
        doors = {name: Door(label, how, self._broadcast, self.ledger(name)) for name in self.names}
        updates: list[Update] = []
        for name, result in self.workers.map(site_stage, self.tasks(stages, plan, schema, doors)):
            update = self._update(stages, doors[name], schema, name, result, updates)
            if update is not None:
                updates.append(replace(update, bytes_down=len(broadcast)))
        if exchange:
            updates = self._in_proportion(stages, updates)
        return self._some(stages, updates)

    def train_in_turn(
        self, stages: Stages, plan: TrainPlan, gains: Mapping[str, float] | None = None
    ) -> tuple[list[Update], list[State]]:
        """Let one site after the other train for a stage, each what the one before has left.

        Updates, and the encoder after each, in the order of the visits, which is drawn anew for
        every stage; sites that lose, by their `gains`, come last. Absent sites as in `train`; who
        was not there is visited again while there are fewer than a quorum. The length of a change
        is held against those before it in the stage.
        """
        schema, label = schema_of(self.start, gains=plan.guard), self.label(stages)
        encoder = stages.encoders[""]
        how = writing_of(self.config.federation)
        self._broadcast = digest(encode(encoder))
        order = np.random.default_rng(derive(self.seed, self.method, "order", stages.done))
        updates: list[Update] = []
        visited: list[State] = []
        waiting = in_order(order.permutation(self.names).tolist(), gains or {})
        away: dict[str, str] = {}
        while waiting:
            away = {}
            for name in waiting:
                content = encode(encoder)
                door = Door(label, how, digest(content), self.ledger(name))
                here = replace(stages, encoders={"": encoder})
                ((_, given),) = self.tasks(here, plan, schema, {name: door})
                result = self.workers.visit(site_stage, name, given)
                if isinstance(result, AbsentError):
                    away[name] = str(result)
                    continue
                update = self._update(stages, door, schema, name, result, updates)
                if update is None:
                    continue
                known = [*updates, replace(update, bytes_down=len(content))]
                if len(kept := self._in_proportion(stages, known, only=name)) > len(updates):
                    encoder, updates = add(encoder, update.change), kept
                    visited.append(encoder)
            waiting = list(away) if len(updates) < self.workers.quorum else []
        for name, reason in away.items():
            self.miss(stages, name, reason)
        return self._some(stages, updates), visited

    def _update(
        self,
        stages: Stages,
        door: Door,
        schema: Schema | None,
        name: str,
        result: Any,
        before: Sequence[Update],
    ) -> Update | None:
        """A site's result as an update; None, and noted, where it is absent or refused."""
        try:
            if isinstance(result, PolyclinicError):
                raise result
            sent, head = result
            self.charge(name, head)
            if schema is None:
                update = Update(name, sent.tensors, head, sent.scalars)
            else:
                # whoever carries messages and knows their senders hands over the bytes alone
                parcel = sent if isinstance(sent, Parcel) else Parcel(name, door.label, sent)
                seen = stages.seen | {u.digest for u in before}
                knowledge = admit(parcel, name, door.label, schema, seen, door.how)
                update = Update(
                    name,
                    knowledge.tensors,
                    head,
                    knowledge.scalars,
                    bytes_up=len(parcel.message),
                    digest=digest(parcel.message),
                )
        except PolyclinicError as error:
            self.miss(stages, name, str(error))
            return None
        self.tell("train", stages.done + 1, name, update.scalars["loss"])
        return update

    def _some(self, stages: Stages, updates: list[Update]) -> list[Update]:
        """`updates`; `RunError` if there is none, or fewer than a quorum."""
        about = f"{self.method}: stage {stages.done + 1}"
        if not updates:
            raise RunError(f"{about}: every site failed ({self.reasons()})")
        if len(updates) < self.workers.quorum:
            raise RunError(
                f"{about}: {len(updates)} of {len(self.names)} sites took part, and the quorum is "
                f"{self.workers.quorum}: {self.reasons()}; nothing of this stage is kept: start "
                "the server again when they can take part"
            )
        return updates

    def label(self, stages: Stages) -> Label:
        """What the sites' updates of the coming stage are about."""
        return Label(self.method, self.seed, stages.done + 1)

    def broadcast(self, stages: Stages) -> bytes:
        """The encoder that sites are about to receive; empty where each has its own.

        `KnowledgeError` where they would not all receive the same.
        """
        shared = stages.encoders.get("")
        content = encode(shared) if shared is not None else b""
        self._broadcast = self._agreed(stages, content) if content else ""
        return content

    def tasks(
        self,
        stages: Stages,
        plan: TrainPlan,
        schema: Schema | None,
        doors: Mapping[str, Door],
    ) -> list[tuple[str, tuple[Any, ...]]]:
        """What `site_stage` is given for each site that has a door."""
        shared = stages.encoders.get("")
        return [
            (
                name,
                (
                    self.config.preset,
                    stages.encoders.get(name, shared),
                    stages.heads.get(name),
                    plan,
                    schema,
                    (self.seed, self.method, stages.done, name),
                    door,
                ),
            )
            for name, door in doors.items()
        ]

    def ledger(self, site: str) -> Ledger | None:
        """The ledger of a site, if ledgers are kept."""
        return Ledger(self.ledgers / f"{site}.jsonl", site) if self.ledgers else None

    def charge(self, site: str, kept: State) -> None:
        """Note the privacy account of a site that has sent something, also if that is refused."""
        self._charged[site] = account_part(kept)

    def miss(self, stages: Stages, site: str, reason: str, phase: str = "absent") -> None:
        """Note that a site takes no part in the stage, and why."""
        self._absent.append({"site": site, "reason": reason})
        self.tell(phase, stages.done + 1, site, None)

    def reasons(self) -> str:
        """Who takes no part in the stage, and why, in one line."""
        return "; ".join(f"{a['site']}: {a['reason']}" for a in self._absent)

    def _agreed(self, stages: Stages, broadcast: bytes) -> str:
        """The digest of the one encoder that every site is about to receive."""
        own = {name: stages.encoders[name] for name in self.names if name in stages.encoders}
        digests = dict.fromkeys(self.names, digest(broadcast))
        return agree(digests | {name: digest(encode(state)) for name, state in own.items()})

    def _in_proportion(
        self, stages: Stages, updates: Sequence[Update], only: str = ""
    ) -> list[Update]:
        """The updates without those (or that of `only`) whose change is far longer than others."""
        lengths = {update.site: length(update.change) for update in updates}
        refused = too_long(lengths, self.config.federation.norm_factor)
        if only:
            refused = {site: reason for site, reason in refused.items() if site == only}
        for site, reason in refused.items():
            self.miss(stages, site, reason, "refused")
        return [update for update in updates if update.site not in refused]

    def train_pooled(self, stages: Stages, plan: TrainPlan) -> tuple[State, list[Update]]:
        """Train on the union of all sites' data for a stage: (encoder, one update a site)."""
        seed = (self.seed, self.method, stages.done)
        encoder, heads, scalars = train_pooled(
            self.workers.sites, self.config.preset, stages.encoders[""], stages.heads, plan, *seed
        )
        updates = []
        for name in self.names:
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
        accounts = {k: {**stages.heads.get(k, {}), **v} for k, v in self._charged.items() if v}
        heads = {**stages.heads, **accounts, **{u.site: u.head for u in updates}}
        seen = stages.seen | {u.digest for u in updates if u.digest} | self.used
        after = Stages(stages.done + 1, stages.total, encoders, heads, memory or {}, seen)
        now = time.perf_counter()
        record: Record = {
            "unit": f"seed-{self.seed}/{self.method}/stage-{after.done:03d}",
            "kind": "stage",
            "method": self.method,
            "seed": self.seed,
            "stage": after.done,
            "sites": {
                u.site: {
                    **u.scalars,
                    "bytes_up": u.bytes_up,
                    "bytes_down": u.bytes_down,
                    "digest": u.digest,
                    "messages": u.messages,
                }
                for u in updates
            },
            "absent": self._absent,
            "broadcast": self._broadcast,
            "seconds": now - self._began,
        }
        self.store.save(after, record)
        self._began, self._absent, self.used = now, [], set()
        self._charged = {}
        return after


def site_stage(
    site: SiteData,
    preset: Any,
    received: State,
    head: State | None,
    plan: TrainPlan,
    schema: Schema | None,
    seed: tuple[int | str, ...],
    door: Door | None = None,
) -> tuple[Any, State]:
    """What a site does in a stage: (what leaves it, what stays for its next stage).

    Without a schema the site works alone, and its knowledge goes nowhere. What leaves is a
    `Parcel`, noted in the ledger of `door`; without a door, the bytes for the caller to send.
    """
    if door is not None and door.broadcast and digest(encode(received)) != door.broadcast:
        raise KnowledgeError(
            f"site '{site.name}' received another encoder than the other sites; it has not trained"
        )
    kept = head or {}
    own = {k: v for k, v in kept.items() if not k.startswith(RESIDUAL)}
    training = door.training if door is not None and door.training is not None else train_stage
    training = guarded(training) if plan.guard and schema is not None else training
    trained = training(site, preset, received, own or None, plan, *seed)
    if schema is None:
        return trained.knowledge, trained.head
    residual = under(kept, RESIDUAL)
    how = door.how if door else PLAIN
    change, residual = compensated(trained.knowledge.tensors, residual, how)
    knowledge = Knowledge(change, trained.knowledge.scalars)
    if door is not None and door.masking is not None:
        message = pack_masked(knowledge, schema, site.name, door.masking)
    else:
        message = pack(knowledge, schema, site.name, how)
    stays = {**trained.head, **{RESIDUAL + k: v for k, v in residual.items()}}
    if door is None:
        return message, stays
    return Parcel(site.name, door.label, leave(message, door.ledger, door.label)), stays
