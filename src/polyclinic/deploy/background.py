"""Starts one of our own commands so that it outlives the terminal, and waits until it works."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from polyclinic.deploy.supervise import opened
from polyclinic.errors import RunError

READY = 180.0  # s


def in_background(arguments: Sequence[str], log: Path, ready: Callable[[], bool]) -> int:
    """Start `polyclinic ARGUMENTS` in the background; its process number once it is `ready`.

    `RunError` with the last line that it wrote where it ends before, or is not ready in time.
    """
    with opened(log) as file:
        begin = file.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "polyclinic", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    deadline = time.monotonic() + READY
    while not ready():
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            said = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
            last = said[-1].removeprefix("polyclinic: error: ") if said else f"see {log}"
            error = RunError(last if code is not None else f"not ready after {READY:.0f} s: {last}")
            error.exit_code = code or error.exit_code
            raise error
        time.sleep(0.2)
    return process.pid
