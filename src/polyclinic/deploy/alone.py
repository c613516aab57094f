"""Lets one process of a kind run at a time. Imports nothing heavy: it comes before all else.

Flower starts a task's process again when the first has not reported within half a minute. On a
machine that is short of cores each further one makes all of them slower, until none is in time.
A process whose task was withdrawn meanwhile may hang; so whoever neither begins its work in time,
nor ends in time after it, is ended here, and does not keep the next one out.
"""

import contextlib
import fcntl
import os
import sys
import threading
from pathlib import Path

STARTING, ENDING = 120.0, 600.0  # s; the answer is still to be sent while it ends
_HELD: list[int] = []
_LIMITS: list[threading.Timer] = []


def alone(lock: str) -> None:
    """Hold `lock` until this process ends, or end it at once where another process does.

    The task stays in Flower's queue, and a process is started for it again later.
    """
    file = os.open(Path(lock), os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _HELD.append(file)  # closed, and with that let go, when the process ends
        _limit(STARTING)
        return
    sys.exit(0)


def begun() -> None:
    """The work begins: it may take as long as it takes."""
    while _LIMITS:
        _LIMITS.pop().cancel()


def finished() -> None:
    """The work is done: the process should end soon."""
    if _HELD:
        _limit(ENDING)


def _limit(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
    _LIMITS.append(timer)
