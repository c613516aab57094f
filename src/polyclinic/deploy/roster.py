"""Who is who among sites that do not believe the server: their public keys, confirmed by people.

For secure aggregation, and where sites compare what they are sent.

The server hands the roster out, and is not believed: a site takes part once a person there has
confirmed its fingerprint. Where all sites see the same fingerprint, they have the same roster; each
has looked for its own key in it; so the key of every honest site is its own.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyclinic.deploy.folders import read_record, write_private, write_record
from polyclinic.errors import KnowledgeError, PrivacyError, RosterError
from polyclinic.federation.secure.primitives import KEY, identity_of, is_signed, signed
from polyclinic.federation.secure.primitives import system_entropy as entropy

FILE, IDENTITY = "roster.json", Path("keys", "identity.key")
Roster = dict[str, str]
"""Site to its public Ed25519 key, in hexadecimal digits."""

_ASKING = b"polyclinic.roster/1 "


def ensure_identity(folder: Path) -> str:
    """The public half of a site's key for secure aggregation, which is made where there is none."""
    path = folder / IDENTITY
    if not path.exists():
        write_private(path, entropy(KEY).hex().encode(), lasting=True)
    return identity_of(private_identity(folder)).hex()


def private_identity(folder: Path) -> bytes:
    """The private key; `PrivacyError` where it cannot be read."""
    path = folder / IDENTITY
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise PrivacyError(f"{path}: not a readable key ({error}); restore it") from None
    if len(key) != KEY:
        raise PrivacyError(f"{path}: expected a key of {KEY} bytes, got {len(key)}; restore it")
    return key


def is_identity(text: str) -> bool:
    """Whether `text` may be the public half of such a key."""
    return len(text) == 2 * KEY and all(c in "0123456789abcdef" for c in text)


def asking(folder: Path, site: str) -> dict[str, str]:
    """How a site asks the server for the roster: signed, since not everybody needs to know it."""
    signature = signed(private_identity(folder), _ASKING + site.encode())
    return {"site": site, "signature": signature.hex()}


def may_ask(known: Mapping[str, str], site: str, signature: str) -> bool:
    """Whether a question for the roster comes from a site in it."""
    try:
        return is_signed(
            bytes.fromhex(known[site]), _ASKING + site.encode(), bytes.fromhex(signature)
        )
    except (KeyError, ValueError):
        return False


def fingerprint(roster: Mapping[str, str]) -> str:
    """Ten groups of four hexadecimal digits, to be read out over a telephone.

    >>> fingerprint({"north": "00", "south": "01"})
    '57ec-c638-35f4-9757-4a54-ac72-96b0-ef26-26cc-90d5'
    """
    text = json.dumps(dict(sorted(roster.items())), separators=(",", ":"))
    digits = hashlib.sha256(b"polyclinic.roster/1 " + text.encode()).hexdigest()
    return "-".join(digits[i : i + 4] for i in range(0, 40, 4))


def read_roster(found: Any) -> Roster:
    """What the server sent as roster; `KnowledgeError` unless it is a table of text by name."""
    if not isinstance(found, dict) or not all(
        isinstance(text, str) for pair in found.items() for text in pair
    ):
        raise KnowledgeError(
            f"the server's roster is not a table of sites and keys, got {found!r:.40}; ask the "
            "coordinator"
        )
    return found


def check_roster(folder: Path, site: str, names: tuple[str, ...], found: Any) -> None:
    """`KnowledgeError` where a roster that the server sent cannot be that of this federation."""
    roster = read_roster(found)
    if roster.keys() != set(names) or not all(map(is_identity, roster.values())):
        raise KnowledgeError(
            f"the server's roster has the sites {', '.join(sorted(roster))}, expected a key for "
            f"each of {', '.join(sorted(names))}"
        )
    if len(set(roster.values())) < len(roster):
        raise KnowledgeError("the server's roster has one key for two sites")
    if roster[site] != ensure_identity(folder):
        raise KnowledgeError(
            f"the server's roster has another key for '{site}' than this site's own: somebody has "
            "changed it; take part in nothing, and tell the other sites"
        )


def confirm(folder: Path, roster: Roster, said: str) -> None:
    """Fix the roster for good; `KnowledgeError` where the fingerprint is another one."""
    found = fingerprint(roster)
    if said.replace("-", "").replace(" ", "").lower() != found.replace("-", ""):
        raise KnowledgeError(
            f"the server's roster has the fingerprint {found}, and not {said}: the sites were not "
            "told the same keys, or it was misread; nothing is confirmed"
        )
    known = confirmed(folder)
    if known is not None and known != roster:
        raise KnowledgeError(
            f"{folder}: another roster was confirmed, {fingerprint(known)}; it is fixed"
        )
    write_record(folder / FILE, {"sites": roster}, lasting=True)


def confirmed(folder: Path) -> Roster | None:
    """The roster that was confirmed at a site; None before."""
    found: Roster | None = read_record(folder / FILE).get("sites")
    return found


def needed_roster(folder: Path, site: str) -> Roster:
    """The roster that was confirmed at a site; `RosterError` where none was."""
    found = confirmed(folder)
    if found is None:
        raise RosterError(
            f"site '{site}': nobody has confirmed the roster of this federation; use "
            f"`polyclinic site roster {folder}`, and compare with the other sites"
        )
    return found
