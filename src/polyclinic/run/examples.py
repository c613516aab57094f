"""Pictures of a site's test images with what was predicted, for the report."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyclinic.data.dataset import IGNORE, SiteData
from polyclinic.evaluate.protocols import Outcome
from polyclinic.models.state import disk_error

PER_SITE = 6


def write_examples(
    folder: Path, site: SiteData, method: str, outcome: Outcome
) -> list[dict[str, Any]]:
    """Write example pictures of a site and `<site>.json` that describes them.

    Classification: the first test images of as many classes, or sets of labels, as possible.
    Regression: from the smallest true value to the largest, at equal distances in rank.
    Segmentation: the images with the most foreground of as many patients as possible.
    `method` is what made `outcome`. Raises `RunError` when the disk is full.
    """
    rows = site.split["test"]
    examples = []
    describe = _segmented if site.task == "segmentation" else _named
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, position in enumerate(_choose(site)):
            name = f"{site.name}-{number}"
            _save(folder / f"{name}.png", _pixels(site, rows[position]))
            about = describe(folder, name, site, outcome, position)
            key = site.keys[rows[position]]
            examples.append({"site": site.name, "method": method, "key": key, **about})
        (folder / f"{site.name}.json").write_text(json.dumps(examples))
    except OSError as error:
        raise disk_error(error, folder) from None
    return examples


def read_examples(folder: Path, methods: Collection[str]) -> list[dict[str, Any]]:
    """The examples that `write_examples` described, by site, of one of `methods`."""
    found = [e for path in sorted(folder.glob("*.json")) for e in json.loads(path.read_text())]
    # a run that an earlier version began does not say whose predictions they are
    return [e for e in found if "method" not in e or e["method"] in methods]


def _choose(site: SiteData) -> list[int]:
    """Positions within the test split of the images to show."""
    rows = site.split["test"]
    targets = site.targets[rows]
    if site.task == "regression":
        ranks = np.linspace(0, len(rows) - 1, min(PER_SITE, len(rows))).round().astype(np.int64)
        spread: list[int] = np.argsort(targets, kind="stable")[ranks].tolist()
        return spread
    if site.task == "segmentation":
        foreground = ((targets != 0) & (targets != IGNORE)).sum((1, 2))
        groups = site.patients[rows].tolist()
        order = np.argsort(-foreground, kind="stable")
    else:
        groups = [target.tobytes() for target in targets]  # of one class, or one set of labels
        order = np.arange(len(rows))
    chosen: list[int] = []
    while len(chosen) < min(PER_SITE, len(rows)):
        seen = set()
        for position in order.tolist():
            if position not in chosen and groups[position] not in seen:
                seen.add(groups[position])
                chosen.append(position)
            if len(chosen) == PER_SITE:
                break
    return chosen


def _named(
    folder: Path, name: str, site: SiteData, outcome: Outcome, position: int
) -> dict[str, Any]:
    """Truth and prediction as text: a class, labels (0.5 is a yes), or a number."""
    target, output = site.targets[site.split["test"]][position], outcome.outputs[position]
    probability = None
    if site.task == "single-label":
        truth, predicted = site.classes[int(target)], site.classes[int(output.argmax())]
        probability = float(output.max())
    elif site.task == "multi-label":
        truth, predicted = _labels(site, target == 1), _labels(site, output >= 0.5)
    else:
        truth, predicted = f"{target:.4g}", f"{output:.4g}"
    return {
        "kind": "classification",
        "image": f"{folder.name}/{name}.png",
        "truth": truth,
        "predicted": predicted,
        "probability": probability,
    }


def _labels(site: SiteData, present: Any) -> str:
    return ", ".join(c for c, here in zip(site.classes, present, strict=True) if here) or "none"


def _segmented(
    folder: Path, name: str, site: SiteData, outcome: Outcome, position: int
) -> dict[str, Any]:
    truth = site.targets[site.split["test"]][position].astype(np.uint8)
    predicted = outcome.outputs[position].astype(np.uint8)
    known = truth != IGNORE
    truth, predicted = truth * known, predicted * known
    _save(folder / f"{name}-truth.png", truth)
    _save(folder / f"{name}-predicted.png", predicted)
    both = ((truth > 0) & (predicted > 0)).sum()
    total = (truth > 0).sum() + (predicted > 0).sum()
    return {
        "kind": "segmentation",
        "image": f"{folder.name}/{name}.png",
        "truth_mask": f"{folder.name}/{name}-truth.png",
        "predicted_mask": f"{folder.name}/{name}-predicted.png",
        "dice": float(2 * both / total) if total else 1.0,
    }


def _pixels(site: SiteData, row: int) -> Any:
    image = site.images[row]
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _save(path: Path, pixels: Any) -> None:
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
