"""Whether a ledger is what its site wrote: every line there, in order, unchanged.

What a chain alone cannot tell: lines cut off at its end, and a whole chain written anew. For the
first, hold it against what the server has; for the second, lines must be signed.
"""

from dataclasses import dataclass, field
from pathlib import Path

from polyclinic.errors import LedgerError
from polyclinic.federation.ledger import FIRST, own_digest, parsed, signed_part
from polyclinic.federation.signing import is_signed


@dataclass(frozen=True)
class Verified:
    """What `verify` found. `sent` holds the digests of the messages, `last` that of the last line;
    `signed` counts signatures, `checked` tells whether they were held against a key."""

    path: Path
    site: str
    lines: int
    bytes: int
    signed: int
    checked: bool
    last: str
    sent: frozenset[str] = field(repr=False)
    problems: tuple[str, ...]


def verify(path: Path, key: Path | None = None) -> Verified:
    """Look at every line of a ledger. `key` is the file with the site's public key.

    `LedgerError` where the file cannot be read; what is wrong in it is in `problems`, with the
    number of the line in the file, counted from 1.
    """
    problems: list[str] = []
    site, size, signed = "", 0, 0
    sent: set[str] = set()
    expected, previous = 1, FIRST
    unclear, trusted = 0, True  # lines above that may have been any; nothing wrong with the last
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error}); expected a ledger") from None
    *whole, torn = content.split(b"\n")
    for number, line in enumerate(whole, start=1):
        entry = parsed(line)
        if entry is None:
            problems.append(f"line {number} is no line of a ledger: it was edited or cut")
            unclear, trusted = unclear + 1, False
            continue
        site = site or entry["site"]
        found = []
        if entry["own"] != own_digest(entry):
            found.append("was edited: its content does not fit its digest")
        if entry["site"] != site:
            found.append(f"is of site '{entry['site']}', not '{site}'")
        if (gone := entry["line"] - expected - unclear) > 0:
            found.append(f"is number {entry['line']}: {gone} before it removed")
        elif entry["line"] < expected:
            found.append(f"is number {entry['line']}: moved here, or twice in the file")
        elif trusted and entry["previous"] != previous:
            problems.append(
                f"line {number - 1} was rewritten, or lines after it removed: line {number} "
                "continues another"
                if number > 1
                else "line 1 does not begin a ledger: lines before it were removed"
            )
        if key is not None and not is_signed(key, signed_part(entry), entry.get("signature")):
            found.append(f"is not signed by the key in {key}")
        problems += [f"line {number} {what}" for what in found]
        signed += "signature" in entry
        size += entry["bytes"]
        sent.add(entry["digest"])
        expected, previous = entry["line"] + 1, entry["own"]
        unclear, trusted = 0, not found
    if torn:
        problems.append(
            f"line {len(whole) + 1} is cut off: by a crash while it was written (its message did "
            "not leave, and the next takes its place), or by somebody"
        )
    return Verified(
        path,
        site,
        len(whole),
        size,
        signed,
        key is not None,
        previous,
        frozenset(sent),
        tuple(problems),
    )
