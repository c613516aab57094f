"""From a network to predictions that metrics understand."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from polyclinic.data.dataset import SiteData, Split
from polyclinic.evaluate.metrics import METRICS, Predictions, segmentation_counts
from polyclinic.models.encoder import Features
from polyclinic.models.training import predict


def judge(encoder: Features, head: nn.Module, site: SiteData, split: Split) -> Predictions:
    """Predictions of encoder and head for one split of a site."""
    return predictions_of(predict(encoder, head, site, split), site, split)


def predictions_of(outputs: NDArray[np.generic], site: SiteData, split: Split) -> Predictions:
    """Predictions from a network's outputs for one split, as `models.training.predict` gives."""
    rows = site.split[split]
    clusters = site.patients[rows]
    if site.task == "segmentation":
        truth = site.targets[rows].astype(np.uint8)
        counts = segmentation_counts(outputs.astype(np.uint8), truth, len(site.classes))
        return Predictions.segmentation(counts, clusters)
    return Predictions(site.task, site.targets[rows], outputs.astype(np.float64), clusters)


def score(predictions: Predictions, metric: str) -> float:
    """One metric of the whole set; NaN where it is undefined."""
    return float(METRICS[metric](predictions, None)[0])
