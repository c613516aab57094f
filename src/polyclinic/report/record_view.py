"""The report's record of the run: bytes, time, who took part, findings, configuration."""

from typing import Any

from markupsafe import Markup

from polyclinic.report import formats, plots
from polyclinic.report.rows import Row, pick
from polyclinic.run.roles import who_took_part

MAX_FINDINGS = 30  # per site; the rest is counted


def communication(results: Row) -> dict[str, Any] | None:
    """Bytes each way per site and method, for the methods that send anything."""
    rows = results.get("communication", [])
    traffic = {(r["site"], r["method"]): r for r in rows}
    active = {r["method"] for r in rows if r["bytes_up"] or r["bytes_down"]}
    talking = [m for m in results["methods"] if m["name"] in active]
    if not talking:
        return None
    body = []
    for site in results["sites"]:
        cells = []
        for method in talking:
            row = traffic.get((site["name"], method["name"]))
            cells += [formats.data_size(row[key] if row else None) for key in _DIRECTIONS]
        body.append({"site": site["name"], "cells": cells})
    totals = [
        formats.data_size(sum(r[key] for r in pick(rows, method=method["name"])))
        for method in talking
        for key in _DIRECTIONS
    ]
    listed = {r["method"] for r in rows}
    silent = [
        m["title"] for m in results["methods"] if m["name"] in listed and m["name"] not in active
    ]
    return {"methods": talking, "rows": body, "totals": totals, "silent": silent}


_DIRECTIONS = ("bytes_up", "bytes_down")


def timing(results: Row) -> dict[str, Any] | None:
    """Time and memory per method, as bars and as a table."""
    titles = {m["name"]: m["title"] for m in results["methods"]}
    rows = [t for name in titles for t in pick(results.get("timing", []), method=name)]
    if not rows:
        return None
    # of sites elsewhere nobody knows how long they judge
    shown = [row["train_seconds"] if row["seconds"] is None else row["seconds"] for row in rows]
    texts = [formats.duration(seconds) for seconds in shown]
    chart: Markup = plots.bars(
        [
            plots.Bar(
                titles[row["method"]],
                (
                    (row["train_seconds"] or 0, "part-train"),
                    (row["evaluate_seconds"] or 0, "part-test"),
                ),
                text,
            )
            for row, text in zip(rows, texts, strict=True)
        ],
        ident="timing",
        title="Time per method",
        desc="; ".join(f"{titles[r['method']]} {t}" for r, t in zip(rows, texts, strict=True)),
    )
    table = [
        {
            "method": titles[row["method"]],
            "total": formats.duration(row["seconds"]),
            "train": formats.duration(row["train_seconds"]),
            "evaluate": formats.duration(row["evaluate_seconds"]),
            "memory": formats.memory(row["peak_memory_mib"]),
        }
        for row in rows
    ]
    return {"plot": chart, "rows": table}


def participation(results: Row) -> dict[str, Any] | None:
    """Who took part where not all did, and absences with their reasons, stages of a seed joined."""
    rows = results.get("participation", [])
    if not rows:
        return None
    titles = {m["name"]: m["title"] for m in results["methods"]}
    absences: dict[tuple[str, str, str, int], list[int]] = {}
    incomplete: dict[tuple[str, int, str], list[int]] = {}
    for row in rows:
        if row["absent"]:
            said = who_took_part(row["present"], [absent["site"] for absent in row["absent"]])
            incomplete.setdefault((row["method"], row["seed"], said), []).append(row["stage"])
        for absent in row["absent"]:
            key = (row["method"], absent["site"], absent["reason"], row["seed"])
            absences.setdefault(key, []).append(row["stage"])
    return {
        "stages": len(rows),
        "full": sum(not row["absent"] for row in rows),
        "incomplete": [
            {
                "method": titles.get(method, method),
                "seed": seed,
                "stages": ", ".join(map(str, sorted(stages))),
                "took_part": said,
            }
            for (method, seed, said), stages in incomplete.items()
        ],
        "absences": [
            {
                "site": site,
                "method": titles.get(method, method),
                "seed": seed,
                "stages": ", ".join(map(str, sorted(stages))),
                "reason": reason,
            }
            for (method, site, reason, seed), stages in absences.items()
        ],
    }


def findings(results: Row) -> list[dict[str, Any]]:
    """What the checks found at each site and in the corpus, the gravest first."""
    order = {"error": 0, "warning": 1, "info": 2}
    places = [(site["name"], site.get("findings", [])) for site in results["sites"]]
    if "corpus" in results:
        places.append(("public corpus", results["corpus"]["findings"]))
    return [
        {
            "place": name,
            "rows": sorted(found, key=lambda f: order[f["severity"]])[:MAX_FINDINGS],
            "more": max(0, len(found) - MAX_FINDINGS),
        }
        for name, found in places
        if found
    ]


def configuration(config: Row) -> list[dict[str, Any]]:
    """The configuration as groups of (key, value): what is nested gets a group of its own."""
    general, groups = [], []
    for key, value in config.items():
        tables = [value] if isinstance(value, dict) else value
        if isinstance(tables, list) and tables and all(isinstance(t, dict) for t in tables):
            for table in tables:
                name = f"{key}: {table['name']}" if "name" in table else key
                rows = [(k, formats.plain(v)) for k, v in table.items() if k != "name"]
                groups.append({"name": name, "rows": rows})
        else:
            general.append((key, formats.plain(value)))
    return ([{"name": "general", "rows": general}] if general else []) + groups


def environment(found: Row) -> list[tuple[str, str]]:
    """The machine and the versions as rows of name and value."""
    return [(key.replace("_", " "), formats.plain(value)) for key, value in found.items()]
