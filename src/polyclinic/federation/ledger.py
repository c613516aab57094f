"""The ledger of a site: a line for every message that leaves it, written before it leaves.

One line of JSON for each message, with the digest of the line before: a chain. `leave` is the one
function through which bytes leave a site. A line that was changed, taken out or moved is found by
`verification`; lines cut off at the end only by who knows how many there were, such as the server.

With a key, each line is signed (Ed25519, the extra `deploy`): then nobody without the key can
write a whole new chain. A simulation holds all keys itself, and signs nothing.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from polyclinic.errors import LedgerError
from polyclinic.federation.knowledge import contents
from polyclinic.federation.signing import sign

Entry = dict[str, Any]

FIRST = "0" * 64
"""What stands for the digest of the line before, in the first line."""

_TYPES: dict[str, type] = {
    "line": int,
    "time": str,
    "site": str,
    "receiver": str,
    "kind": str,
    "method": str,
    "seed": int,
    "stage": int,
    "tensors": dict,
    "bytes": int,
    "digest": str,
    "previous": str,
    "own": str,
}
"""What a line holds, in this order; a signature may follow."""


@dataclass(frozen=True)
class Label:
    """What a message is about. `stage` is counted from 1."""

    method: str
    seed: int
    stage: int
    kind: str = "update"
    receiver: str = "server"


@dataclass(frozen=True)
class Ledger:
    """The ledger of `site` at `path`; lines are signed with the private key in the file `key`.

    One that was `begun`, by an empty file, is not begun again when the file is gone.
    """

    path: Path
    site: str
    key: Path | None = None
    begun: bool = False

    def require(self) -> None:
        """`LedgerError` where it was begun and is gone."""
        if self.begun and not self.path.exists():
            raise LedgerError(
                f"{self.path}: the ledger of site '{self.site}' is gone, and with it what has left "
                "the site; nothing is trained and nothing leaves: restore the file from a backup"
            )

    def append(self, message: bytes, label: Label) -> Entry:
        """Note a message, on the disk when this returns; `LedgerError` where that fails."""
        self.require()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self.begun else "a+b") as file, _locked(file):
                last = self._last(file)
                entry: Entry = {
                    "line": last["line"] + 1 if last else 1,
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "site": self.site,
                    "receiver": label.receiver,
                    "kind": label.kind,
                    "method": label.method,
                    "seed": label.seed,
                    "stage": label.stage,
                    "tensors": contents(message) or {},
                    "bytes": len(message),
                    "digest": digest(message),
                    "previous": last["own"] if last else FIRST,
                }
                entry["own"] = own_digest(entry)
                if self.key is not None:
                    entry["signature"] = sign(self.key, signed_part(entry))
                file.seek(0, os.SEEK_END)
                file.write(_text(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if not last:
                _settle(self.path.parent)
        except OSError as error:
            raise LedgerError(
                f"{self.path}: cannot be written ({error}); nothing leaves site '{self.site}' "
                "until it can"
            ) from None
        return entry

    def _last(self, file: IO[bytes]) -> Entry | None:
        """The last line; `file` ends after it then."""
        line = _last_line(file)
        if line is None:
            return None
        entry = parsed(line)
        if entry is None or entry["site"] != self.site:
            raise LedgerError(
                f"{self.path}: its last line is not one that site '{self.site}' wrote; nothing "
                f"leaves until it is: see `polyclinic ledger verify {self.path}`"
            )
        return entry


def leave(message: bytes, ledger: Ledger | None, label: Label) -> bytes:
    """The one way out of a site: the bytes to send, once the ledger has them on the disk.

    `LedgerError` where it cannot be written: then nothing may be sent. None keeps no ledger.
    """
    if ledger is not None:
        ledger.append(message, label)
    return message


def digest(message: bytes) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(message).hexdigest()


def parsed(line: bytes) -> Entry | None:
    """The entry that a line (without its end) holds, or None where it is no line of a ledger."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or tuple(entry) not in (
        tuple(_TYPES),
        (*_TYPES, "signature"),
    ):
        return None
    whole = all(type(entry[name]) is kind for name, kind in _TYPES.items())
    return entry if whole and _text(entry) == line else None


def own_digest(entry: Entry) -> str:
    """The digest of all that stands before the field `own`."""
    return digest(_text({name: entry[name] for name in _TYPES if name != "own"}))


def _text(entry: Entry) -> bytes:
    """The one way to write an entry."""
    return json.dumps(entry, separators=(",", ":")).encode("ascii")


def signed_part(entry: Entry) -> bytes:
    """What a signature is about; the digest of the line covers all the rest."""
    own: str = entry["own"]
    return b"polyclinic.ledger/1 " + own.encode("ascii", "replace")


def _last_line(file: IO[bytes]) -> bytes | None:
    """The last whole line of `file`, without its end.

    What follows it was torn by a crash and is cut off: its message did not leave.
    """
    end, block = file.seek(0, os.SEEK_END), 1 << 16
    while True:
        start = max(0, end - block)
        file.seek(start)
        tail = file.read(end - start)
        whole = tail.rfind(b"\n") + 1
        before = tail.rfind(b"\n", 0, max(0, whole - 1)) + 1
        if start == 0 or before:
            break
        block *= 8
    if start + whole < end:
        file.truncate(start + whole)
    return tail[before : whole - 1] if whole else None


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Hold the file: two messages at once would both continue the same line."""
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _settle(folder: Path) -> None:
    """Force the name of a new file onto the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
