"""The files of the scarcity study: its cells, and which remedy was chosen.

Cells are JSON lines: first what was asked for, then a cell a line. A study that was killed goes on
after the last whole line. One hospital may be studied after another, each with its painter.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyclinic.errors import RunError
from polyclinic.run.directory import read_json

Record = dict[str, Any]
Unit = tuple[str, int, int, str]
GROWING = ("arms", "painters")
"""What a study may get more of after it was begun."""


def open_records(path: Path, about: Record) -> dict[Unit, Record]:
    """The cells that are done, by unit. Begins the file where it is new; torn lines are cut out.
    Arms and painters that were not known when it was begun are added to what it says of itself.

    Raises `RunError` where the file was begun with other options, or is something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if _is_whole(line)]
    if not whole:
        path.write_text(_head(about), encoding="utf-8")
        return {}
    first, *cells = [json.loads(line) for line in whole]
    stored = first.get("study")
    if not isinstance(stored, dict) or any("arm" not in cell for cell in cells):
        raise RunError(f"{path}: holds no records of this study; choose another --work")
    agreed = _agreed(stored, about, path)
    if whole != lines or agreed != stored:
        path.write_text("".join([_head(agreed), *whole[1:]]), encoding="utf-8")
    return {_unit(cell): cell for cell in cells}


def about_of(path: Path) -> Record:
    """What the study of a file of cells is, with all painters and arms that it was given."""
    first = json.loads(path.read_text(encoding="utf-8").partition("\n")[0])
    return dict(first["study"])


def append(path: Path, cell: Record) -> None:
    """Add a line, whole, whoever else writes."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(cell) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_chosen(path: Path, about: Record, chosen: Mapping[str, Record]) -> None:
    """Add the remedies that were chosen, by hospital, to those of other hospitals."""
    if path.is_file():
        content = read_json(path)
        about = _agreed(content["study"], about, path)
        chosen = content["chosen"] | chosen
    part = path.with_name(path.name + ".part")
    content = {"study": about, "chosen": dict(sorted(chosen.items()))}
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def read_chosen(path: Path, about: Record) -> dict[str, Record]:
    """What was chosen for each hospital, as `scarcity_summary.choose` says; `RunError` where there
    is none, or it was chosen with other options."""
    if not path.is_file():
        raise RunError(f"{path}: no remedy is chosen yet; run --phase choose first")
    content = read_json(path)
    _agreed(content["study"], about, path)
    return dict(content["chosen"])


def _agreed(stored: Record, about: Record, path: Path) -> Record:
    """`stored` with the arms and painters of `about` that it lacks; `RunError` if they differ in
    anything else."""
    grown = {
        key: about.get(key, {}) | stored[key]
        for key in GROWING
        if isinstance(stored.get(key), dict)
    }
    stored = stored | grown
    about = about | {"painters": stored.get("painters", {}) | about["painters"]}
    for key in sorted(stored.keys() | about.keys()):
        was, now = stored.get(key), about.get(key)
        while isinstance(was, dict) and isinstance(now, dict) and was != now:
            inner = next(k for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k))
            key, was, now = f"{key}.{inner}", was.get(inner), now.get(inner)
        if was != now:
            raise RunError(
                f"{path}: begun with {key} = {was}, now it is {now}; go on with the same options, "
                "or begin a new study with another --work"
            )
    return stored


def _head(about: Record) -> str:
    return json.dumps({"study": about}) + "\n"


def _is_whole(line: str) -> bool:
    """Whether a line was written to its end; a torn one is done again."""
    try:
        return isinstance(json.loads(line), dict) and line.endswith("\n")
    except ValueError:
        return False


def _unit(cell: Record) -> Unit:
    """What a record is of, as `Group.unit`."""
    return cell["hospital"], cell["patients"], cell["seed"], cell["arm"]
