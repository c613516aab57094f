"""What the server looks at before it lets a message in, and what sites look at before they train.

The schema says what a message may hold; here it is asked whose it is, of which stage, whether it
came before, and how long its change is. A refused message costs its site the stage, by name.
"""

import math
import statistics
from collections.abc import Mapping, Set
from dataclasses import dataclass

from polyclinic.errors import KnowledgeError
from polyclinic.federation.knowledge import Knowledge, Schema, unpack
from polyclinic.federation.ledger import Label, digest
from polyclinic.federation.wire import PLAIN, Writing
from polyclinic.models.state import State

FEWEST = 4
"""Sites that a stage needs before one of them can be told from the rest by its length."""


@dataclass(frozen=True)
class Parcel:
    """What comes from a site: who says to send it, on what, and the message."""

    sender: str
    label: Label
    message: bytes


def admit(
    parcel: Parcel,
    site: str,
    label: Label,
    schema: Schema,
    seen: Set[str],
    how: Writing = PLAIN,
) -> Knowledge:
    """What came from `site`, as it was asked for by `label`; `KnowledgeError` says why not.

    `seen` holds the digests of the messages that were let in before, for this method and seed.
    """
    check_origin(parcel, site, label, seen)
    return unpack(parcel.message, schema, site, how)


def check_origin(parcel: Parcel, site: str, label: Label, seen: Set[str]) -> None:
    """Whether a parcel comes from `site`, is about `label`, and is new; `KnowledgeError` if not."""
    refused = f"refused from site '{site}'"
    if parcel.sender != site:
        raise KnowledgeError(f"{refused}: it says to come from '{parcel.sender}'")
    if parcel.label != label:
        raise KnowledgeError(f"{refused}: it is of {_said(parcel.label)}, expected {_said(label)}")
    if digest(parcel.message) in seen:
        raise KnowledgeError(f"{refused}: the same message was let in before (a replay)")


def length(change: State) -> float:
    """The Euclidean norm of a change of the encoder."""
    return math.sqrt(sum(float(value.double().square().sum()) for value in change.values()))


def too_long(lengths: Mapping[str, float], factor: float) -> dict[str, str]:
    """The sites whose change is longer than `factor` medians of the stage, with the reason.

    The median of all holds as long as fewer than half of them lie. With fewer than `FEWEST`
    sites, or with a factor of 0, nobody is refused.
    """
    middle = statistics.median(lengths.values()) if lengths else 0.0
    if len(lengths) < FEWEST or not factor or not middle:
        return {}
    return {
        site: (
            f"refused from site '{site}': its change has length {found:.3g}, more than {factor:g} "
            f"times the median of {len(lengths)} sites, {middle:.3g}"
        )
        for site, found in lengths.items()
        if not found <= factor * middle
    }


def agree(received: Mapping[str, str]) -> str:
    """The one digest of what all sites received; `KnowledgeError` where they differ.

    Sites compare before they train, so that a server that sends one of them something else, to
    learn more from its answer, learns nothing. Digests that the server itself passes on prove this
    only if each site signed its own.
    """
    groups: dict[str, list[str]] = {}
    for site, found in received.items():
        groups.setdefault(found, []).append(site)
    if len(groups) != 1:
        shown = "; ".join(f"{found[:12]}: {', '.join(names)}" for found, names in groups.items())
        raise KnowledgeError(
            f"the sites did not receive the same encoder ({shown or 'no site'}); nobody trains: "
            "expected one for all, look at the server and at the way to the sites"
        )
    return next(iter(groups))


def _said(label: Label) -> str:
    about = f"{label.method}, seed {label.seed}, stage {label.stage}"
    return f"an {label.kind} to the {label.receiver}, {about}"
