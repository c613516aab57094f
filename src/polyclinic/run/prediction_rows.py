"""One image's answer as a row of the table."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.data.dataset import Item
from polyclinic.data.dicom.header import reason_of
from polyclinic.errors import RunError
from polyclinic.models.adopted import Adopted
from polyclinic.models.familiarity import UNFAMILIAR
from polyclinic.run.prediction_items import Inputs


@dataclass(frozen=True)
class Decoded:
    """An image as the network takes it, uint8 (C, S, S), and its `size` (H, W) in the file."""

    pixels: NDArray[np.uint8] | None
    size: tuple[int, int] = (0, 0)
    reason: str = ""


@dataclass(frozen=True)
class Said:
    """What the model said about one image; `score` as a row of `Answers.scores`."""

    score: NDArray[np.generic]
    confidence: float
    strangeness: float


@dataclass(frozen=True)
class Mask:
    """Where a label map was written, relative to the folder of the table, or why it was not."""

    path: str = ""
    problem: str = ""


def columns(model: Adopted) -> list[str]:
    """The header of the table: what each column holds is in docs/using.md."""
    first = ["file", "patient", "prediction"]
    if model.task == "segmentation":
        first += [*(f"pixels {name}" for name in model.classes[1:]), "mask"]
    elif model.task != "regression":
        first += [f"probability {name}" for name in model.classes]
    last = ["abstain", "why", "out of distribution", "problem"]
    return first + ([] if model.task == "regression" else ["confidence"]) + last


def row_of(
    model: Adopted,
    inputs: Inputs,
    item: Item,
    decoded: Decoded,
    said: Said | None,
    mask: Mask | None = None,
) -> list[str]:
    """One row of the table, as `columns` names its cells; `mask` where the model draws them."""
    names = columns(model)
    row = dict.fromkeys(names, "")
    row |= {"file": item.key, "patient": inputs.patients.get(item.key, "")}
    if said is None:
        row |= {"abstain": "yes", "why": "unreadable", "problem": decoded.reason}
        return [row[name] for name in names]
    why = why_not(model, said)
    row |= {
        "abstain": "yes" if why else "no",
        "why": why,
        "out of distribution": f"{said.strangeness:.4f}",
    }
    if "confidence" in row:
        row["confidence"] = f"{said.confidence:.6f}"
    score = said.score
    if model.task == "regression":
        row["prediction"] = f"{float(score):.6g}"
    elif model.task == "segmentation":
        whole = restored(score, decoded.size)
        count = np.bincount(whole.ravel(), minlength=len(model.classes))
        areas = dict(zip(model.classes[1:], count[1:].tolist(), strict=True))
        row["prediction"] = "; ".join(name for name, area in areas.items() if area) or "none"
        row |= {f"pixels {name}": str(area) for name, area in areas.items()}
        if mask:
            row |= {"mask": mask.path, "problem": mask.problem}
    else:
        chances = score.astype(np.float64)
        row |= {f"probability {n}": f"{p:.6f}" for n, p in zip(model.classes, chances, strict=True)}
        if model.task == "single-label":
            row["prediction"] = model.classes[int(chances.argmax())]
        else:
            yes = [n for n, p in zip(model.classes, chances, strict=True) if p >= 0.5]
            row["prediction"] = "; ".join(yes) or "none"
    return [row[name] for name in names]


def why_not(model: Adopted, said: Said) -> str:
    """Why the model abstains from an image: `unfamiliar`, `unsure`, or empty where it answers."""
    if said.strangeness >= UNFAMILIAR:
        return "unfamiliar"
    return "unsure" if said.confidence < model.least_confidence else ""


def kinds_of_rows(table: Path) -> Iterator[str]:
    """`answered`, `abstained` or `unreadable`, for each row of a table that was written before."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                kind = "abstained" if row["abstain"] == "yes" else "answered"
                yield "unreadable" if row["why"] == "unreadable" else kind
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise RunError(
            f"{table}: not the table that was written ({reason_of(error)}); move it away and begin "
            "again without --resume, or choose another --out"
        ) from None


def restored(labels: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A label map (S, S) of a padded, perhaps reduced image, at the image's own size (H, W)."""
    S, longer = labels.shape[0], max(size)
    reduced = (max(1, round(length * S / longer)) for length in size)
    height, width = reduced if longer > S else size
    top, left = (S - height) // 2, (S - width) // 2
    inner = labels[top : top + height, left : left + width].astype(np.uint8)
    if (height, width) == size:
        return np.ascontiguousarray(inner)
    return np.asarray(Image.fromarray(inner).resize(size[::-1], Image.Resampling.NEAREST))
