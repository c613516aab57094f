"""Runs a command that ends when its starter does, with everything that the command started.

    python -m polyclinic.deploy.tether COMMAND...

The starter holds the other end of standard input. When that closes, however the starter ended, the
command is asked to end; ten seconds later it and all that it left behind are killed. When the
command ends by itself, what it left behind is killed too. Flower's processes start others, some in
sessions of their own, which a signal to a group would miss.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

GRACE = 10.0  # s between asking and killing
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans become children of this process


def main() -> int:
    """Run the command of the arguments; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the starter decides
    with contextlib.suppress(OSError, AttributeError):  # not on Linux: done without
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=_obedient)
    threading.Thread(target=_end_with_starter, args=(process,), daemon=True).start()
    code = process.wait()
    _kill_all()
    return code if code >= 0 else 128 - code


def _obedient() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end_with_starter(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    process.kill()


def _kill_all() -> None:
    """Kill every descendant, until none is left."""
    for _ in range(100):
        found = descendants(os.getpid())
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, those that they started, and so on; none but on Linux."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = path.read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(path.parent.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


if __name__ == "__main__":
    sys.exit(main())
