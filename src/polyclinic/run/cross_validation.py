"""Fitting an encoder to a site's labels, and judging that by cross-validation over patients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.calibration import calibration_error, fit_temperature, likelihood
from polyclinic.evaluate.metrics import Predictions, segmentation_counts
from polyclinic.models.adopted import Calibration, settle
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Encoder, pool
from polyclinic.models.familiarity import Familiarity, fit_familiarity
from polyclinic.models.heads import build_head
from polyclinic.models.loading import encoder_with
from polyclinic.models.training import TrainPlan, embed, fit_head, site_weights, train
from polyclinic.run.encoder_source import TrainedEncoder
from polyclinic.run.progress import Progress, Tell, silent

ABSENT = -1e4
"""Added to the logit of a class that a fold could not learn, for want of a single image."""


@dataclass(frozen=True)
class AdoptPlan:
    """How a site adopts an encoder. `coverage` is the share of images that it wants answered."""

    fine_tune: bool = False
    coverage: float = 0.9
    folds: int = 5
    seed: int = 0
    epochs: int = 3
    min_steps: int = 24
    max_steps: int = 40
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    head_epochs: int = 3  # of a segmentation head
    bootstrap: int = 1000
    max_unreadable: float = 0.05


@dataclass(frozen=True)
class Judged:
    """What cross-validation found: each image answered by a model without its patient."""

    predictions: Predictions
    confidence: NDArray[np.float64]  # (N,)
    distances: NDArray[np.float64]  # (N,)
    temperature: float
    before: Mapping[str, float]  # calibration without the temperature
    after: Mapping[str, float]


@dataclass(frozen=True)
class Fitted:
    """Encoder and head, and what turns their outputs into answers."""

    encoder: Encoder
    head: nn.Module
    calibration: Calibration
    familiarity: Familiarity


def cross_validate(
    found: TrainedEncoder,
    site: SiteData,
    folds: NDArray[np.int64],
    plan: AdoptPlan,
    tell: Tell = silent,
) -> Judged:
    """Judge what `adopt` would make of `site`, on patients that each fit has not seen.

    `folds` (N,) numbers the fold of each image. The temperature is fitted to all held-out logits
    together, by which its own measure, the calibration error after it, is slightly flattered.
    """
    N, K = len(site), len(site.classes)
    learned = np.ones(N, np.bool_)  # whether the fold of an image had others of its class
    outputs: dict[int, Tensor] = {}
    confidence, distances = np.ones(N), np.zeros(N)
    counts = np.zeros((N, max(0, K - 1), 3), np.int64)
    count = int(folds.max()) + 1
    for number in range(count):
        share = number / (count + 1)
        tell(Progress("adopt", share, site=site.name, stage=number + 1, stages=count))
        held = np.flatnonzero(folds == number)
        part = replace(site, split={**site.split, "train": np.flatnonzero(folds != number)})
        fitted = fit(found, part, plan, number)
        for rows, features, raw in _outputs(fitted, site, held):
            distances[rows] = fitted.familiarity.distance(features).cpu().double().numpy()
            if site.task == "segmentation":
                maps, sure = settle(site.task, raw, fitted.calibration)
                truth = site.targets[rows].astype(np.uint8)
                counts[rows] = segmentation_counts(maps.cpu().numpy(), truth, K)
                confidence[rows] = sure.cpu().double().numpy()
                continue
            if site.task == "regression":
                told, _ = settle(site.task, raw, fitted.calibration)
            else:
                told = raw + fitted.calibration.shift
            if site.task == "single-label":
                absent = fitted.calibration.shift.cpu().numpy() == ABSENT
                learned[rows] = ~absent[site.targets[rows].astype(np.int64)]
            outputs |= dict(zip(rows.tolist(), told.cpu(), strict=True))
    clusters = site.patients
    if site.task == "segmentation":
        return Judged(Predictions.segmentation(counts, clusters), confidence, distances, 1, {}, {})
    logits = torch.stack([outputs[row] for row in range(N)])
    if site.task == "regression":
        values = logits.double().numpy()
        predictions = Predictions(site.task, site.targets, values, clusters)
        return Judged(predictions, confidence, distances, 1.0, {}, {})
    # no temperature could help where a fold knew nothing of the class
    temperature = fit_temperature(site.task, logits[learned], site.targets[learned])
    nothing = Calibration(torch.zeros(K))
    before = settle(site.task, logits, nothing)
    scores, sure = settle(site.task, logits, replace(nothing, temperature=temperature))
    predictions = Predictions(site.task, site.targets, scores.double().numpy(), clusters)
    return Judged(
        predictions,
        sure.double().numpy(),
        distances,
        temperature,
        _calibration(site, learned, logits, *before),
        _calibration(site, learned, logits / temperature, scores, sure),
    )


def fit(found: TrainedEncoder, site: SiteData, plan: AdoptPlan, part: int | str) -> Fitted:
    """A head (and encoder) fitted to the training split of `site`."""
    encoder = encoder_with(found.preset, found.state)
    head = build_head(site.task, len(site.classes), encoder.config, seed=plan.seed).to(device())
    rows = site.split["train"]
    trained = TrainPlan(
        size=found.image_size,
        epochs=plan.epochs,
        min_steps=plan.min_steps,
        max_steps=plan.max_steps,
        batch_size=min(plan.batch_size, max(2, len(rows))),
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        dense_head_epochs=plan.head_epochs,
        schedule="cosine",
    )
    fit_head(encoder, head, site, trained, plan.seed, "adopt", part)
    if plan.fine_tune:
        train(encoder, head, site, trained, plan.seed, "adopt", part)
    encoder.eval()
    head.eval()
    features = embed(encoder, site.images[rows])
    one = site.task == "single-label"
    groups = site.targets[rows].astype(np.int64) if one else np.zeros(len(rows), np.int64)
    known = fit_familiarity(features, groups)
    where = device()
    parts = (known.centre, known.scale, known.means, known.precision, known.held_out)
    familiarity = Familiarity(*(p.to(where) for p in parts))
    return Fitted(encoder, head, Calibration(_shift(site)), familiarity)


def _shift(site: SiteData) -> Tensor:
    """What takes the balance of the loss back, see `Calibration`."""
    weights = site_weights(site)
    if site.task == "regression":
        return weights
    if site.task == "segmentation":
        return torch.zeros_like(weights)
    taken_back = -weights.clamp_min(1e-12).log()
    return torch.where(weights > 0, taken_back, torch.full_like(weights, ABSENT))


@torch.no_grad()
def _outputs(
    fitted: Fitted, site: SiteData, rows: NDArray[np.int64], batch_size: int = 64
) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """Yield (rows, features, outputs) of the head for images of a site."""
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        images = torch.from_numpy(site.images[chosen]).to(device()).float() / 255
        with autocast():
            maps = fitted.encoder(images)
            outputs = fitted.head(maps, (images.shape[2], images.shape[3]))
        yield chosen, pool(maps).float(), outputs.float()


def _calibration(
    site: SiteData,
    learned: NDArray[np.bool_],
    logits: Tensor,
    probabilities: Tensor,
    confidence: Tensor,
) -> dict[str, float]:
    """Calibration error of all answers, likelihood of those that could be right."""
    scores = probabilities.double().numpy()
    if site.task == "single-label":
        right = (scores.argmax(1) == site.targets).astype(np.float64)
        error = calibration_error(confidence.double().numpy(), right)
    else:
        error = calibration_error(scores.ravel(), site.targets.astype(np.float64).ravel())
    return {
        "likelihood": likelihood(site.task, logits[learned], site.targets[learned]),
        "error": error,
    }
