"""Turn results into what the template shows: rows of ready text, and plots as markup.

`view` returns one dict per section. A section whose data are missing is empty or None, and the
template leaves it out or says so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyclinic.report import formats, plots, wording
from polyclinic.report.audit_view import audit
from polyclinic.report.held_out_view import held_out
from polyclinic.report.privacy_view import privacy
from polyclinic.report.record_view import (
    communication,
    configuration,
    environment,
    findings,
    participation,
    timing,
)
from polyclinic.report.rows import Row, pick, primary, sign
from polyclinic.report.score_view import (
    comparisons,
    curves,
    forests,
    guard,
    quality_by_bytes,
    score_table,
)
from polyclinic.report.site_view import site_panels
from polyclinic.run.roles import BASELINES, lead_method


def view(results: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Everything that `templates/report.html` shows of `results`; pictures are read from `run`."""
    methods, sites = results["methods"], results["sites"]
    leading = lead_method(m["name"] for m in methods)
    lead = next((m for m in methods if m["name"] == leading), None)
    return {
        "results": results,
        "deployed": bool(results.get("deployed")),
        "version": results["version"],
        "title": results["name"],
        "created": results["created"].replace("T", " ")[:16],
        "lead": lead,
        "methods": [{**m, "tone": _tone(i), "mark": _mark(i)} for i, m in enumerate(methods)],
        "headline": _headline(results, lead),
        "overview": _overview(results, lead),
        "facts": _facts(results),
        "cards": [_card(site, i) for i, site in enumerate(sites)],
        "forests": forests(results, lead),
        "tables": [t for p in wording.PROTOCOLS if (t := score_table(results, p))],
        "comparisons": comparisons(results, lead),
        "held_out": held_out(results),
        "curves": curves(results),
        "quality_by_bytes": quality_by_bytes(results),
        "guard": guard(results),
        "panels": site_panels(results, run, lead),
        "privacy": privacy(results),
        "audit": audit(run),
        "communication": communication(results),
        "timing": timing(results),
        "participation": participation(results),
        "findings": findings(results),
        "config": configuration(results.get("config", {})),
        "environment": environment(results.get("environment", {})),
        "glossary": wording.GLOSSARY,
        "counts": formats.count,
    }


def _headline(results: Row, lead: Row | None) -> dict[str, str]:
    if lead is None:
        return {
            "text": "This run compares no federated method with the baselines.",
            "detail": "",
            "note": "",
        }
    titles = {m["name"]: m["title"] for m in results["methods"]}
    for over in BASELINES:
        for protocol, name in wording.PROTOCOLS.items():
            chosen = {"method": lead["name"], "over": over, "protocol": protocol}
            gains = pick(primary(results, "gains"), **chosen)
            if not gains:
                continue
            who, whom = wording.subject(lead), wording.compared_with(over, titles)
            tests = pick(results.get("comparisons", []), **chosen)
            return {
                "text": wording.headline(who, whom, gains) + ".",
                "detail": f"{wording.certainty(gains)} "
                f"{wording.significance(tests[0] if tests else None)}",
                "note": f"Measured by {name} on each site\u2019s test images; "
                "scores are each site\u2019s main metric.",
            }
    return {
        "text": f"This run holds no gain of {lead['title']} over working alone or over "
        "the public starting model.",
        "detail": "",
        "note": "",
    }


def _overview(results: Row, lead: Row | None) -> list[dict[str, str]]:
    """One row per baseline and protocol: the headline's facts for each of them."""
    titles = {m["name"]: m["title"] for m in results["methods"]}
    rows = []
    for over in BASELINES if lead else ():
        for protocol, name in wording.PROTOCOLS.items():
            chosen = {"method": lead["name"] if lead else "", "over": over, "protocol": protocol}
            gains = [g for g in pick(primary(results, "gains"), **chosen) if g["value"] is not None]
            if not gains:
                continue
            worst = min(gains, key=lambda g: g["value"])
            interval = formats.points_interval(worst["low"], worst["high"])
            tests = pick(results.get("comparisons", []), **chosen)
            rows.append(
                {
                    "over": _capital(wording.compared_with(over, titles)),
                    "protocol": name,
                    "higher": f"{sum(sign(g['value']) > 0 for g in gains)} of {len(gains)}",
                    "mean": formats.points(sum(g["value"] for g in gains) / len(gains)),
                    "worst": f"{worst['site']} {formats.points(worst['value'])}"
                    + (f" ({interval})" if interval else ""),
                    "p": formats.p_value(tests[0]["p_holm"]) if tests else formats.MISSING,
                    "verdict": wording.verdict(tests[0]) if tests else "not tested",
                }
            )
    return rows


def _facts(results: Row) -> list[tuple[str, str]]:
    sites = results["sites"]
    seeds = results["seeds"]
    facts = [("Sites", formats.count(len(sites))), _images(results)]
    if "corpus" in results:
        facts.append(("Public corpus", f"{formats.count(results['corpus']['images'])} images"))
    if "encoder" in results:
        encoder = results["encoder"]
        facts.append(
            (
                "Encoder",
                f"{encoder['preset']}, {encoder['parameters'] / 1e6:.1f} million parameters, "
                f"{encoder['image_size']} px images",
            )
        )
    facts.append(("Methods", formats.count(len(results["methods"]))))
    listed = ", ".join(map(str, seeds))
    facts.append(("Repeats (seeds)", f"{len(seeds)} ({listed})" if len(seeds) > 1 else "1"))
    return facts


def _images(results: Row) -> tuple[str, str]:
    sites = results["sites"]
    if not results.get("deployed"):
        return "Images at the sites", formats.count(sum(site["images"] for site in sites))
    told = [s["training_images"] for s in sites if s["training_images"] is not None]
    number = formats.count(sum(told)) if told else formats.MISSING
    missing = f" (told by {len(told)} of {len(sites)} sites)" if len(told) < len(sites) else ""
    return "Training images at the sites", f"{number}{missing}"


def _card(site: Row, index: int) -> dict[str, Any]:
    if "judged" in site:
        return _card_elsewhere(site, index)
    split = site["split"]
    patients = "not stated" if site["patients"] is None else formats.count(site["patients"])
    colours = "colour" if site["channels"] == 3 else "greyscale"
    classes = site["classes"]
    text = ", ".join(f"{part} {formats.count(split[part])}" for part in ("train", "val", "test"))
    bar = plots.share_bar(
        tuple((split[p], f"part-{p}") for p in ("train", "val", "test")),
        ident=f"split-{index}",
        title=f"Split of {site['name']}",
        desc=text,
    )
    return {
        "name": site["name"],
        "anchor": f"site-{index + 1}",
        "task": wording.TASKS[site["task"]],
        "images": formats.count(site["images"]),
        "unit": "images",
        "facts": [
            ("Patients", patients),
            ("Classes", f"{len(classes)}: {', '.join(classes)}" if classes else "a number"),
            (
                "Format",
                f"{site['format']}, {colours}, {formats.TIMES.join(map(str, site['size']))} px",
            ),
            ("Main metric", wording.metric(site["metric"])),
        ],
        "split": text,
        "bar": bar,
        "warnings": sum(f["severity"] != "info" for f in site["findings"]),
    }


def _card_elsewhere(site: Row, index: int) -> dict[str, Any]:
    """A site on another machine, of which the server knows little."""
    said = list(dict.fromkeys(wording.JUDGED[row["scores"]] for row in site["judged"]))
    return {
        "name": site["name"],
        "anchor": f"site-{index + 1}",
        "task": "its task and its classes are not known here",
        "images": formats.count(site["training_images"]),
        "unit": "training images" if site["training_images"] is not None else "images: not told",
        "facts": [("Scores", "; ".join(said) or formats.MISSING)],
        "split": "",
        "bar": "",
        "warnings": 0,
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tone(series: int) -> str:
    return f"m{series % plots.SERIES}"


def _mark(series: int) -> str:
    return plots.MARKERS[series % plots.SERIES]
