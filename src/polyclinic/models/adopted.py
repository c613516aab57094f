"""A model in use at one site: encoder, head, calibration, and a sense of what it does not know.

FOLDER/
  model.safetensors   encoder, head, calibration, familiarity; nothing that could run
  model.json          task, classes, sizes, threshold, and what cross-validation found
  README.md           a card for people
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from polyclinic.data.dataset import TASKS, Task
from polyclinic.errors import RunError
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Encoder, Preset, build_encoder, pool
from polyclinic.models.exporting import refuse_runnable
from polyclinic.models.familiarity import Familiarity
from polyclinic.models.heads import build_head
from polyclinic.models.state import State, load_state, save_state, state_of

SCHEMA = "polyclinic.model/1"
WEIGHTS, FACTS = "model.safetensors", "model.json"
_EXPECTED = "expected a folder that `polyclinic adopt` wrote, which fits an encoder to labels"


@dataclass(frozen=True)
class Calibration:
    """From a head's outputs to probabilities.

    `shift` (K,) is added to the logits: minus the logarithm of the weights by which the loss was
    balanced, so that probabilities follow how often classes are at the site. Then they are divided
    by `temperature` (Guo et al. 2017, arXiv 1706.04599). A regression's outputs are multiplied by
    `shift[1]` and moved by `shift[0]`; label maps are taken as they are.
    """

    shift: Tensor
    temperature: float = 1.0


@dataclass(frozen=True)
class Adopted:
    """A site's model. `facts` is what `model.json` says besides, for people and for the card."""

    encoder: Encoder
    head: nn.Module
    preset: Preset
    task: Task
    classes: tuple[str, ...]
    image_size: int  # px
    largest_side: int  # px
    calibration: Calibration
    familiarity: Familiarity
    least_confidence: float  # below it the model abstains
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """What a model says about B images.

    `scores`: probabilities (B, K), values (B,), or label maps (B, H, W). `confidence` (B,) is in
    0..1, see `confidence_of`; `strangeness` (B,) is in 0..1, see `Familiarity`.
    """

    scores: Tensor
    confidence: Tensor
    strangeness: Tensor


@torch.no_grad()
def answer(model: Adopted, images: Tensor) -> Answers:
    """Answers about images (B, 1 or 3, H, W) in 0..1, on the device that computes.

    Raises `RunError` where outputs are not finite.
    """
    images = images.to(device())
    with autocast():
        maps = model.encoder(images)
        outputs = model.head(maps, (images.shape[2], images.shape[3])).float()
        features = pool(maps).float()
    if not bool(outputs.isfinite().all()):
        raise RunError("the model's outputs are NaN or infinite; adopt the encoder again")
    scores, confidence = settle(model.task, outputs, model.calibration)
    return Answers(scores.cpu(), confidence.cpu(), model.familiarity.strangeness(features).cpu())


def settle(task: Task, outputs: Tensor, calibration: Calibration) -> tuple[Tensor, Tensor]:
    """A head's outputs to scores and confidence, both as in `Answers`.

    Confidence: of one label, its probability; of several, the smallest over labels of the larger
    of yes and no; of a label map, the Dice that the model expects of it; of a number, 1.
    """
    shift = calibration.shift.to(outputs.device)
    if task == "regression":
        values = outputs[:, 0] * shift[1] + shift[0]
        return values, torch.ones_like(values)
    if task == "segmentation":
        return outputs.argmax(1).to(torch.uint8), _expected_dice(outputs.softmax(1))
    logits = (outputs + shift) / calibration.temperature
    if task == "single-label":
        probabilities = logits.softmax(1)
        return probabilities, probabilities.max(1).values
    probabilities = logits.sigmoid()
    return probabilities, torch.maximum(probabilities, 1 - probabilities).min(1).values


def _expected_dice(probabilities: Tensor) -> Tensor:
    """Dice of the predicted foreground against the model's own probabilities of it, (B,)."""
    inside = probabilities.argmax(1) > 0
    foreground = 1 - probabilities[:, 0]
    overlap = (foreground * inside).sum((1, 2))
    return (2 * overlap + 1) / (foreground.sum((1, 2)) + inside.sum((1, 2)) + 1)


def save_adopted(model: Adopted, folder: Path) -> None:
    """Write weights and facts into `folder`; `RunError` where the disk is full."""
    state: State = {f"encoder.{k}": v for k, v in state_of(model.encoder).items()}
    state |= {f"head.{k}": v for k, v in state_of(model.head).items()}
    known = model.familiarity
    state |= {f"familiarity.{f.name}": getattr(known, f.name).cpu() for f in fields(known)}
    state["calibration.shift"] = model.calibration.shift.cpu()
    save_state(state, folder / WEIGHTS, {"schema": SCHEMA}, for_others=True)
    facts = {
        "schema": SCHEMA,
        "preset": model.preset,
        "task": model.task,
        "classes": list(model.classes),
        "image_size": model.image_size,
        "largest_side": model.largest_side,
        "temperature": model.calibration.temperature,
        "least_confidence": model.least_confidence,
        **model.facts,
    }
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    (folder / FACTS).write_text(text, encoding="utf-8")


def load_adopted(folder: Path) -> Adopted:
    """What `save_adopted` wrote, on the device that computes, ready for inference.

    Raises `RunError` where anything in it could run code, is missing, damaged, or of another kind.
    """
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no such folder"
        raise RunError(f"{folder}: {what}; {_EXPECTED}")
    # Answers may lie below: thousands of masks, compressed ones among them.
    refuse_runnable(folder, _EXPECTED, subfolders=False)
    if not (folder / FACTS).is_file():
        raise RunError(f"{folder}: no {FACTS} in it; {_EXPECTED}")
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts.get("schema") != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA!r}, got {facts.get('schema')!r}")
        preset, task, classes = facts["preset"], facts["task"], tuple(facts["classes"])
        if preset not in get_args(Preset) or task not in TASKS:
            raise ValueError(f"preset {preset!r} or task {task!r} is unknown")
        state = load_state(folder / WEIGHTS)
        encoder = build_encoder(preset, seed=0)
        encoder.load_state_dict(_part(state, "encoder."))
        head = build_head(task, len(classes), encoder.config, seed=0)
        head.load_state_dict(_part(state, "head."))
        where = device()
        known = {name: value.to(where) for name, value in _part(state, "familiarity.").items()}
        calibration = Calibration(state["calibration.shift"], float(facts["temperature"]))
        return Adopted(
            encoder.to(where).eval(),
            head.to(where).eval(),
            preset,
            task,
            classes,
            int(facts["image_size"]),
            int(facts["largest_side"]),
            calibration,
            Familiarity(**known),
            float(facts["least_confidence"]),
            facts,
        )
    except RunError as error:
        reason = str(error).partition(";")[0]
        raise RunError(f"{reason}; {_EXPECTED}; adopt the encoder again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise RunError(f"{folder}: not a model that can be read ({reason}); {_EXPECTED}") from None


def _part(state: State, prefix: str) -> State:
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
