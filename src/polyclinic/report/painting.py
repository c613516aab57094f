"""The report of a painter's evaluation: a table a question, and pictures of a few edits."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyclinic.errors import RunError
from polyclinic.report import formats, plots
from polyclinic.report.page import template, write_page
from polyclinic.report.painting_tables import QUESTIONS, Question, number
from polyclinic.report.pictures import picture_uri
from polyclinic.report.record_view import configuration, environment

SCHEMA = "polyclinic.painting/1"
_FIELDS = (
    "version", "created", "painter", "data", "split", "patients", "edits", "variants", "encoder",
    "segmenter", "config", "environment", "tables", "pictures",
)  # fmt: skip
ALL = "all"


def write_painting_report(run: Path) -> Path:
    """Write `run/report.html` from the results.json and the pictures of `inpaint evaluate`.

    The page needs nothing else. Raises `RunError` where the results cannot be used, name a
    picture outside of the directory, or the page cannot be written.
    """
    results = read_painting_results(run)
    page = template("painting.html").render(_view(results, run))
    return write_page(run / "report.html", page)


def read_painting_results(run: Path) -> dict[str, Any]:
    """What `inpaint evaluate` left in `run`; `RunError` where it is missing or something else."""
    path = run / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}); expected what `polyclinic inpaint evaluate` wrote"
        ) from None
    found = results.get("schema") if isinstance(results, dict) else None
    if found != SCHEMA:
        raise RunError(
            f"{path}: expected schema {SCHEMA!r}, got {found!r}; use the version of polyclinic "
            "that wrote it"
        )
    missing = [name for name in _FIELDS if name not in results]
    if missing:
        raise RunError(f"{path}: `{missing[0]}` is missing; evaluate again with another --out")
    checked: dict[str, Any] = results
    return checked


def _view(results: Mapping[str, Any], run: Path) -> dict[str, Any]:
    sections = [
        section
        for question in QUESTIONS
        if (section := _section(question, results["tables"].get(question.table, [])))
    ]
    painter = results["painter"]
    facts = [
        ("Painter", f"{painter['name']} ({painter['digest'][:12]})"),
        ("Objective", painter["objective"]),
        ("Data", ", ".join(results["data"])),
        ("Held-out patients", f"{results['patients']['held_out']} ({results['split']})"),
        ("Edits", ", ".join(f"{count} {kind}" for kind, count in results["edits"].items())),
        ("Segmenter", results["segmenter"]),
        ("Encoder of KID", results["encoder"]),
    ]
    return {
        "title": painter["name"],
        "version": results["version"],
        "created": results["created"].replace("T", " ")[:16],
        "facts": facts,
        "intervals": results["patients"]["held_out"] > 1,
        "variants": [
            {
                "name": variant["name"],
                "calls": formats.count(variant["calls"]),
                "paints": "all" if variant["tumours"] else "tumour-free only",
                "limit": formats.count(variant["limit"]) if variant["limit"] else "all",
            }
            for variant in results["variants"]
        ],
        "sections": sections,
        "examples": [_example(picture, run) for picture in results["pictures"]],
        "config": configuration(results["config"]),
        "environment": environment(results["environment"]),
    }


def _section(question: Question, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Tables of the question: over everything first, then each way to divide it."""
    known = [e for e in entries if e["measure"] in question.measures and e["value"] is not None]
    tables: list[dict[str, Any]] = []
    for kind in dict.fromkeys(entry["kind"] for entry in known):
        for by in dict.fromkeys(entry["by"] for entry in known):
            mine = [e for e in known if (e["kind"], e["by"]) == (kind, by)]
            if mine:
                first = all(table["kind"] != kind for table in tables)
                tables.append({**_table(question, kind, by, mine), "folded": not first})
    if not tables:
        return None
    return {
        "ident": question.table,
        "title": question.title,
        "note": question.note,
        "plot": _plot(question, known),
        "tables": tables,
    }


def _table(
    question: Question, kind: str, by: str, entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    measures = [m for m in question.measures if any(e["measure"] == m for e in entries)]
    by_cell = {(e["group"], e["variant"], e["measure"]): e for e in entries}
    rows = []
    for group, variant in sorted(
        dict.fromkeys((e["group"], e["variant"]) for e in entries), key=lambda pair: pair[0]
    ):
        found = [by_cell.get((group, variant, measure)) for measure in measures]
        rows.append(
            {
                "name": variant,
                "group": "" if group == ALL else group,
                "cells": [_cell(m, e) for m, e in zip(measures, found, strict=True)],
                "edits": formats.count(max(e["edits"] for e in found if e)),
                "patients": formats.count(max(e["patients"] for e in found if e)),
            }
        )
    kinds = "" if kind == ALL else f"{question.kinds.get(kind, kind)}, "
    return {
        "kind": kind,
        "caption": f"{kinds}by {by}" if by != ALL else f"{kinds}all together",
        "heads": [question.measures[measure] for measure in measures],
        "rows": rows,
    }


def _cell(measure: str, entry: Mapping[str, Any] | None) -> dict[str, str]:
    if entry is None:
        return {"value": formats.MISSING, "interval": ""}
    low, high = entry["low"], entry["high"]
    known = low is not None and high is not None
    return {
        "value": number(measure, entry["value"]),
        "interval": f"{number(measure, low)} to {number(measure, high)}" if known else "",
    }


def _plot(question: Question, entries: Sequence[Mapping[str, Any]]) -> Any:
    """The question's first measure of every variant, over all edits of the first kind."""
    measure = question.shown
    mine = [e for e in entries if e["measure"] == measure and e["by"] == question.shown_by]
    if measure is None or len(mine) < 2:
        return None
    mine = [e for e in mine if e["kind"] == mine[0]["kind"]]
    rows = [
        plots.Interval(
            label=e["variant"] if e["group"] == ALL else f"{e['group']}: {e['variant']}",
            value=e["value"],
            low=e["low"],
            high=e["high"],
            text=number(measure, e["value"]),
            tone=f"m{index % plots.SERIES}",
        )
        for index, e in enumerate(mine)
    ]
    return plots.intervals(
        rows,
        ident=f"plot-{question.table}",
        title=f"{question.title} {question.measures[measure]}",
        desc=f"{question.measures[measure]} of each variant with its 95 % interval",
        axis=question.measures[measure],
        zero=False,
        width=620,
        label_width=230,
        text_width=80,
    )


def _example(picture: Mapping[str, Any], run: Path) -> dict[str, Any]:
    return {
        "title": f"{picture['request']}, {picture['shape']}, {picture['sequence']}",
        "tiles": [
            {"name": tile["name"], "uri": picture_uri(run, tile["image"])}
            for tile in picture["tiles"]
        ],
    }
