"""Keeps a command running: starts it again when it ends, tells when it gives up its ghost often."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from polyclinic.deploy.folders import made

SHORT, LONG = 2.0, 30.0  # s between starts, at first and at most
HEALTHY = 60.0  # s of life after which the pause is short again
LARGEST_LOG = 20 * 2**20  # bytes; then the log becomes `.1`, and the `.1` before goes


class Kept:
    """A command that is started again whenever it ends; use as a context manager.

    `look()` has to be called now and then. Everything that the command started ends with it, and
    with this process, however that ends.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        environment: Mapping[str, str],
        log: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.starts = 0
        self._command, self._environment, self._log, self._clock = command, environment, log, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._pause, self._next, self._began = SHORT, 0.0, 0.0

    def __enter__(self) -> "Kept":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._process is not None and self._process.poll() is None

    def look(self) -> int | None:
        """Start it if it is not running and its pause is over; the exit code if it has ended."""
        if self.alive:
            return None
        code, now = None, self._clock()
        if self._process is not None:
            code = self._process.wait()
            _close(self._process)
            self._process = None
            self._pause = SHORT if now - self._began > HEALTHY else min(2 * self._pause, LONG)
            self._next = now + self._pause
        if now >= self._next:
            self._began, self.starts = now, self.starts + 1
            self._process = started(self._command(), self._environment, self._log)
        return code

    def end(self) -> None:
        """End it, and everything that it started."""
        if self._process is not None:
            _close(self._process)
            self._process.wait()
            self._process = None


def started(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """`command`, tethered to this process, with its output in `log`."""
    with opened(log) as file:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "polyclinic.deploy.tether", *command],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is this process's
        )


def opened(log: Path) -> IO[bytes]:
    """`log`, to be appended to; a large one is put aside first."""
    made(log.parent)
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_name(log.name + ".1"))
    return log.open("ab")


def _close(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
