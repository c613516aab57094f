"""The report's panel of each site: scores, confusion, class counts and examples."""

from pathlib import Path
from typing import Any

from polyclinic.report import formats, pictures, plots, wording
from polyclinic.report.rows import Row, pick, primary
from polyclinic.run.roles import BASELINES


def site_panels(results: Row, run: Path, lead: Row | None) -> list[dict[str, Any]]:
    """One panel per site, in the order of the results."""
    return [
        {
            "name": site["name"],
            "anchor": f"site-{index + 1}",
            "metric": wording.metric(site["metric"]),
            "plots": _score_plots(results, site, index),
            "table": _score_table(results, site),
            "confusions": _confusions(results, site, index, lead),
            "classes": _class_counts(site, index),
            "unscored": _unscored(site),
            **_examples(results, site, run),
        }
        for index, site in enumerate(results["sites"])
    ]


def _at(site: Row) -> dict[str, str]:
    return {"site": site["name"]}


def _unscored(site: Row) -> str:
    """Why a site has no scores."""
    said = {row["scores"] for row in site.get("judged", [])}
    if "kept" in said:
        return f"Scores {wording.JUDGED['kept']}."
    return "No scores: the site was absent when encoders were judged." if said else "No scores yet."


def _score_plots(results: Row, site: Row, index: int) -> list[dict[str, Any]]:
    found = []
    for protocol, name in wording.PROTOCOLS.items():
        scores = pick(primary(results, "scores"), protocol=protocol, **_at(site))
        rows = []
        for series, method in enumerate(results["methods"]):
            for score in pick(scores, method=method["name"])[:1]:
                interval = formats.score_interval(score["low"], score["high"])
                text = formats.score(score["value"]) + (f" ({interval})" if interval else "")
                rows.append(
                    plots.Interval(
                        method["title"],
                        score["value"],
                        score["low"],
                        score["high"],
                        text,
                        f"m{series % plots.SERIES}",
                    )
                )
        if not rows:
            continue
        metric = wording.metric(site["metric"])
        found.append(
            {
                "title": f"{metric}, {name}",
                "plot": plots.intervals(
                    rows,
                    ident=f"scores-{index}-{protocol}",
                    title=f"{site['name']}: {metric}, {name}",
                    desc="; ".join(f"{row.label} {row.text}" for row in rows),
                    axis=metric,
                    zero=False,
                    label_width=160,
                    text_width=156,
                ),
            }
        )
    return found


def _score_table(results: Row, site: Row) -> dict[str, Any] | None:
    """The metrics that the plots do not show, per method; None where there are none."""
    rows = [
        s
        for s in pick(results.get("scores", []), **_at(site))
        if s["metric"] != site["metric"] and s["protocol"] in wording.PROTOCOLS
    ]
    columns = sorted(
        {(s["metric"], s["protocol"]) for s in rows},
        key=lambda c: (c[0], list(wording.PROTOCOLS).index(c[1])),
    )
    if not columns:
        return None
    cells = {(s["method"], s["metric"], s["protocol"]): s for s in rows}
    body = []
    for method in results["methods"]:
        found = [cells.get((method["name"], *column)) for column in columns]
        body.append(
            {
                "method": method["title"],
                "cells": [
                    {
                        "value": formats.score(s["value"] if s else None),
                        "interval": formats.score_interval(s["low"], s["high"]) if s else "",
                    }
                    for s in found
                ],
            }
        )
    heads = [f"{wording.metric(name)}, {wording.PROTOCOLS[protocol]}" for name, protocol in columns]
    return {"heads": heads, "rows": body}


def _confusions(results: Row, site: Row, index: int, lead: Row | None) -> list[dict[str, Any]]:
    """The method of the report beside working alone, where they have a confusion matrix."""
    wanted = [lead["name"]] if lead else []
    wanted += [name for name in BASELINES if name not in wanted][: 2 - len(wanted)]
    titles = {m["name"]: m["title"] for m in results["methods"]}
    found: list[dict[str, Any]] = []
    for name in wanted:
        for row in pick(results.get("confusion", []), method=name, **_at(site))[:1]:
            if not _is_square(row):
                continue
            total = sum(map(sum, row["matrix"]))
            right = sum(row["matrix"][i][i] for i in range(len(row["classes"])))
            share = formats.percent(right / total if total else None)
            title = f"{titles.get(name, name)}: {share} of {formats.count(total)} on the diagonal"
            found.append(
                {
                    "title": title,
                    "plot": plots.confusion(
                        row["classes"],
                        row["matrix"],
                        ident=f"confusion-{index}-{len(found)}",
                        title=f"Confusion matrix of {site['name']}, {titles.get(name, name)}",
                        desc=_confusion_text(row),
                    ),
                }
            )
    return found


def _is_square(row: Row) -> bool:
    size = len(row["classes"])
    return size == len(row["matrix"]) and all(len(line) == size for line in row["matrix"])


def _confusion_text(row: Row) -> str:
    lines = zip(row["classes"], row["matrix"], strict=True)
    return "; ".join(
        f"{name}: {line[i]} of {sum(line)} recognised" for i, (name, line) in enumerate(lines)
    )


def _class_counts(site: Row, index: int) -> Any:
    counts: list[int] = site.get("class_counts", {}).get("train", [])
    if not counts or len(counts) != len(site["classes"]):
        return None
    images = site["split"]["train"]
    # Shares are of images; what exceeds their number counts something else and gets no share.
    shares = bool(images) and max(counts) <= images
    rows = [
        plots.Bar(
            name,
            ((number, "part-train"),),
            formats.count(number) + (f" ({formats.percent(number / images)})" if shares else ""),
        )
        for name, number in zip(site["classes"], counts, strict=True)
    ]
    return plots.bars(
        rows,
        ident=f"classes-{index}",
        title=f"Classes in the training images of {site['name']}",
        desc="; ".join(f"{row.label} {row.text}" for row in rows),
    )


def _examples(results: Row, site: Row, run: Path) -> dict[str, Any]:
    """The site's pictures, and whose predictions stand under them (older runs do not say)."""
    titles = {m["name"]: m["title"] for m in results["methods"]}
    found = pick(results.get("examples", []), **_at(site))
    method = found[0].get("method", "") if found else ""
    return {
        "examples": [_example(e, site, run) for e in found],
        "predicted_by": titles.get(method, method),
    }


def _example(example: Row, site: Row, run: Path) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "key": example["key"],
        "kind": example["kind"],
        "image": pictures.picture_uri(run, example["image"]),
    }
    if example["kind"] == "classification":
        truth, predicted = example.get("truth", ""), example.get("predicted", "")
        probability = example.get("probability")
        return {
            **shown,
            "truth": truth or formats.MISSING,
            "predicted": predicted or formats.MISSING,
            "probability": "" if probability is None else formats.percent(probability),
            # a number is never quite right; how far off it is can be seen
            "wrong": truth != predicted and site["task"] != "regression",
        }
    masks = (example.get("truth_mask", ""), example.get("predicted_mask", ""))
    return {
        **shown,
        "overlay": pictures.overlay_uri(run, example["image"], *masks),
        "dice": formats.score(example.get("dice")),
    }
