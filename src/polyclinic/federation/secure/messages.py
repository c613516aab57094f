"""What sites and server say to each other besides knowledge: JSON, with one way to write it.

In secure aggregation, and where sites compare what they are sent.

Keys, sealed shares and names of sites, nothing else. What has another field, another type or other
blanks is refused, so nothing can hide in such a message.
"""

import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from polyclinic.errors import ConfigError, KnowledgeError
from polyclinic.federation.secure.primitives import KEY, agree, is_signed

_VERSION = "polyclinic.secure/1"
_LAYOUTS: dict[str, dict[str, type]] = {
    "keys": {"site": str, "channel": str, "mask": str, "signature": str},
    "roster": {"adverts": dict},
    "shares": {"site": str, "boxes": dict},
    "delivery": {"boxes": dict},
    "request": {"survivors": list, "dropped": list},
    "unmasking": {"site": str, "seeds": dict, "keys": dict},
    "echo": {"site": str, "signature": str},
    "echoes": {"signatures": dict},
}
"""Fields of each kind of message; tables map names of sites to text."""


@dataclass(frozen=True)
class Terms:
    """What everybody knows before a stage, and nobody learns from the server.

    `session` names the stage; `identities` are the public Ed25519 keys of the sites that may take
    part; any `threshold` of them can unmask the sum of those that are there.
    """

    session: str
    threshold: int
    identities: Mapping[str, bytes]

    def __post_init__(self) -> None:
        sites = len(self.identities)
        if sites < 3 or not sites < 2 * self.threshold <= 2 * sites:
            raise ConfigError(
                f"{self.session}: a threshold of {self.threshold} for {sites} sites; expected 3 "
                "sites or more, and a threshold above half of them and at most all"
            )


@dataclass(frozen=True)
class Keys:
    """The public keys (X25519) of a site for one stage: to talk to others, and to mask with."""

    channel: bytes
    mask: bytes


def write(kind: str, **fields: Any) -> bytes:
    """The one way to write a message."""
    text = json.dumps({"kind": kind, **fields}, sort_keys=True, separators=(",", ":"))
    return text.encode("ascii")


def read(message: bytes, kind: str, who: str) -> dict[str, Any]:
    """The fields of a message of this kind; `KnowledgeError`, beginning with `who`, else."""
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise KnowledgeError(f"{who}: not a readable message of kind `{kind}`") from None
    layout = _LAYOUTS[kind]
    if not isinstance(fields, dict) or fields.pop("kind", None) != kind:
        raise KnowledgeError(f"{who}: expected a message of kind `{kind}`")
    if fields.keys() != layout.keys() or not all(
        isinstance(fields[name], expected) and _texts(fields[name])
        for name, expected in layout.items()
    ):
        raise KnowledgeError(f"{who}: expected the fields {', '.join(layout)} in `{kind}`")
    if write(kind, **fields) != message:
        raise KnowledgeError(f"{who}: `{kind}` holds more than its fields")
    return fields


def unhex(text: str, size: int, who: str) -> bytes:
    """`size` bytes from hexadecimal digits; `KnowledgeError` else."""
    try:
        content = bytes.fromhex(text)
    except ValueError:
        content = b""
    if len(content) != size or content.hex() != text:
        raise KnowledgeError(
            f"{who}: expected {size} bytes in hexadecimal digits, got {text!r:.40}"
        )
    return content


def to_sign(session: str, site: str, keys: Keys) -> bytes:
    """What a site signs of its keys: whose they are, and for which stage."""
    return b"\0".join([_VERSION.encode(), session.encode(), site.encode(), keys.channel, keys.mask])


def checked_keys(
    terms: Terms, site: str, fields: Mapping[str, Any], known: Set[str], who: str
) -> Keys:
    """The keys that `site` advertised; `KnowledgeError` where they are not its own, or not new.

    `known` holds the marks (`key_marks`) of all keys of earlier stages.
    """
    public = terms.identities.get(site)
    if public is None or fields["site"] != site:
        raise KnowledgeError(f"{who}: it says to come from '{fields['site']}'")
    keys = Keys(unhex(fields["channel"], KEY, who), unhex(fields["mask"], KEY, who))
    if not is_signed(
        public, to_sign(terms.session, site, keys), unhex(fields["signature"], 64, who)
    ):
        raise KnowledgeError(
            f"{who}: its keys for {terms.session} are not signed by it; somebody between the sites "
            "changed them, or they are of another stage"
        )
    if known & key_marks(keys):
        raise KnowledgeError(
            f"{who}: its keys were used before, and masks that are used twice hide nothing; look "
            "at the site's source of random numbers"
        )
    return keys


def key_marks(keys: Keys) -> frozenset[str]:
    """What to remember of keys, so that they are known when they come again."""
    return frozenset(hashlib.sha256(key).hexdigest() for key in (keys.channel, keys.mask))


def roster_keys(terms: Terms, roster: bytes, known: Set[str], who: str) -> dict[str, Keys]:
    """The keys of every site in a roster, each checked; `KnowledgeError` for the first bad one."""
    keys: dict[str, Keys] = {}
    marks = set(known)
    for site, text in read(roster, "roster", who)["adverts"].items():
        fields = read(text.encode(), "keys", who)
        keys[site] = checked_keys(terms, site, fields, marks, f"{who}, site '{site}'")
        marks |= key_marks(keys[site])
    return keys


def context(terms: Terms, roster: bytes) -> bytes:
    """What every key of a stage is derived for: sites that saw another roster share no key."""
    about = f"{_VERSION}\0{terms.session}\0{terms.threshold}\0".encode()
    return hashlib.sha256(about + roster).digest()


def channel_key(private: bytes, public: bytes, about: bytes, sender: str, receiver: str) -> bytes:
    """The key with which `sender` seals shares for `receiver`; each of the two can compute it."""
    return agree(private, public, about + f"\0channel\0{sender}\0{receiver}".encode())


def pair_seed(private: bytes, public: bytes, about: bytes, one: str, other: str) -> bytes:
    """The seed of the mask that two sites share; the same whichever of the two computes it."""
    low, high = sorted((one, other))
    return agree(private, public, about + f"\0mask\0{low}\0{high}".encode())


def _texts(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value
    return isinstance(value, str) or all(isinstance(text, str) for text in inside)
