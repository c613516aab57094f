"""A stage of a federation in which the server sees the sum of the changes alone.

The server's part, and where the sites are: `Here`, in this process, or behind messages. Keys are
shared before anybody trains, so a site that fails in training has dropped out and its masks are
taken off. In one process the sites' private keys lie there, as everything of a simulation does.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from polyclinic.config import check_secure, secure_threshold
from polyclinic.errors import PolyclinicError, RunError
from polyclinic.federation.aggregation import WEIGHTINGS
from polyclinic.federation.arrival import Parcel, check_origin
from polyclinic.federation.exchange import Door, Federation, Update, site_stage
from polyclinic.federation.knowledge import Schema, schema_of
from polyclinic.federation.ledger import digest, leave
from polyclinic.federation.secure.masking import Masking, mean_of, quantisation, unpack_masked
from polyclinic.federation.secure.member import Member, accept, advertise, reveal, share_keys
from polyclinic.federation.secure.messages import Terms, key_marks, read, roster_keys
from polyclinic.federation.secure.primitives import (
    KEY,
    Bits,
    Words,
    identity_of,
    need,
    system_entropy,
)
from polyclinic.federation.secure.quantise import Quantisation
from polyclinic.federation.secure.server import ask_shares, gather_keys, route_shares, unmask
from polyclinic.federation.stages import Stages
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan

Heard = Iterable[tuple[str, bytes | PolyclinicError]]
Task = tuple[Any, ...]
"""What `site_stage` is given."""


class Rounds(Protocol):
    """The sites in the rounds of one stage: what each says, or why it says nothing."""

    @property
    def terms(self) -> Terms:
        """What everybody knows of the stage."""

    def keys(self) -> Heard:
        """Round 0: fresh keys of every site that is asked."""

    def shares(self, names: Collection[str], roster: bytes) -> Heard:
        """Round 1: sealed shares."""

    def masked(self, delivered: Mapping[str, bytes]) -> Iterable[tuple[str, Any]]:
        """Round 2: (masked change, what stays) of each site that trained."""

    def unmasking(self, names: Collection[str], request: bytes) -> Heard:
        """Round 3: the shares that were asked for."""


@dataclass
class Here:
    """The sites of a simulation. `tasks` has what each is given to train."""

    fed: Federation
    stages: Stages
    tasks: Mapping[str, Task]
    how: Quantisation
    weighting: str
    known: Set[str]  # marks of keys of before
    members: dict[str, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.identities = {name: system_entropy(KEY) for name in self.tasks}
        self.terms = Terms(
            f"{self.fed.method}, seed {self.fed.seed}, stage {self.fed.label(self.stages).stage}",
            secure_threshold(self.fed.config),
            {name: identity_of(key) for name, key in self.identities.items()},
        )

    def keys(self) -> Heard:
        """Round 0."""

        def say(name: str) -> bytes:
            self.members[name], message = advertise(
                self.terms, name, self.identities[name], system_entropy
            )
            return message

        return self._said("keys", self.tasks, say)

    def shares(self, names: Collection[str], roster: bytes) -> Heard:
        """Round 1."""
        return self._said(
            "shares", names, lambda name: share_keys(self.members[name], roster, self.known)
        )

    def masked(self, delivered: Mapping[str, bytes]) -> Iterable[tuple[str, Any]]:
        """Round 2: shares are opened at all sites, and then they train."""
        tasks = []
        for name in self.fed.names:
            if name in delivered:
                try:
                    masks = accept(self.members[name], delivered[name])
                except PolyclinicError as error:
                    yield name, error
                    continue
                *given, door = self.tasks[name]
                masking = Masking(masks, self.how, self.weighting)
                tasks.append((name, (*given, replace(door, masking=masking))))
        yield from self.fed.workers.map(site_stage, tasks)

    def unmasking(self, names: Collection[str], request: bytes) -> Heard:
        """Round 3."""
        return self._said("unmasking", names, lambda name: reveal(self.members[name], request))

    def _said(self, kind: str, names: Iterable[str], say: Callable[[str], bytes]) -> Heard:
        label = replace(self.fed.label(self.stages), kind=kind)
        for name in names:
            try:
                message = leave(say(name), self.fed.ledger(name), label)
            except PolyclinicError as error:
                yield name, error
            else:
                yield name, message


@dataclass
class Traffic:
    """What passes between sites and server in one stage, and how much of it."""

    fed: Federation
    stages: Stages
    up: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)

    def send(self, site: str, message: bytes) -> None:
        """Count what the server sends to a site."""
        self.down[site] += len(message)
        self.messages[site] += 1

    def arrived(self, site: str, message: bytes) -> None:
        """Count what a site sent."""
        self.up[site] += len(message)
        self.messages[site] += 1

    def counted(self, update: Update) -> Update:
        """An update with all that its site sent and received in the stage."""
        return replace(
            update,
            bytes_up=self.up[update.site],
            bytes_down=self.down[update.site],
            messages=self.messages[update.site],
        )

    def hear(self, said: Heard, *, absent: bool = True) -> dict[str, bytes]:
        """What sites say. One that fails is absent from the stage, unless its change is in the sum
        already (`absent` is false)."""
        heard = {}
        for site, message in said:
            if isinstance(message, PolyclinicError):
                if absent:
                    self.fed.miss(self.stages, site, str(message))
                continue
            self.arrived(site, message)
            heard[site] = message
        return heard


def train_sum(
    fed: Federation, stages: Stages, plan: TrainPlan, weighting: str
) -> tuple[State, list[Update]]:
    """Let every site train for a stage: (the weighted mean of the changes, updates without them).

    `weighting` is a key of `WEIGHTINGS`. `RunError` where fewer sites than the threshold are left.
    """
    need()
    check_secure(fed.config, fed.method)
    how = quantisation(weighting, len(fed.names), fed.config.federation.secure_clip)
    traffic = Traffic(fed, stages)
    broadcast = fed.broadcast(stages)
    schema = schema_of(fed.start)
    label = fed.label(stages)
    doors = {
        name: Door(label, broadcast=digest(broadcast), ledger=fed.ledger(name))
        for name in fed.names
    }
    tasks = dict(fed.tasks(stages, plan, schema, doors))
    elsewhere = fed.workers.rounds(tasks, fed.store.folder)
    rounds: Rounds = elsewhere or Here(fed, stages, tasks, how, weighting, stages.seen)
    with _with_reasons(fed):
        roster = _meet(traffic, rounds)
        delivered = _share(traffic, rounds, roster)
        for name, message in delivered.items():
            traffic.send(name, message)
            traffic.send(name, broadcast)
        words, updates = _train(traffic, rounds.masked(delivered), schema, how.bits)
        request = ask_shares(rounds.terms, delivered, words)
        for name in words:
            traffic.send(name, request)
        answers = traffic.hear(rounds.unmasking(words, request), absent=False)
        total, _ = unmask(rounds.terms, roster, request, words, answers)
    weight = sum(WEIGHTINGS[weighting](update.examples) for update in updates)
    return mean_of(total, weight, how, schema.tensors), [traffic.counted(u) for u in updates]


def _meet(traffic: Traffic, rounds: Rounds) -> bytes:
    """Round 0: every site makes keys; the server makes the roster of those that are good."""
    fed, stages = traffic.fed, traffic.stages
    adverts = traffic.hear(rounds.keys())
    roster, refused = gather_keys(rounds.terms, adverts, stages.seen)
    for name, reason in refused.items():
        fed.miss(stages, name, reason)
    for keys in roster_keys(rounds.terms, roster, stages.seen, "the roster").values():
        fed.used |= key_marks(keys)
    return roster


def _share(traffic: Traffic, rounds: Rounds, roster: bytes) -> dict[str, bytes]:
    """Round 1: every site shares its keys; what is to be delivered to each that did."""
    fed, stages = traffic.fed, traffic.stages
    named = read(roster, "roster", "the roster")["adverts"]
    names = [name for name in fed.names if name in named]
    for name in names:
        traffic.send(name, roster)
    shares = traffic.hear(rounds.shares(names, roster))
    delivered, refused = route_shares(rounds.terms, roster, shares)
    for name, reason in refused.items():
        fed.miss(stages, name, reason)
    return delivered


def _train(
    traffic: Traffic, results: Iterable[tuple[str, Any]], schema: Schema, bits: Bits
) -> tuple[dict[str, Words], list[Update]]:
    """Round 2: the masked changes of the sites that trained, and updates without."""
    fed, stages = traffic.fed, traffic.stages
    label = fed.label(stages)
    words: dict[str, Words] = {}
    updates: list[Update] = []
    for name, result in results:
        try:
            if isinstance(result, PolyclinicError):
                raise result
            sent, head = result
            fed.charge(name, head)
            parcel = sent if isinstance(sent, Parcel) else Parcel(name, label, sent)
            check_origin(parcel, name, label, stages.seen | {u.digest for u in updates})
            masked, scalars = unpack_masked(parcel.message, schema, name, bits)
        except PolyclinicError as error:
            fed.miss(stages, name, str(error))
            continue
        fed.tell("train", label.stage, name, scalars["loss"])
        traffic.arrived(name, parcel.message)
        words[name] = masked
        updates.append(Update(name, {}, head, scalars, digest=digest(parcel.message)))
    return words, updates


@contextmanager
def _with_reasons(fed: Federation) -> Iterator[None]:
    """Say who was absent, and why, where too few were left."""
    try:
        yield
    except RunError as error:
        reasons = fed.reasons()
        raise RunError(f"{error} ({reasons})" if reasons else str(error)) from None
