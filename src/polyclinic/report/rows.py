"""Which rows of the results belong to what the report shows."""

from collections.abc import Iterable, Mapping
from typing import Any

from polyclinic.evaluate.statistics import DECIMALS

Row = Mapping[str, Any]


def primary(results: Row, kind: str) -> list[Row]:
    """Rows of `scores` or `gains` in each site's primary metric."""
    metrics = {site["name"]: site["metric"] for site in results["sites"]}
    return [row for row in results.get(kind, []) if row["metric"] == metrics.get(row["site"])]


def pick(rows: Iterable[Row], **wanted: str) -> list[Row]:
    """The rows whose fields have the wanted values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def sign(value: float) -> int:
    """1 for a gain, -1 for a loss, 0 for neither, by the rule of `evaluate.statistics.compare`.

    What a gain is printed as does not count: below 0.05 points it is printed as 0.0, and is one.
    """
    difference = round(value, DECIMALS)
    return (difference > 0) - (difference < 0)


def tone(row: Row) -> tuple[str, bool]:
    """CSS class of a gain, and whether its interval includes zero (or is unknown)."""
    low, high = row["low"], row["high"]
    unclear = low is None or high is None or low <= 0 <= high
    return ("level", "up", "down")[sign(row["value"] or 0)], unclear
