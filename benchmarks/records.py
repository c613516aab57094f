"""What every benchmark says about itself: machine, versions, seed, commit; and its JSON file."""

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def circumstances(packages: Sequence[str], *, seed: int) -> dict[str, Any]:
    """When, on what, with which versions of `packages`, from which commit.

    `load_before` is the number of processes that wanted a core in the last minute: on an idle
    machine it is near 0, and measurements taken under load are worth less.
    """
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "source_changed_since_commit": bool(_git("status", "--porcelain", "--", "src")),
        "seed": seed,
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(),
            "cores": cores(),
            "memory_gib": round(_memory_bytes() / 2**30, 1),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
    }


def commit() -> str:
    """Of the code that runs; empty outside a clone."""
    return _git("rev-parse", "--short", "HEAD")


def cores() -> int:
    """Number of processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def peak_mib() -> float:
    """Peak resident memory of this process since it started, MiB."""
    # Linux counts the parent's memory into ru_maxrss of a child, so VmHWM goes first.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def all_cores() -> int:
    """Number of the machine's processor cores."""
    return os.cpu_count() or 1


def used_by_children() -> float:
    """Processor time of all child processes that ended, and of theirs, s."""
    times = os.times()
    return times.children_user + times.children_system


def busy_seconds() -> float:
    """Processor time that was not idle since the machine started, s, over all cores."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def write(result: dict[str, Any], path: Path) -> None:
    """Write `result` as JSON to `path`, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"written: {path}")


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, if there is one.

    A last one that was cut short by a kill is not among them, and goes from the file.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
