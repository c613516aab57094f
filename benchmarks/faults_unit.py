"""A service of the operating system, as the units in `examples/service/` describe it.

What ends is started again after ten seconds: the server when it failed, a site always.
"""

import ctypes
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

RESTART = 10.0  # s, RestartSec of the units
ENDING = 60.0  # s, TimeoutStopSec of the units
_PARENT_DIED = 1  # PR_SET_PDEATHSIG


class Unit:
    """A service: a command that is started again when it ends."""

    def __init__(
        self, command: list[str], folder: Path, log: Path, environment: Mapping[str, str], on: str
    ) -> None:
        self.starts = 0
        self._command, self._folder, self._log = command, folder, log
        self._environment, self._on = dict(environment), on
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: float | None = None

    @property
    def pid(self) -> int | None:
        """Its first process while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def succeeded(self) -> bool:
        """Whether it ended, and well."""
        return self._process is not None and self._process.poll() == 0

    def look(self) -> None:
        """Start it, or start it again when its pause is over."""
        if self._process is not None:
            code = self._process.poll()
            if code is None or (code == 0 and self._on == "failure"):
                return
            self._ended = self._ended or time.monotonic()
            if time.monotonic() < self._ended + RESTART:
                return
        self.starts, self._ended = self.starts + 1, None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip

    def end(self) -> None:
        """Ask it to end, and kill it when it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def end_with_parent() -> None:
    """For `preexec_fn`: SIGTERM when the process that started this one ends."""
    ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGTERM)
