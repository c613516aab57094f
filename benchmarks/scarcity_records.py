"""The files of the scarcity study: its cells, and which remedy was chosen for a hospital.

Cells are JSON lines: first what was asked for, then a cell a line, with its arm and its painter. A
line is only ever added, so that several processes may work on one study, one hospital each, and a
study that was killed goes on after the last whole line.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from polyclinic.data.writing import writing
from polyclinic.errors import RunError

Record = dict[str, Any]
Unit = tuple[str, int, int, str]


def open_records(path: Path, about: Record) -> dict[Unit, Record]:
    """The cells that are done, by unit. Begins the file where it is new; a torn line is left out.

    Raises `RunError` where the file was begun with other options, or is something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        lines = [json.loads(line) for line in text.splitlines() if _is_whole(line)]
        if not text or (len(lines) == 1 and "study" in lines[0]):  # nothing rests on it yet
            file.truncate(0)
            file.write(json.dumps({"study": about}) + "\n")
            return {}
        if not text.endswith("\n"):
            file.write("\n")  # ends a line that was torn
    if not lines or "study" not in lines[0] or any("arm" not in cell for cell in lines[1:]):
        raise RunError(f"{path}: holds no records of this study; choose another --work")
    agree(lines[0]["study"], about, path)
    return {(c["hospital"], c["patients"], c["seed"], c["arm"]): c for c in lines[1:]}


def append(path: Path, cell: Record) -> None:
    """Add a line, whole, whoever else writes."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(cell) + "\n")
        file.flush()
        os.fsync(file.fileno())


def about_of(path: Path) -> Record | None:
    """What was asked for when a file of cells was begun; None where nothing is begun."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    first = text.partition("\n")[0]
    if not first:
        return None
    found = json.loads(first).get("study") if _is_whole(first) else None
    if not isinstance(found, dict):
        raise RunError(f"{path}: holds no records of this study; choose another --work")
    return found


def write_chosen(work: Path, hospital: str, about: Record, chosen: Record) -> None:
    """Write what was chosen for a hospital, whole or not at all."""
    content = {"study": about, "chosen": chosen}
    with writing(_chosen(work, hospital)) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_chosen(work: Path, hospital: str, about: Record) -> Record | None:
    """What `scarcity_summary.choose` chose for a hospital, None if nothing yet; `RunError` where
    it was chosen with other options."""
    path = _chosen(work, hospital)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored, chosen = content["study"], dict(content["chosen"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path}: holds no choice of this study; choose another --work") from None
    agree(stored, about, path)
    return chosen


def agree(was: Any, now: Any, path: Path, key: str = "") -> None:
    """Raise `RunError` that names the first thing in which a record differs from what is asked."""
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict):
        inner = next(k for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k))
        agree(was.get(inner), now.get(inner), path, f"{key}.{inner}".lstrip("."))
    raise RunError(
        f"{path}: begun with {key or 'study'} = {was}, now it is {now}; go on with the same data, "
        "painters and options, or begin a new study with another --work"
    )


def _chosen(work: Path, hospital: str) -> Path:
    return work / f"chosen-{hospital}.json"


def _is_whole(line: str) -> bool:
    """Whether a line was written to its end; a torn one is done again."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
