"""An encoder judged as it is: nearest neighbours, and linear probes on few labels.

All have the signature of `evaluate.protocols`: (encoder, site, plan, *seed) -> Outcome.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SPLITS, SiteData, Split
from polyclinic.evaluate.folds import labels_shown
from polyclinic.evaluate.metrics import Predictions, primary_metric
from polyclinic.evaluate.predictions import score
from polyclinic.evaluate.protocols import Outcome, dense_linear_probe, fit_linear, scores_of
from polyclinic.models.encoder import Preset
from polyclinic.models.loading import features_with
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan, embed
from polyclinic.seeding import derive

NEIGHBOURS = 20
VOTE = 0.07
"""Temperature of the neighbours' votes (Wu et al. 2018, arXiv 1805.01978, equation 8)."""
FEW_PENALTY = 0.03
"""Inverse strength of the penalty with few labels: fixed, since none are left to choose it by."""
FEW_DENSE_PENALTY = 0.01
"""Of the probe for segmentation, likewise."""


def nearest_neighbours(
    preset: Preset, state: State, site: SiteData, plan: TrainPlan, *seed: int | str
) -> Outcome:
    """Weighted votes of the 20 nearest training images by cosine; not for segmentation."""
    del plan, seed  # nothing is trained and nothing drawn
    features = features_of(preset, state, site)
    features /= np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    train = site.split["train"]

    def answers(split: NDArray[np.int64]) -> Predictions:
        likeness = features[split] @ features[train].T  # (n, N train)
        k = min(NEIGHBOURS, len(train))
        nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
        weight = np.exp(np.take_along_axis(likeness, nearest, axis=1) / VOTE)
        weight /= weight.sum(1, keepdims=True)
        known = site.targets[train].astype(np.float64)
        if site.task == "single-label":
            known = np.eye(len(site.classes))[site.targets[train].astype(np.int64)]
        said = np.einsum("nk,nk...->n...", weight, known[nearest])
        if site.task == "multi-label":
            said = said.clip(0, 1)
        return Predictions(site.task, site.targets[split], said, site.patients[split])

    tested = answers(site.split["test"])
    chosen = score(answers(site.split["val"]), primary_metric(site.task))
    return Outcome(tested, tested.scores, chosen)


def few_labels(
    preset: Preset,
    state: State,
    site: SiteData,
    plan: TrainPlan,
    per_class: int,
    *seed: int | str,
) -> Outcome:
    """A linear probe on `per_class` training images of each class, drawn by `seed`.

    The draw is the same for all encoders. Nothing is chosen on the validation split, which would
    be more labels: the penalty is fixed.
    """
    del plan  # nothing of the encoder is trained
    few = draw_few(site, per_class, *seed)
    if site.task == "segmentation":
        return dense_linear_probe(preset, state, few, (FEW_DENSE_PENALTY,), *seed)
    features = features_of(preset, state, few, ("train", "test"))
    rows, tested = few.split["train"], few.split["test"]
    model = fit_linear(few, features[rows], few.targets[rows], FEW_PENALTY)
    predictions = scores_of(few, model, features, tested)
    return Outcome(predictions, predictions.scores, float("nan"))


def draw_few(site: SiteData, per_class: int, *seed: int | str) -> SiteData:
    """`site` with `per_class` training images of each class, or all that it has.

    Several labels, and label maps: images are drawn until each label is shown that often, and as
    many that show none. Numbers: `per_class` images for each fifth of the range of ranks.
    """
    rows = site.split["train"]
    order = np.random.default_rng(derive(*seed, "few", per_class)).permutation(rows)
    shown = _strata(site)[order]
    wanted = np.full(shown.shape[1], per_class)
    taken = np.zeros(shown.shape[1], np.int64)
    kept = []
    # the rarest label first: its images show others as well
    for label in np.argsort(shown.sum(0), kind="stable"):
        for position, row in enumerate(order):
            if taken[label] >= wanted[label]:
                break
            if shown[position, label] and row not in kept:
                kept.append(row)
                taken += shown[position]
    chosen = np.sort(np.array(kept, np.int64))
    return replace(site, split={**site.split, "train": chosen})


def features_of(
    preset: Preset, state: State, site: SiteData, splits: Sequence[Split] = SPLITS
) -> NDArray[np.float64]:
    """Embeddings (N, E) of a site's images, standardised by those of its training split.

    Rows outside of `splits`, which must hold `train`, mean nothing.
    """
    from sklearn.preprocessing import StandardScaler

    encoder = features_with(preset, state)
    used = np.concatenate([site.split[s] for s in splits])
    values = np.zeros((len(site), encoder.config.embedding))
    values[used] = embed(encoder, site.images[used]).cpu().numpy()
    scaler = StandardScaler().fit(values[site.split["train"]])
    return np.asarray(scaler.transform(values), np.float64)


def _strata(site: SiteData) -> NDArray[np.int64]:
    """Labels that are counted, (N, K); the last is for images that show none."""
    if site.task != "regression":
        shown = labels_shown(site)
        return np.hstack([shown, (shown.sum(1, keepdims=True) == 0).astype(np.int64)])
    edges = np.quantile(site.targets[site.split["train"]].astype(np.float64), [0.2, 0.4, 0.6, 0.8])
    return np.eye(5, dtype=np.int64)[np.searchsorted(edges, site.targets.astype(np.float64))]
