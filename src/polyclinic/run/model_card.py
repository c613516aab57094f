"""The card of an exported encoder, filled from the results of its run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from polyclinic.run.claims import weight_claims

Row = Mapping[str, Any]
MISSING = "-"


def model_card(results: Row, method: str, seed: int, digest: str, audit: Row | None = None) -> str:
    """Markdown: data by site, method, figures with intervals, limits, intended use, licence.

    `results` is the content of the run's results.json, `audit` of its audit.json where there is
    one, which is quoted if it is of this method and seed; `digest` the weights' SHA-256.
    """
    titles = {m["name"]: m["title"] for m in results["methods"]}
    summaries = {m["name"]: m["summary"] for m in results["methods"]}
    encoder = results["encoder"]
    lines = [
        f"# {results['name']}: a medical-imaging encoder, {titles[method]}",
        "",
        f"{encoder['preset']}, {encoder['parameters']:,} parameters, for images of any size "
        f"(trained at {encoder['image_size']} px), with one or three channels in 0..1.",
        "",
        "```python",
        "import polyclinic",
        "",
        'encoder = polyclinic.load_encoder("this-folder")  # a torch.nn.Module',
        "embedding = encoder.embed(images)  # (B, 1 or 3, H, W) to (B, embedding)",
        "```",
        "",
        *_warnings(results),
        "## Data",
        "",
        "What each site held. None of it left its site, and none of it is in this folder.",
        "",
        *_data(results["sites"]),
        "",
        f"Public corpus of the server, without labels: {results['corpus']['images']} images.",
        "",
        "## Method",
        "",
        f"{summaries[method]} Trained by Polyclinic {results['version']}, seed {seed}; these are "
        "the weights of that seed. The complete configuration is in the run's config.json.",
        "",
        "## Figures",
        "",
        f"Means over {_seeds(results['seeds'])} of this method, on test images that nothing was "
        f"trained on or chosen by, {_certainty(results)} The encoder "
        "alone is in this folder; each figure needs a head that is fitted to the site's labels.",
        "",
        *_scores(results, method),
        "",
        *_gains(results, method, titles),
        *_held_out(results, method),
        *_audited(audit, method, seed),
        *_limits(results, method, seed),
        *_closing(results, digest),
    ]
    return "\n".join(lines) + "\n"


def _warnings(results: Row) -> list[str]:
    notes = []
    if not results["finished"]:
        notes.append("**The run had not finished when this was written.**")
    if results["quick"]:
        notes.append("**A quick run: reduced settings, to see whether everything works.**")
    return [line for note in notes for line in (note, "")]


def _data(sites: Sequence[Row]) -> list[str]:
    rows = [
        "| Site | Task | Images: train, val, test | Patients | Classes |",
        "|---|---|---|---|---|",
    ]
    for site in sites:
        if "judged" in site:  # on another machine
            known = site["training_images"]
            number = "not told" if known is None else f"{known}, not told, not told"
            rows.append(f"| {site['name']} | not told | {number} | not told | not told |")
            continue
        split = ", ".join(str(site["split"][part]) for part in ("train", "val", "test"))
        patients = "not stated" if site["patients"] is None else site["patients"]
        classes = ", ".join(site["classes"]) or "a number"
        rows.append(f"| {site['name']} | {site['task']} | {split} | {patients} | {classes} |")
    return rows


def _certainty(results: Row) -> str:
    if results.get("deployed"):
        return (
            "as the sites told them, each by its own primary metric. Intervals stay at the sites, "
            "and so do the scores of sites that keep theirs."
        )
    return "with 95 % intervals of a bootstrap over patients."


def _scores(results: Row, method: str) -> list[str]:
    rows = ["| Site | Judged by | Metric | Value | 95 % interval |", "|---|---|---|---|---|"]
    for score in results["scores"]:
        if score["method"] == method and score["primary"]:
            rows.append(
                f"| {score['site']} | {score['protocol']} | {score['metric']} "
                f"| {_number(score['value'])} | {_span(score)} |"
            )
    silent = [
        site["name"]
        for site in results["sites"]
        if any(r["method"] == method and r["scores"] != "told" for r in site.get("judged", []))
    ]
    if silent:
        rows += ["", f"Not told, in at least one training: {', '.join(silent)}."]
    return rows


def _gains(results: Row, method: str, titles: Mapping[str, str]) -> list[str]:
    found = [g for g in results["gains"] if g["method"] == method]
    found.sort(key=lambda g: math.inf if g["value"] is None else g["value"])
    if not found:
        return []
    rows = ["| Site | Judged by | Over | Gain | 95 % interval |", "|---|---|---|---|---|"]
    rows += [
        f"| {g['site']} | {g['protocol']} | {titles.get(g['over'], g['over'])} "
        f"| {_number(g['value'], '+.3f')} | {_span(g, '+.3f')} |"
        for g in found
    ]
    return ["Differences to other methods at the same sites, the worst first:", "", *rows, ""]


def _held_out(results: Row, method: str) -> list[str]:
    found = results.get("held_out", {"scores": []})["scores"]
    mine = [s for s in found if s["method"] == method and s["primary"]]
    if not mine:
        return []
    rows = ["| Site | Labels a class | Metric | Value | 95 % interval |", "|---|---|---|---|---|"]
    rows += [
        f"| {s['site']} | {s['labels_per_class'] or 'all'} | {s['metric']} "
        f"| {_number(s['value'])} | {_span(s)} |"
        for s in mine
    ]
    return ["At sites that took no part, by linear probe:", "", *rows, ""]


def _audited(audit: Row | None, method: str, seed: int) -> list[str]:
    """What attacks found, of the run's own training alone: no victim that was made to leak."""
    if audit is None or (audit["run"]["method"], audit["run"]["seed"]) != (method, seed):
        return []
    made = ("made to leak", "protected")  # protected ones are the same victims, in protection
    rows = [row for row in audit["rows"] if row["kind"] not in made]
    if not rows:
        return []
    table = ["| Attack | Setting | Measure | Value | Baseline or claim | Verdict |"]
    table.append("|---|---|---|---|---|---|")
    for row in rows:
        value = f"{row['value']:.3g}"
        if row["low"] is not None and row["high"] is not None:
            value += f" ({row['low']:.3g} to {row['high']:.3g})"
        baseline = MISSING if row["baseline"] is None else f"{row['baseline']:.3g}"
        table.append(
            f"| {row['attack']} | {row['setting']}, {row['kind']} | {row['measure']} | {value} "
            f"| {baseline} | {row['verdict']} |"
        )
    names = ", ".join(site["name"] for site in audit["sites"])
    note = f"By `polyclinic audit` at {names}, on the run's own training and mechanisms."
    if audit["quick"]:
        note += " A quick audit, which shows little."
    if audit["missed"]:
        note += f" Failed where they must succeed: {', '.join(audit['missed'])}."
    note += " An attack that fails is no proof of safety."
    return ["## Privacy audit", "", note, "", *table, ""]


def _limits(results: Row, method: str, seed: int) -> list[str]:
    nameless = [s["name"] for s in results["sites"] if s.get("patients", "unknown") is None]
    size = results["encoder"]["image_size"]
    notes = [
        f"Trained on images of {size} px: what is finer than that shows was never seen.",
        "Volumes are treated slice by slice.",
        "Figures hold for the sites above. Other hospitals, devices and patients need their own; "
        "`polyclinic adopt` and `polyclinic evaluate` measure them.",
        _guarantee(results, method, seed),
        "Whether it works alike for all groups of patients was not measured.",
    ]
    if nameless:
        notes.append(
            f"No patient numbers at {', '.join(nameless)}: images of one patient may be on both "
            "sides of the split there, and the scores too good."
        )
    if results.get("deployed"):
        notes.append(
            "What the sites hold is known to them alone. Where data name no patients, images of "
            "one patient may be on both sides of the split, and the scores too good."
        )
    if len(results["seeds"]) == 1:
        notes.append("One seed: how much training again would change the figures is not known.")
    return ["## Limits", "", *(f"- {note}" for note in notes), ""]


def _guarantee(results: Row, method: str, seed: int) -> str:
    claims = weight_claims(results, method, seed)
    if not claims:
        return "The weights carry no formal guarantee of privacy."
    return (
        f"{' '.join(claims)} That is claimed of these weights, not of the figures above, under the "
        "assumptions in the run's results.json. Each other method and seed of the run that is "
        "published as well adds its own."
    )


def _closing(results: Row, digest: str) -> list[str]:
    return [
        "## Intended use",
        "",
        "Research: features for classification, regression and segmentation of medical images, "
        "after a head was fitted and judged on the user's own data. It is no medical device, and "
        "nobody should be treated by its answers.",
        "",
        "## Licence",
        "",
        "Polyclinic's code is under Apache-2.0. These weights come from the data above, whose "
        "licences and consents Polyclinic does not know: state here under what terms they may be "
        "passed on, before you pass them on.",
        "",
        "## Provenance",
        "",
        f"Run written {results['created']}; SHA-256 of the weights {digest}.",
    ]


def _seeds(seeds: Sequence[int]) -> str:
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _number(value: float | None, form: str = ".3f") -> str:
    return MISSING if value is None else format(value, form)


def _span(row: Row, form: str = ".3f") -> str:
    if row["low"] is None or row["high"] is None:
        return MISSING
    return f"{_number(row['low'], form)} to {_number(row['high'], form)}"
