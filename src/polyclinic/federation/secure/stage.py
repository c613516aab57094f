"""A stage of a federation in which the server sees the sum of the changes alone.

All four rounds in one process, in the order in which they would take place between machines: keys
are shared before anybody trains, so a site that fails in training has dropped out and its masks are
taken off. The sites' private keys lie in this process, as everything of a simulation does.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from polyclinic.config import check_secure, secure_threshold
from polyclinic.errors import PolyclinicError, RunError
from polyclinic.federation.aggregation import WEIGHTINGS
from polyclinic.federation.arrival import Parcel, check_origin
from polyclinic.federation.exchange import Door, Federation, Update, site_stage
from polyclinic.federation.knowledge import Schema, schema_of
from polyclinic.federation.ledger import digest, leave
from polyclinic.federation.secure.masking import Masking, mean_of, quantisation, unpack_masked
from polyclinic.federation.secure.member import Masks, Member, accept, advertise, reveal, share_keys
from polyclinic.federation.secure.messages import Terms, key_marks, roster_keys
from polyclinic.federation.secure.primitives import (
    KEY,
    Bits,
    Words,
    identity_of,
    need,
    system_entropy,
)
from polyclinic.federation.secure.server import ask_shares, gather_keys, route_shares, unmask
from polyclinic.federation.stages import Stages
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan


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

    def hear(
        self, kind: str, sites: Iterable[str], say: Callable[[str], bytes], *, absent: bool = True
    ) -> dict[str, bytes]:
        """What each site says, past its ledger. One that fails is absent from the stage, unless its
        change is in the sum already (`absent` is false)."""
        heard = {}
        label = replace(self.fed.label(self.stages), kind=kind)
        for site in sites:
            try:
                message = leave(say(site), self.fed.ledger(site), label)
            except PolyclinicError as error:
                if absent:
                    self.fed.miss(self.stages, site, str(error))
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
    identities = {name: system_entropy(KEY) for name in fed.names}
    terms = Terms(
        f"{fed.method}, seed {fed.seed}, stage {fed.label(stages).stage}",
        secure_threshold(fed.config),
        {name: identity_of(key) for name, key in identities.items()},
    )
    traffic = Traffic(fed, stages)
    broadcast = fed.broadcast(stages)
    schema = schema_of(fed.start)
    with _with_reasons(fed):
        members, roster = _meet(traffic, terms, identities)
        delivered = _share(traffic, terms, members, roster)
        doors: dict[str, Door] = {}
        for name, masks in _accept(traffic, members, delivered).items():
            traffic.send(name, broadcast)
            masking = Masking(masks, how, weighting)
            doors[name] = Door(
                fed.label(stages),
                broadcast=digest(broadcast),
                ledger=fed.ledger(name),
                masking=masking,
            )
        words, updates = _train(traffic, fed.tasks(stages, plan, schema, doors), schema, how.bits)
        request = ask_shares(terms, delivered, words)
        for name in words:
            traffic.send(name, request)
        answers = traffic.hear(
            "unmasking", words, lambda name: reveal(members[name], request), absent=False
        )
        total, _ = unmask(terms, roster, request, words, answers)
    weight = sum(WEIGHTINGS[weighting](update.examples) for update in updates)
    return mean_of(total, weight, how, schema.tensors), [traffic.counted(u) for u in updates]


def _meet(
    traffic: Traffic, terms: Terms, identities: dict[str, bytes]
) -> tuple[dict[str, Member], bytes]:
    """Round 0: every site makes keys; the server makes the roster of those that are good."""
    fed, stages = traffic.fed, traffic.stages
    members: dict[str, Member] = {}

    def say(name: str) -> bytes:
        members[name], message = advertise(terms, name, identities[name], system_entropy)
        return message

    adverts = traffic.hear("keys", fed.names, say)
    roster, refused = gather_keys(terms, adverts, stages.seen)
    for name, reason in refused.items():
        fed.miss(stages, name, reason)
    for keys in roster_keys(terms, roster, stages.seen, "the roster").values():
        fed.used |= key_marks(keys)
    return {name: members[name] for name in adverts if name not in refused}, roster


def _share(
    traffic: Traffic, terms: Terms, members: dict[str, Member], roster: bytes
) -> dict[str, bytes]:
    """Round 1: every site shares its keys; what is to be delivered to each that did."""
    fed, stages = traffic.fed, traffic.stages
    for name in members:
        traffic.send(name, roster)
    shares = traffic.hear(
        "shares", members, lambda name: share_keys(members[name], roster, stages.seen)
    )
    delivered, refused = route_shares(terms, roster, shares)
    for name, reason in refused.items():
        fed.miss(stages, name, reason)
    return delivered


def _accept(
    traffic: Traffic, members: dict[str, Member], delivered: dict[str, bytes]
) -> dict[str, Masks]:
    """Round 2, first half: the masks of each site whose shares open."""
    masks = {}
    for name in traffic.fed.names:
        if name in delivered:
            traffic.send(name, delivered[name])
            try:
                masks[name] = accept(members[name], delivered[name])
            except PolyclinicError as error:
                traffic.fed.miss(traffic.stages, name, str(error))
    return masks


def _train(
    traffic: Traffic, tasks: list[tuple[str, tuple[Any, ...]]], schema: Schema, bits: Bits
) -> tuple[dict[str, Words], list[Update]]:
    """Round 2, second half: the masked changes of the sites that trained, and updates without."""
    fed, stages = traffic.fed, traffic.stages
    label = fed.label(stages)
    words: dict[str, Words] = {}
    updates: list[Update] = []
    for name, result in fed.workers.map(site_stage, tasks):
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
