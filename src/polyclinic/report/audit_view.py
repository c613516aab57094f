"""What attacks on the updates of a run found, from the audit.json beside its results."""

import json
from pathlib import Path
from typing import Any

from polyclinic.errors import RunError
from polyclinic.report import formats
from polyclinic.report.rows import Row

FILE, SCHEMA = "audit.json", "polyclinic.audit/1"

Types = tuple[type, ...]
_TEXT: Types = (str,)
_NUMBER: Types = (int, float)
_PERHAPS: Types = (int, float, type(None))
_CONTENT: dict[str, Types] = {
    "created": _TEXT, "quick": (bool,), "run": (dict,), "sites": (list,), "rows": (list,),
    "missed": (list,),
}  # fmt: skip
_RUN: dict[str, Types] = {"method": _TEXT, "seed": (int,)}
_SITE: dict[str, Types] = {"name": _TEXT}
_ROW: dict[str, Types] = {
    "site": _TEXT, "attack": _TEXT, "setting": _TEXT, "kind": _TEXT, "attacker": _TEXT,
    "measure": _TEXT, "value": _NUMBER, "low": _PERHAPS, "high": _PERHAPS, "baseline": _PERHAPS,
    "verdict": _TEXT,
}  # fmt: skip


def audit(run: Path) -> dict[str, Any] | None:
    """Rows of the audit in the run directory, and what to know of them; None without one.

    Raises `RunError` for a file of another layout.
    """
    path = run / FILE
    if not path.is_file():
        return None
    found = read_audit(path)
    return {
        "sites": ", ".join(site["name"] for site in found["sites"]),
        "created": found["created"].replace("T", " ")[:16],
        "quick": found["quick"],
        "method": f"{found['run']['method']}, seed {found['run']['seed']}",
        "rows": [_row(row) for row in found["rows"]],
        "missed": found["missed"],
    }


def read_audit(path: Path) -> dict[str, Any]:
    """The content of an audit.json; `RunError` where it is none, or lacks what the report shows."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); audit the run again") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise RunError(
            f"{path}: expected schema {SCHEMA!r}, got {schema!r}; audit the run again with this "
            "version"
        )
    content: dict[str, Any] = found
    _require(path, "it", content, _CONTENT)
    _require(path, "'run'", content["run"], _RUN)
    for number, site in enumerate(content["sites"]):
        _require(path, f"site {number + 1}", site, _SITE)
    for number, row in enumerate(content["rows"]):
        _require(path, f"row {number + 1}", row, _ROW)
    return content


def _require(path: Path, where: str, part: Any, fields: dict[str, Types]) -> None:
    """`RunError` where a part of the file lacks a field, or has another type there."""
    for name, types in fields.items():
        if not isinstance(part, dict) or not isinstance(part.get(name, ...), types):
            expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            got = repr(part[name])[:40] if isinstance(part, dict) and name in part else "nothing"
            raise RunError(
                f"{path}: expected {name!r} in {where}, of type {expected}, got {got}; audit the "
                "run again"
            )


def _row(row: Row) -> dict[str, str]:
    interval = ""
    if row["low"] is not None and row["high"] is not None:
        interval = f" ({row['low']:.3g} to {row['high']:.3g})"
    return {
        "site": row["site"],
        "attack": row["attack"],
        "setting": row["setting"],
        "kind": row["kind"],
        "attacker": row["attacker"],
        "measure": row["measure"],
        "value": f"{row['value']:.3g}{interval}",
        "baseline": formats.MISSING if row["baseline"] is None else f"{row['baseline']:.3g}",
        "verdict": row["verdict"],
    }
