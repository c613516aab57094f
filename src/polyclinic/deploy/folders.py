"""The folders of a server and of a site: what lies where, and who works there.

A server's folder                       A site's folder
  keys/       CA, certificate             keys/       the site's keys, the server's CA
  invites/    one file for each site      site.json   name, server, data, what was agreed
  sites.json  who joined, codes used      ledger.jsonl  what has left, a line a message
                                          heads/      private heads, by seed and method
                                          asked.json  what it was asked to train and to judge
                                          privacy/    the site's privacy accounts
                                          secure/     its exchange under secure aggregation
  superlink/  Flower's database, home     supernode/  Flower's home, the commands it may start
  logs/                                   logs/
  run/        the run's directory         results/    final encoders, scores, predictions
  status.json what it is doing            status.json what it is doing
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyclinic.data.writing import settle
from polyclinic.errors import RunError

PID = "pid"
STATUS = "status.json"
ACCOUNTS = Path("privacy", "account.json")
"""A site's privacy accounts, in its folder."""
ASKED = Path("asked.json")
"""What a site was asked to train and to judge."""
LEDGER = "ledger.jsonl"
"""What has left a site, in its folder."""
EXCHANGES = Path("secure", "exchange.json")
"""What a site remembers of its exchanges under secure aggregation."""
Record = dict[str, Any]


def write_private(path: Path, content: bytes, *, lasting: bool = False) -> None:
    """Write a file that only its owner may read, whole or not at all.

    With `lasting` it is on the disk when this returns, and survives a power cut.
    """
    made(path.parent)
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
        if lasting:
            settle(path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error}); free some space or choose another --state"
        ) from None


def write_record(path: Path, record: Record, *, lasting: bool = False) -> None:
    """Write JSON that only its owner may read, whole or not at all; `lasting` as above."""
    write_private(path, (json.dumps(record, indent=1) + "\n").encode(), lasting=lasting)


def write_status(path: Path, record: Record) -> None:
    """As `write_record`, with the time; where that fails, the file stays as it was.

    It says what is being done, and a full disk is no reason to stop doing it.
    """
    with contextlib.suppress(RunError):
        write_record(path, {"time": time.time(), **record})


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote; empty where there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); restore it from a backup") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, got {content!r:.40}")
    return content


def made(folder: Path) -> Path:
    """`folder`, which only its owner may look into, made where it is not there yet.

    `RunError` where that cannot be, as where a file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RunError(
            f"{folder}: no folder can be made there ({error.strerror}); choose another --state"
        ) from None
    return folder


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; `RunError` where another one does.

    The lock goes with the process, however that ends; the file names it for `stop`.
    """
    made(folder)
    with (folder / PID).open("a+") as file:
        # whoever asks whether somebody works here holds the lock for a moment
        for _ in range(10):
            if held := _lock(file):
                break
            time.sleep(0.2)
        if not held:
            raise RunError(
                f"{folder}: process {_text(folder)} works here already; stop it first, or choose "
                "another --state"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold what lies in `folder` for this process, after whoever holds it now."""
    import fcntl

    made(folder)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def running(folder: Path) -> int | None:
    """The process that works in `folder`, or None."""
    try:
        with (folder / PID).open("r+") as file:
            if _lock(file):
                return None
    except OSError:
        return None
    text = _text(folder)
    return int(text) if text.isdigit() else None


def stop(folder: Path, seconds: float = 60.0) -> bool:
    """Ask the process that works in `folder` to end, and wait; False where there is none.

    `RunError` where it has not ended in time.
    """
    pid = running(folder)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while running(folder) is not None:
        if time.monotonic() > deadline:
            raise RunError(
                f"{folder}: process {pid} has not ended within {seconds:.0f} s; "
                f"look into {folder / 'logs'}, then end it with `kill -9 {pid}`"
            )
        time.sleep(0.1)
    return True


def _text(folder: Path) -> str:
    return (folder / PID).read_text().strip()


def _lock(file: Any) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
