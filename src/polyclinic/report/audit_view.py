"""What attacks on the updates of a run found, from the audit.json beside its results."""

import json
from pathlib import Path
from typing import Any

from polyclinic.errors import RunError
from polyclinic.report import formats
from polyclinic.report.rows import Row

FILE, SCHEMA = "audit.json", "polyclinic.audit/1"


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
    """The content of an audit.json; `RunError` where it is none."""
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
    return content


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
