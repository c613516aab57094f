"""A site's part in an exchange as a record: a site on a machine of its own may be killed in it.

What is kept holds private keys, and belongs into a file that its owner alone can read.
"""

from typing import Any

from polyclinic.errors import KnowledgeError
from polyclinic.federation.secure.member import Member
from polyclinic.federation.secure.messages import Keys, Terms
from polyclinic.federation.secure.primitives import system_entropy

Record = dict[str, Any]


def to_record(member: Member) -> Record:
    """All that a member remembers; its terms are kept by whoever keeps the record."""
    return {
        "site": member.site,
        "step": member.step,
        "channel": member.channel.hex(),
        "mask": member.mask.hex(),
        "peers": {name: [k.channel.hex(), k.mask.hex()] for name, k in member.peers.items()},
        "about": member.about.hex(),
        "seed": member.seed.hex(),
        "held": {name: [part.hex() for part in parts] for name, parts in member.held.items()},
        "asked": member.asked.hex(),
    }


def from_record(record: Record, terms: Terms) -> Member:
    """The inverse of `to_record`; `KnowledgeError` for a record that is not one."""
    try:
        return Member(
            terms,
            record["site"],
            system_entropy,
            channel=bytes.fromhex(record["channel"]),
            mask=bytes.fromhex(record["mask"]),
            step=record["step"],
            peers={
                name: Keys(bytes.fromhex(channel), bytes.fromhex(mask))
                for name, (channel, mask) in record["peers"].items()
            },
            about=bytes.fromhex(record["about"]),
            seed=bytes.fromhex(record["seed"]),
            held={
                name: (bytes.fromhex(seed), bytes.fromhex(key))
                for name, (seed, key) in record["held"].items()
            },
            asked=bytes.fromhex(record["asked"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KnowledgeError(
            f"what the site kept of its exchange cannot be read ({error}); wait for a new exchange"
        ) from None
