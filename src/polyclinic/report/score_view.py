"""The report's gains, scores, comparisons and curves."""

from typing import Any

from markupsafe import Markup

from polyclinic.report import formats, plots, wording
from polyclinic.report.rows import Row, pick, primary, tone
from polyclinic.run.roles import BASELINES, REFERENCE


def forests(results: Row, lead: Row | None) -> list[dict[str, Any]]:
    """One forest plot per baseline and protocol, worst site first."""
    titles = {m["name"]: m["title"] for m in results["methods"]}
    found = []
    for over in BASELINES if lead else ():
        for protocol, name in wording.PROTOCOLS.items():
            chosen = {"method": lead["name"] if lead else "", "over": over, "protocol": protocol}
            gains = [g for g in pick(primary(results, "gains"), **chosen) if g["value"] is not None]
            if not gains:
                continue
            gains.sort(key=lambda g: g["value"])
            whom = wording.compared_with(over, titles)
            title = f"Gain over {whom}, {name}"
            found.append(
                {
                    "title": title,
                    "plot": plots.intervals(
                        [_gain_row(gain) for gain in gains],
                        ident=f"forest-{over}-{protocol}",
                        title=title,
                        desc="; ".join(f"{g['site']} {_gain_text(g)}" for g in gains),
                        axis="gain, points",
                        zero=True,
                    ),
                }
            )
    return found


def _gain_row(gain: Row) -> plots.Interval:
    kind, unclear = tone(gain)
    value, low, high = (
        None if gain[k] is None else 100 * gain[k] for k in ("value", "low", "high")
    )
    return plots.Interval(gain["site"], value, low, high, _gain_text(gain), kind, unclear)


def _gain_text(gain: Row) -> str:
    interval = formats.points_interval(gain["low"], gain["high"])
    return formats.points(gain["value"]) + (f" ({interval})" if interval else "")


def score_table(results: Row, protocol: str) -> dict[str, Any] | None:
    """Scores of all methods at all sites for one protocol, and their means."""
    scores = {
        (s["site"], s["method"]): s for s in pick(primary(results, "scores"), protocol=protocol)
    }
    if not scores:
        return None
    names = [m["name"] for m in results["methods"]]
    rows = []
    for site in results["sites"]:
        row = [scores.get((site["name"], name)) for name in names]
        best = _best(names, [None if s is None else s["value"] for s in row])
        cells = [
            {
                "value": formats.score(s["value"] if s else None),
                "interval": formats.score_interval(s["low"], s["high"]) if s else "",
                "best": name in best,
            }
            for name, s in zip(names, row, strict=True)
        ]
        metric = wording.metric(site["metric"])
        rows.append({"site": site["name"], "metric": metric, "cells": cells})
    means = []
    for name in names:
        at_sites = [scores.get((site["name"], name)) for site in results["sites"]]
        known = [s["value"] for s in at_sites if s is not None and s["value"] is not None]
        complete = len(known) == len(results["sites"])
        means.append((sum(known) / len(known) if known else None, complete, len(known)))
    best = _best(names, [value if complete else None for value, complete, _ in means])
    return {
        "protocol": wording.PROTOCOLS[protocol],
        "rows": rows,
        "means": [
            {
                "value": formats.score(value),
                "interval": "" if complete else f"{number} of {len(results['sites'])} sites",
                "best": name in best,
            }
            for name, (value, complete, number) in zip(names, means, strict=True)
        ],
    }


def _best(names: list[str], values: list[float | None]) -> set[str]:
    """Names of the highest printed values among methods that a federation may use."""
    known = {
        name: round(value, 3)
        for name, value in zip(names, values, strict=True)
        if value is not None and name != REFERENCE
    }
    return {n for n, v in known.items() if v == max(known.values())} if len(known) > 1 else set()


def comparisons(results: Row, lead: Row | None) -> list[dict[str, Any]]:
    """The tests of the report's method against every other."""
    if lead is None:
        return []
    titles = {m["name"]: m["title"] for m in results["methods"]}
    order = list(titles)
    rows = sorted(
        (
            c
            for c in pick(results.get("comparisons", []), method=lead["name"])
            if c["over"] in titles and c["protocol"] in wording.PROTOCOLS
        ),
        key=lambda c: (list(wording.PROTOCOLS).index(c["protocol"]), order.index(c["over"])),
    )
    return [
        {
            "over": titles[c["over"]],
            "protocol": wording.PROTOCOLS[c["protocol"]],
            "gain": formats.points(c["mean_gain"]),
            "wins": f"{c['wins']} of {c['n']}" + (f", {c['ties']} ties" if c["ties"] else ""),
            "sites": f"{c['sites_won']} of {c['sites']}",
            "p": formats.p_value(c["p"]),
            "p_holm": formats.p_value(c["p_holm"]),
            "p_sites_holm": formats.p_value(c["p_sites_holm"]),
            "verdict": wording.verdict(c),
            "significant": wording.is_significant(c),
        }
        for c in rows
    ]


def curves(results: Row) -> list[dict[str, Any]]:
    """Per site: validation score by stage, averaged over seeds, as received and as trained."""
    found = []
    for index, site in enumerate(results["sites"]):
        rows = pick(results.get("curves", []), site=site["name"])
        panels = []
        for key, label in (("received", "as received"), ("trained", "after local training")):
            lines = []
            for series, method in enumerate(results["methods"]):
                points = _means_by_stage(pick(rows, method=method["name"]), key)
                if points:
                    lines.append(plots.Line(method["title"], series, points))
            if lines:
                panels.append((label, lines))
        if not panels:
            continue
        title = f"{site['name']}: validation {wording.metric(site['metric'])} by stage"
        last = "; ".join(
            f"{line.label} {label}: {formats.score(line.points[-1][1])}"
            for label, lines in panels
            for line in lines
        )
        plot = plots.curves(
            panels,
            ident=f"curves-{index}",
            title=title,
            desc=f"Last stage: {last}",
            axis="stage",
        )
        metric = wording.metric(site["metric"])
        found.append({"site": site["name"], "metric": metric, "plot": plot})
    return found


def quality_by_bytes(results: Row) -> Markup | None:
    """Mean validation score of the encoder as received against what all sites had sent by then.

    Stages at which a site was away that took part in others are no points, so that all means are
    over the same sites. Bytes are in MB, of one seed; methods that send nothing are not shown.
    """
    lines = []
    for series, method in enumerate(results["methods"]):
        rows = pick(results.get("curves", []), method=method["name"])
        if any(row.get("bytes_up") for row in rows):
            points = _score_by_bytes(rows)
            lines.append(plots.Line(method["title"], series, points))
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return None
    last = "; ".join(
        f"{line.label}: {formats.score(line.points[-1][1])} after {line.points[-1][0]:.2f} MB"
        for line in lines
    )
    return plots.curves(
        [("mean over sites of the validation score, as received", lines)],
        ident="quality-by-bytes",
        title="Quality against bytes",
        desc=last,
        axis="MB sent by all sites before",
    )


def guard(results: Row) -> Markup | None:
    """What each site said that it gains, by stage, over seeds: a line a site."""
    rows = [r for r in results.get("curves", []) if "gain_over_alone" in r]
    panels = []
    for key, label in (("gain_over_alone", "over alone"), ("gain_over_start", "over the start")):
        lines = []
        for series, site in enumerate(results["sites"]):
            points = _means_by_stage(pick(rows, site=site["name"]), key)
            if points:
                lines.append(plots.Line(site["name"], series, points))
        if lines:
            panels.append((label, lines))
    if not panels:
        return None
    last = "; ".join(
        f"{line.label} {label}: {formats.points(line.points[-1][1])}"
        for label, lines in panels
        for line in lines
    )
    return plots.curves(
        panels,
        ident="guard",
        title="What sites gain from stage to stage",
        desc=f"Last stage: {last}",
        axis="stage",
    )


def _score_by_bytes(rows: list[Row]) -> tuple[tuple[float, float], ...]:
    seeds, sites = (len({row[key] for row in rows}) for key in ("seed", "site"))
    sent, points = 0.0, []
    for stage in sorted({row["stage"] for row in rows}):
        here = pick(rows, stage=stage)
        scores = [row["received"] for row in here if row["received"] is not None]
        if len(scores) == sites * seeds:
            points.append((sent / seeds / 1e6, sum(scores) / len(scores)))
        sent += sum(row.get("bytes_up", 0) for row in here)
    return tuple(points)


def _means_by_stage(rows: list[Row], key: str) -> tuple[tuple[float, float], ...]:
    stages: dict[int, list[float]] = {}
    for row in rows:
        if row[key] is not None:
            stages.setdefault(row["stage"], []).append(row[key])
    return tuple((float(s), sum(values) / len(values)) for s, values in sorted(stages.items()))
