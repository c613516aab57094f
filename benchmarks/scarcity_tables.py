"""The result of `scarcity.py` as Markdown, for docs/painting-figures.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from markdown_table import table
from polyclinic.report.formats import p_value, points, points_interval, score
from scarcity_patients import ALL

Record = Mapping[str, Any]
WHOLE = "whole"


def markdown(result: Record) -> str:
    """Dice and gains of the whole tumour over all hospitals, then by hospital, then components."""
    scores, gains = result["scores"], result["gains"]
    hospitals = [name for name in result["patients"] if name != ALL]
    parts = [
        "### Dice of the whole tumour",
        _dice(_only(scores, WHOLE, ALL)),
        "### Gains over geometric augmentation",
        _gains(_only(gains, WHOLE, ALL)),
    ]
    for hospital in hospitals:
        parts += [
            f"### Gains at {hospital}, {result['patients'][hospital]} patients",
            _gains(_only(gains, WHOLE, hospital)),
        ]
    for measure in dict.fromkeys(row["measure"] for row in scores if row["measure"] != WHOLE):
        parts += [f"### Dice of {measure}", _dice(_only(scores, measure, ALL))]
        parts += [f"### Gains in {measure}", _gains(_only(gains, measure, ALL))]
    return "\n\n".join(parts) + "\n"


def _only(rows: Sequence[Record], measure: str, hospital: str) -> list[Record]:
    return [row for row in rows if (row["measure"], row["hospital"]) == (measure, hospital)]


def _dice(rows: Sequence[Record]) -> str:
    """A row an arm, a column for each number of patients."""
    found = {(row["arm"], row["size"]): row for row in rows}
    sizes = dict.fromkeys(row["size"] for row in rows)
    lines = [
        (arm, *(_score(found.get((arm, size))) for size in sizes))
        for arm in dict.fromkeys(row["arm"] for row in rows)
    ]
    return table(("Patients", *sizes), lines)


def _gains(rows: Sequence[Record]) -> str:
    """A row for each arm and number of patients."""
    lines = [
        (
            row["arm"],
            row["size"],
            points(row["value"]),
            points_interval(row["low"], row["high"]),
            points_interval(row["draws"]["low"], row["draws"]["high"]),
            f"{row['patients_won']} of {row['judged_on']}",
            "; ".join(points(value) for value in row["per_seed"]),
            p_value(row["p_holm"]),
        )
        for row in rows
    ]
    head = (
        "", "Patients", "Gain, points", "95 %, patients", "95 %, draws", "Patients won",
        "Each seed", "p, corrected",
    )  # fmt: skip
    return table(head, lines)


def _score(row: Record | None) -> str:
    return "" if row is None else score(row["value"])
