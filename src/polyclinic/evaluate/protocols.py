"""How an encoder is judged at a site: by linear probe, and by fine-tuning.

Both train on the site's training split, choose on its validation split, and touch the test split
once, at the end. They share one signature: (encoder, site, plan, *seed) -> Outcome.
"""

import typing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from polyclinic.config import DataConfig, EvaluationConfig, LocalConfig
from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.dense_probe import DenseProbe, draw_positions, fit_probes
from polyclinic.evaluate.metrics import Predictions, primary_metric
from polyclinic.evaluate.predictions import judge, predictions_of, score
from polyclinic.models.device import device
from polyclinic.models.encoder import Preset
from polyclinic.models.heads import build_head
from polyclinic.models.loading import features_with
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan, embed, fit_head, predict, site_plan, train

ProtocolName = Literal["linear-probe", "fine-tune"]

PENALTIES = (0.003, 0.03, 0.3, 3.0)
"""Inverse strengths of the probe's L2 penalty; the validation split chooses."""
DENSE_PENALTIES = (0.01, 0.001, 0.0001)
"""L2 penalties of the probe for segmentation; likewise."""


@dataclass(frozen=True)
class Outcome:
    """What judging gave: predictions for the test split, outputs as the network gave them."""

    predictions: Predictions
    outputs: NDArray[np.generic]  # as `models.training.predict`
    validation: float  # primary metric on the validation split


def linear_probe(
    preset: Preset, state: State, site: SiteData, plan: TrainPlan, *seed: int | str
) -> Outcome:
    """A linear model on frozen features.

    Classification: logistic regression with balanced classes on standardised embeddings, its
    penalty chosen on the validation split. Regression: ridge, likewise. Segmentation: a linear
    layer on the maps at every position (`evaluate.dense_probe`), likewise.
    """
    del plan  # nothing of the encoder is trained
    if site.task == "segmentation":
        return dense_linear_probe(preset, state, site, DENSE_PENALTIES, *seed)
    from sklearn.preprocessing import StandardScaler  # not for every message of a site

    encoder = features_with(preset, state)
    train_rows, val_rows, test_rows = (site.split[s] for s in ("train", "val", "test"))
    features = np.zeros((len(site), encoder.config.embedding))
    for rows in (train_rows, val_rows, test_rows):
        features[rows] = embed(encoder, site.images, rows=rows).cpu().numpy()
    scaler = StandardScaler().fit(features[train_rows])
    features = scaler.transform(features)
    metric = primary_metric(site.task)
    best: tuple[float, Any] | None = None
    for penalty in PENALTIES:
        model = fit_linear(site, features[train_rows], site.targets[train_rows], penalty)
        value = score(scores_of(site, model, features, val_rows), metric)
        if best is None or value > best[0]:
            best = (value, model)
    assert best is not None
    tested = scores_of(site, best[1], features, test_rows)
    return Outcome(tested, tested.scores, best[0])


def dense_linear_probe(
    preset: Preset, state: State, site: SiteData, penalties: Sequence[float], *seed: int | str
) -> Outcome:
    """`linear_probe` of a segmentation site, with the best of `penalties` on validation images."""
    encoder = features_with(preset, state)
    sample = draw_positions(encoder, site, *seed)
    best: tuple[float, DenseProbe] | None = None
    for probe in fit_probes(sample, site, penalties):
        value = score(judge(encoder, probe, site, "val"), "dice")
        if best is None or value > best[0]:
            best = (value, probe)
    assert best is not None
    outputs = predict(encoder, best[1], site, "test")
    return Outcome(predictions_of(outputs, site, "test"), outputs, best[0])


class Settings(typing.Protocol):
    """What judging needs of a configuration."""

    @property
    def data(self) -> DataConfig:
        """How images are prepared."""

    @property
    def local(self) -> LocalConfig:
        """How a site trains."""

    @property
    def evaluation(self) -> EvaluationConfig:
        """How encoders are judged."""


def protocol_plan(settings: Settings) -> TrainPlan:
    """The training that a protocol needs, as configured."""
    plan, e = site_plan(settings.data, settings.local), settings.evaluation
    return replace(plan, epochs=e.fine_tune_epochs, max_steps=e.fine_tune_max_steps)


def fine_tune(
    preset: Preset, state: State, site: SiteData, plan: TrainPlan, *seed: int | str
) -> Outcome:
    """A fresh head on frozen features, then head and encoder together (Kumar et al. 2022)."""
    encoder = features_with(preset, state)
    head = build_head(site.task, len(site.classes), encoder.config, seed=0).to(device())
    fit_head(encoder, head, site, plan, *seed)
    train(encoder, head, site, replace(plan, schedule="cosine"), *seed)
    validation = score(judge(encoder, head, site, "val"), primary_metric(site.task))
    outputs = predict(encoder, head, site, "test")
    return Outcome(predictions_of(outputs, site, "test"), outputs, validation)


Protocol = Callable[..., Outcome]
PROTOCOLS: dict[ProtocolName, Protocol] = {"linear-probe": linear_probe, "fine-tune": fine_tune}


def fit_linear(
    site: SiteData, features: NDArray[np.float64], targets: NDArray[np.generic], penalty: float
) -> Any:
    """Logistic regression, one for each of several labels, or ridge, with L2 of 1 / `penalty`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if site.task == "regression":
        return Ridge(alpha=1 / penalty).fit(features, targets)
    model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=300, tol=1e-3)
    # matrices this small are multiplied faster by one thread than by several
    with warnings.catch_warnings(), threadpool_limits(1):
        # the penalty is chosen on validation data; a fit that stopped early competes as it is
        warnings.simplefilter("ignore", ConvergenceWarning)
        # a rare label may be absent from the training split; its probability is then 0
        warnings.filterwarnings("ignore", "Label .* is present in all", UserWarning)
        if site.task == "multi-label":
            return OneVsRestClassifier(model).fit(features, targets)
        return model.fit(features, targets)


def scores_of(
    site: SiteData, model: Any, features: NDArray[np.float64], rows: NDArray[np.int64]
) -> Predictions:
    """What a model of `fit_linear` says about `rows` of the features (N, E)."""
    if site.task == "regression":
        scores = model.predict(features[rows])
    else:
        found = model.predict_proba(features[rows])
        if site.task == "multi-label":
            found = found[:, -len(site.classes) :]  # one label alone comes with its complement
        scores = np.zeros((len(rows), len(site.classes)))
        known: Sequence[int] = (
            range(len(site.classes)) if site.task == "multi-label" else model.classes_
        )
        scores[:, list(known)] = found
    return Predictions(site.task, site.targets[rows], scores, site.patients[rows])
