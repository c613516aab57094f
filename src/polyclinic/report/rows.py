"""Which rows of the results belong to what the report shows."""

from collections.abc import Iterable, Mapping
from typing import Any

BASELINES = ("local", "mim")
REFERENCE = "centralised"
"""Pools the images of all sites, which a federation must not do: shown, never marked as best."""

Row = Mapping[str, Any]


def lead_method(methods: Iterable[Row]) -> Row | None:
    """The method that the report is about: the first that is neither baseline nor reference."""
    candidates = [m for m in methods if m["name"] not in (*BASELINES, REFERENCE)]
    return candidates[0] if candidates else None


def primary(results: Row, kind: str) -> list[Row]:
    """Rows of `scores` or `gains` in each site's primary metric."""
    metrics = {site["name"]: site["metric"] for site in results["sites"]}
    return [row for row in results.get(kind, []) if row["metric"] == metrics.get(row["site"])]


def pick(rows: Iterable[Row], **wanted: str) -> list[Row]:
    """The rows whose fields have the wanted values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def tone(row: Row) -> tuple[str, bool]:
    """CSS class of a gain, and whether its interval includes zero (or is unknown)."""
    low, high = row["low"], row["high"]
    unclear = low is None or high is None or low <= 0 <= high
    value = round(100 * (row["value"] or 0), 1)  # as printed: "0.0" is neither up nor down
    return ("up" if value > 0 else "down" if value < 0 else "level", unclear)
