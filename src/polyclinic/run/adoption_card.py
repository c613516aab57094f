"""The card of an adopted model: what it answers, how good it was here, and when it should not."""

from polyclinic.evaluate.metrics import primary_metric
from polyclinic.models.adopted import Adopted
from polyclinic.models.familiarity import UNFAMILIAR

_NAMES = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "dice": "Dice",
    "r2": "R²",
    "d2_absolute_error": "D² of absolute errors",
}
_ERRORS = {
    "single-label": "the share of images of which another class was said",
    "multi-label": "the share of images of which any label was wrong",
    "segmentation": "1 minus Dice, the mean over images",
}


def adoption_card(model: Adopted) -> str:
    """Markdown for people, from what `model` knows of itself."""
    facts = model.facts
    patients = facts["patients"]
    who = f"{patients} patients" if patients else "no patient numbers, each image on its own"
    one, seen = ("patient", "its patient") if patients else ("image", "it")
    encoder = ", ".join(f"{key} {value}" for key, value in facts["encoder"].items())
    how = "fine-tuned with the head" if facts["fine_tuned"] else "frozen; only the head was fitted"
    lines = [
        f"# A model for {facts['site']}",
        "",
        f"Made by Polyclinic {facts['version']} from a federated encoder ({encoder}), which was "
        f"{how}.",
        "",
        "## What it was fitted to",
        "",
        f"{facts['images']} images ({who}), task {model.task}.",
        "",
        *_classes(model),
        "## How good it is, as far as these images can tell",
        "",
        f"Cross-validation by {one} in {facts['folds']} parts: every image was judged by a model "
        f"that had not seen {seen}. The intervals are 95 % intervals of a bootstrap over "
        f"{one}s. The model in this folder was then fitted to all images.",
        "",
        "| Measure | Value | 95 % interval |",
        "|---|---|---|",
    ]
    main = primary_metric(model.task)
    for name, row in facts["estimates"].items():
        title = _NAMES.get(name, name) + (" (primary)" if name == main else "")
        span = f"{_number(row['low'])} to {_number(row['high'])}" if row["low"] is not None else "-"
        lines.append(f"| {title} | {_number(row['value'])} | {span} |")
    lines += ["", *_calibration(model), *_coverage(model), *_limits(model)]
    return "\n".join(lines) + "\n"


def _classes(model: Adopted) -> list[str]:
    counts = model.facts["images_by_class"]
    if not counts:
        return []
    names = model.classes[1:] if model.task == "segmentation" else model.classes
    rows = [f"| {name} | {count} |" for name, count in zip(names, counts, strict=True)]
    return ["| Class | Images |", "|---|---|", *rows, ""]


def _calibration(model: Adopted) -> list[str]:
    facts = model.facts
    before, after = facts["calibration"]["before"], facts["calibration"]["after"]
    if not after:
        return []
    return [
        "## Calibration",
        "",
        f"Temperature {_number(model.calibration.temperature)}, fitted to the held-out answers. "
        f"Expected calibration error {_number(before['error'])} without it and "
        f"{_number(after['error'])} with it (measured on the answers that it was fitted to).",
        "",
    ]


def _coverage(model: Adopted) -> list[str]:
    rows = model.facts["coverage"]
    if not rows:
        return []
    return [
        "## When it abstains",
        "",
        f"Below a confidence of {_number(model.least_confidence)}. In cross-validation, with the "
        f"error {_ERRORS.get(model.task, '')}:",
        "",
        "| Answered, the surest | Confidence from | Error of these |",
        "|---|---|---|",
        *(
            f"| {100 * row['share']:.0f} % | {_number(row['confidence'])} "
            f"| {_number(row['error'])} |"
            for row in rows
        ),
        "",
        "It abstains as well from images that lie further from those it was fitted to than "
        f"{100 * UNFAMILIAR:.0f} % of the held-out ones did.",
        "",
    ]


def _limits(model: Adopted) -> list[str]:
    facts = model.facts
    notes = [
        "Research software; no medical device. Nobody should be treated by its answers alone.",
        "The figures hold for patients and scanners like those above. Another hospital, another "
        "device or another decade needs its own.",
        "An image that is unlike these may still look familiar to the out-of-distribution score, "
        "which compares features that the network has learned for other purposes.",
    ]
    if facts["patients"] is None:
        notes.append(
            "Without patient numbers, images of one patient may have been on both sides of the "
            "cross-validation; then the figures are too good."
        )
    if facts["images"] < 100:
        notes.append("So few images leave wide intervals, and even these are too narrow.")
    notes += [f"{f['where'] or 'the data'}: {f['what']}" for f in facts["findings"][:10]]
    return ["## Limits", "", *(f"- {note}" for note in notes)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
