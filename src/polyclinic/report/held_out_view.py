"""The report's table of sites that took no part in training."""

from typing import Any

from polyclinic.report import formats, wording
from polyclinic.report.rows import Row, pick


def held_out(results: Row) -> list[dict[str, Any]]:
    """A table for each held-out site, a row for each method; empty where none is held out."""
    found = results.get("held_out")
    if not found:
        return []
    labels = list(dict.fromkeys(row["labels_per_class"] for row in found["scores"]))
    tables = []
    for site in found["sites"]:
        at = {"site": site["name"], "metric": site["metric"]}
        rows = []
        for method in results["methods"]:
            scores = pick(found["scores"], method=method["name"], **at)
            gains = pick(found["gains"], method=method["name"], **at)
            if scores:
                cells = [_cell(scores, number) for number in labels]
                gain = [_gain(gains, number) for number in labels]
                rows.append({"method": method["title"], "cells": cells, "gains": gain})
        tables.append(
            {
                "site": site["name"],
                "metric": wording.metric(site["metric"]),
                "task": wording.TASKS[site["task"]],
                "images": formats.count(site["images"]),
                "heads": ["all labels" if n is None else f"{n} a class" for n in labels],
                "rows": rows,
            }
        )
    return tables


def _cell(rows: list[Row], labels: int | None) -> dict[str, str]:
    row = next((r for r in rows if r["labels_per_class"] == labels), None)
    if row is None:
        return {"value": formats.MISSING, "interval": ""}
    return {
        "value": formats.score(row["value"]),
        "interval": formats.score_interval(row["low"], row["high"]),
    }


def _gain(rows: list[Row], labels: int | None) -> dict[str, str]:
    row = next((r for r in rows if r["labels_per_class"] == labels), None)
    if row is None:
        return {"value": formats.MISSING, "interval": ""}
    return {
        "value": formats.points(row["value"]),
        "interval": formats.points_interval(row["low"], row["high"]),
    }
