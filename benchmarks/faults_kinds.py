"""How each kind of fault is done to a federation of real processes, and how it ends."""

import contextlib
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faults_federation import Federation
from faults_plan import CLOCK, CUT, FULL, GARBLE, KILL_SERVER, KILL_SITE, STOP_SITE, Fault
from polyclinic.deploy.tether import descendants

PROGRAMS = {
    "superlink": ("flower-superlink",),
    "serverapp": ("flwr-serverapp", "flwr_serverapp"),
    "supernode": ("polyclinic.deploy.node_process",),
    "clientapp": ("flwr-clientapp", "polyclinic.deploy.site_process"),
}
"""What is in the command of the processes of a place."""
BALLAST = "ballast"
"""The file that fills a disk."""
CLOCKS = Path(__file__).with_name("faults_clock")
"""On the path of Python, it makes a clock that can be set wrong."""

Ending = Callable[[], None]
Done = tuple[dict[str, Any], Ending | None]
"""What was done to whom, in the words of the record, and how it ends if it lasts."""


class NotThereError(Exception):
    """What the fault is for is not there now; it is tried again a moment later."""


def inject(fault: Fault, federation: Federation) -> Done:
    """Let the fault begin; `NotThereError` where there is nothing to do it to."""
    return KINDS[fault.kind](fault, federation)


def _kill(fault: Fault, federation: Federation) -> Done:
    found = _processes(fault, federation)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return {"processes": len(found)}, None


def _stop(fault: Fault, federation: Federation) -> Done:
    found = _processes(fault, federation)
    _signal(found, signal.SIGSTOP)
    return {"processes": len(found)}, lambda: _signal(found, signal.SIGCONT)


def _cut(fault: Fault, federation: Federation) -> Done:
    proxy = federation.proxies[fault.victim]
    proxy.cut()
    return {}, proxy.mend


def _garble(fault: Fault, federation: Federation) -> Done:
    """Bytes of what passes next; a site asks for messages every few seconds."""
    if federation.units[fault.victim].pid is None:
        raise NotThereError
    rng = random.Random(f"{fault.round}/{fault.at}")
    federation.proxies[fault.victim].garble(fault.place, rng)
    return {}, None


def _fill(fault: Fault, federation: Federation) -> Done:
    folder = federation.state(fault.victim)
    if not os.path.ismount(folder):
        raise NotThereError
    path = folder / BALLAST
    size = _fill_up(path)
    return {"mib": round(size / 2**20, 1)}, lambda: path.unlink(missing_ok=True)


def _jump(fault: Fault, federation: Federation) -> Done:
    path = clock_file(federation.folder, fault.victim)
    _write_shift(path, fault.shift)
    return {}, lambda: _write_shift(path, 0.0)


KINDS: dict[str, Callable[[Fault, Federation], Done]] = {
    KILL_SERVER: _kill,
    KILL_SITE: _kill,
    STOP_SITE: _stop,
    CUT: _cut,
    GARBLE: _garble,
    FULL: _fill,
    CLOCK: _jump,
}


def with_clock(who: str, folder: Path) -> Mapping[str, str]:
    """Variables of the environment under which the clock of `who` can be set wrong."""
    path = clock_file(folder, who)
    _write_shift(path, 0.0)
    search = os.pathsep.join(filter(None, (str(CLOCKS), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": search, "POLYCLINIC_FAULTS_CLOCK": str(path)}


def clock_file(folder: Path, who: str) -> Path:
    """The file that says by how much the clock of `who` is wrong."""
    return folder / f"clock-{who}"


def _write_shift(path: Path, seconds: float) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(f"{seconds}\n", encoding="utf-8")
    part.replace(path)


def _fill_up(path: Path) -> int:
    """Write until nothing more goes onto the disk; the bytes written."""
    size = 0
    with path.open("wb", buffering=0) as file:
        for block in (2**20, 4096, 1):  # to the last byte
            with contextlib.suppress(OSError):
                while True:
                    size += file.write(b"\0" * block)
    return size


def _processes(fault: Fault, federation: Federation) -> list[int]:
    """The processes of the place that is hit, the first one first."""
    first = federation.units[fault.victim].pid
    if first is None:
        raise NotThereError
    if fault.place == "supervisor":
        return [first]
    below = descendants(first)
    if fault.place not in PROGRAMS:
        return [first, *below]
    found = [pid for pid in below if _runs(pid, PROGRAMS[fault.place])]
    if not found:
        raise NotThereError
    return found


def _runs(pid: int, programs: tuple[str, ...]) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    tether = "polyclinic.deploy.tether" in command  # it names the command that it runs
    return not tether and any(name in command for name in programs)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
