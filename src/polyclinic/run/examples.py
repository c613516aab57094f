"""Pictures of a site's test images with what was predicted, for the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.data.dataset import IGNORE, SiteData
from polyclinic.evaluate.protocols import Outcome
from polyclinic.models.state import disk_error

PER_SITE = 6


def write_examples(folder: Path, site: SiteData, outcome: Outcome) -> list[dict[str, Any]]:
    """Write example pictures of a site and `<site>.json` that describes them.

    Classification: the first test images of as many classes as possible. Segmentation: the images
    with the most foreground of as many patients as possible. Other tasks give none.
    """
    rows = site.split["test"]
    examples = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if site.task in ("single-label", "segmentation"):
            describe = _classified if site.task == "single-label" else _segmented
            for number, position in enumerate(_choose(site)):
                name = f"{site.name}-{number}"
                _save(folder / f"{name}.png", _pixels(site, rows[position]))
                about = describe(folder, name, site, outcome, position)
                examples.append({"site": site.name, "key": site.keys[rows[position]], **about})
        (folder / f"{site.name}.json").write_text(json.dumps(examples))
    except OSError as error:
        raise disk_error(error, folder) from None
    return examples


def read_examples(folder: Path) -> list[dict[str, Any]]:
    """All examples that `write_examples` described, by site."""
    return [e for path in sorted(folder.glob("*.json")) for e in json.loads(path.read_text())]


def _choose(site: SiteData) -> list[int]:
    rows = site.split["test"]
    if site.task == "segmentation":
        targets = site.targets[rows]
        foreground = ((targets != 0) & (targets != IGNORE)).sum((1, 2))
        groups: NDArray[np.generic] = site.patients[rows]
        order = np.argsort(-foreground, kind="stable")
    else:
        groups, order = site.targets[rows], np.arange(len(rows))
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


def _classified(
    folder: Path, name: str, site: SiteData, outcome: Outcome, position: int
) -> dict[str, Any]:
    scores = outcome.outputs[position]
    predicted = int(scores.argmax())
    return {
        "kind": "classification",
        "image": f"{folder.name}/{name}.png",
        "truth": site.classes[int(site.targets[site.split["test"]][position])],
        "predicted": site.classes[predicted],
        "probability": float(scores[predicted]),
    }


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
