"""Memory of a process and of all that descend from it, while it runs. Linux only."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SAMPLE_EVERY = 0.2  # s
PROPORTIONAL_EVERY = 2.0  # s; it takes 10 ms a process, which the engine then has not
STAY = 10  # s after the end, before a process counts as left behind

Member = tuple[int, int]
"""A process: its number, and when it was started, as numbers are used again."""


def watch(process: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
    """Wait for `process`, at most `timeout` seconds, and end what it leaves behind.

    Peaks are of the sum over all processes: of resident memory (pages that processes share count in
    each of them) and, looked at less often, of proportional memory (shared pages count once), MiB.
    """
    began = time.monotonic()
    resident = proportional = 0.0
    seen: set[Member] = set()
    most = 0
    next_proportional = began
    while process.poll() is None:
        tree = _tree(process.pid)
        seen |= tree
        most = max(most, len(tree))
        resident = max(resident, _sum(tree, _resident))
        if time.monotonic() >= next_proportional:
            proportional = max(proportional, _sum(tree, _proportional))
            next_proportional = time.monotonic() + PROPORTIONAL_EVERY
        if time.monotonic() - began > timeout:
            process.kill()
        time.sleep(SAMPLE_EVERY)
    wall = time.monotonic() - began
    left = _left(seen)
    for pid, _ in left:  # so that they do not disturb the next measurement
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return {
        "wall_seconds": wall,
        "peak_resident_mib": resident,
        "peak_proportional_mib": proportional,
        "most_processes": most,
        "processes_left_behind": len(left),
    }


def _left(seen: set[Member]) -> set[Member]:
    """Those of `seen` that still run when they had time to end."""
    until = time.monotonic() + STAY
    while (left := seen & set(_running())) and time.monotonic() < until:
        time.sleep(SAMPLE_EVERY)
    return left


def _running() -> dict[Member, int]:
    """Every process that has not ended, with the number of its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            # the name, in brackets, may itself have brackets and spaces
            state, parent, *rest = path.read_text().rpartition(")")[2].split()
            if state not in "ZX":
                found[int(path.parent.name), int(rest[17])] = int(parent)
    return found


def _tree(root: int) -> set[Member]:
    running = _running()
    tree = {member for member in running if member[0] == root}
    grown = True
    while grown:
        inside = {pid for pid, _ in tree}
        more = {member for member, parent in running.items() if parent in inside} - tree
        tree |= more
        grown = bool(more)
    return tree


def _sum(tree: Iterable[Member], look: Callable[[Path], int]) -> float:
    total = 0
    for pid, _ in tree:
        with contextlib.suppress(OSError):  # it has just ended
            total += look(Path("/proc", str(pid)))
    return total / 2**20


def _resident(process: Path) -> int:
    return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _proportional(process: Path) -> int:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
