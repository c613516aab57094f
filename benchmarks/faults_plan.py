"""Which faults befall a federation, and when: drawn from a seed."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from faults_federation import SERVER, SITES
from faults_proxy import DIRECTIONS

KILL_SERVER, KILL_SITE, STOP_SITE = "kill the server", "kill a site", "stop a site"
CUT, GARBLE = "cut the link", "garble the link"
FULL, CLOCK = "full disk", "clock jumps"
KINDS = (KILL_SERVER, KILL_SITE, STOP_SITE, CUT, GARBLE, FULL, CLOCK)
CHEAPEST = (CUT, GARBLE)
PLACES = {
    KILL_SERVER: ("supervisor", "superlink", "serverapp", "all at once"),
    KILL_SITE: ("supervisor", "supernode", "clientapp", "all at once"),
    GARBLE: DIRECTIONS,
}
"""What of the victim is hit; "all at once" is what a power cut does to a machine."""
LASTING = {STOP_SITE: (5.0, 60.0), CUT: (5.0, 60.0), FULL: (5.0, 30.0), CLOCK: (10.0, 60.0)}
"""s from the least to the most that a fault of the kind lasts."""
JUMP = (30.0, 7200.0)  # s from the least to the most that a clock is wrong, in both directions


@dataclass(frozen=True)
class Fault:
    """A fault: `at` is its moment, as a share of an undisturbed run; `seconds` how long it lasts.

    `shift` is by how many seconds a clock is wrong.
    """

    round: int
    kind: str
    victim: str
    at: float
    place: str = ""
    seconds: float = 0.0
    shift: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The fields that say something."""
        unsaid = {"place": "", "seconds": 0.0, "shift": 0.0}
        return {k: v for k, v in asdict(self).items() if k not in unsaid or v != unsaid[k]}


def faults_of(seed: int, index: int, number: int, kinds: Sequence[str] = KINDS) -> list[Fault]:
    """The `number` faults of the round with this `index`, by their moments.

    Kinds are dealt like cards from a shuffled deck, so that after many rounds all are equally
    frequent. Rounds are drawn independently: one can be repeated alone.
    """
    found = []
    for n in range(index * number, (index + 1) * number):
        deck = random.Random(f"{seed}/deck {n // len(kinds)}").sample(kinds, len(kinds))
        rng = random.Random(f"{seed}/fault {n}")
        found.append(_drawn(rng, index, deck[n % len(kinds)]))
    return sorted(found, key=lambda fault: fault.at)


def _drawn(rng: random.Random, index: int, kind: str) -> Fault:
    if kind == KILL_SERVER:
        victim = SERVER
    elif kind in (FULL, CLOCK):
        victim = rng.choice((SERVER, *SITES))
    else:
        victim = rng.choice(SITES)
    low, high = LASTING.get(kind, (0.0, 0.0))
    return Fault(
        round=index,
        kind=kind,
        victim=victim,
        at=round(rng.random(), 3),
        place=rng.choice(PLACES[kind]) if kind in PLACES else "",
        seconds=round(rng.uniform(low, high), 1),
        shift=round(rng.choice((-1, 1)) * rng.uniform(*JUMP), 1) if kind == CLOCK else 0.0,
    )
