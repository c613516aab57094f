"""How good predictions are on one test set, for many weightings of its images in one pass.

Every metric has the signature `metric(predictions, weights=None) -> values`: `weights` are
non-negative integers (B, N), how often each of the N images counts in each of B resamples
(None: each once, B = 1), and `values` are float64 (B,). An image of weight 3 counts exactly as
if it were there three times. Every metric is higher-is-better with 1 as the perfect score, so
that a gain is always a plain difference. Where a metric is undefined its value is NaN, silently.
"""

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import IGNORE, TASKS, Task
from polyclinic.data.writing import writing
from polyclinic.errors import DataError, PolyclinicError, RunError

Values = NDArray[np.float64]
Weights = NDArray[np.integer]


def _no_counts() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about the N images of a site's test set, and what is true.

    | task         | truth                | scores                    |
    |--------------|----------------------|---------------------------|
    | single-label | class index (N,)     | one per class (N, K)      |
    | multi-label  | 0/1 (N, K)           | probabilities 0..1 (N, K) |
    | regression   | number (N,)          | number (N,)               |
    | segmentation | empty                | empty                     |

    Segmentation keeps `counts` instead (see `segmentation_counts`); `Predictions.segmentation`
    builds that. `clusters` int64 (N,) numbers the patient of each image. Raises `DataError` where
    the shapes do not fit, and `RunError` where a score is not finite.
    """

    task: Task
    truth: NDArray[np.generic]
    scores: NDArray[np.floating]
    clusters: NDArray[np.int64]
    counts: NDArray[np.int64] = field(default_factory=_no_counts)

    @classmethod
    def segmentation(cls, counts: NDArray[np.int64], clusters: NDArray[np.int64]) -> "Predictions":
        """Predictions of a segmentation model: counts (N, classes - 1, 3), clusters (N,)."""
        return cls("segmentation", np.zeros(0), np.zeros(0), clusters, counts)

    def __len__(self) -> int:
        return len(self.clusters)

    def __post_init__(self) -> None:
        N, K = len(self.clusters), self.scores.shape[1] if self.scores.ndim == 2 else 0
        truth, scores, counts = self.truth.shape, self.scores.shape, self.counts.shape
        fits = {
            "single-label": truth == (N,) and scores == (N, K) and K > 1,
            "multi-label": truth == scores == (N, K) and K > 0,
            "regression": truth == scores == (N,),
            "segmentation": len(counts) == 3 and counts[0] == N and counts[2] == 3,
        }
        if not fits.get(self.task, False):
            raise DataError(
                f"predictions: the shapes do not fit the task {self.task}: truth {truth}, "
                f"scores {scores}, counts {counts}, clusters ({N},); pass one row per image"
            )
        if self.task == "single-label" and N and not self._labels_fit(K):
            raise DataError(f"predictions: expected class indices 0..{K - 1} as truth, got others")
        if self.task == "multi-label" and not np.isin(self.truth, (0, 1)).all():
            raise DataError("predictions: expected 0 or 1 as truth for each label, got others")
        wrong = int(np.count_nonzero(~np.isfinite(self.scores)))
        if wrong:
            raise RunError(
                f"predictions: expected finite scores, got {wrong} of {self.scores.size} that are "
                "not; the model has diverged: lower the learning rate"
            )

    def _labels_fit(self, classes: int) -> bool:
        low, high = self.truth.min(), self.truth.max()
        return bool(np.issubdtype(self.truth.dtype, np.integer) and low >= 0 and high < classes)

    def save(self, path: Path) -> None:
        """Write an npz file, whole or not at all."""
        with writing(path) as part, part.open("wb") as file:
            np.savez(
                file,
                task=np.array(self.task),
                truth=self.truth,
                scores=self.scores,
                clusters=self.clusters,
                counts=self.counts,
            )

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` wrote; `RunError` when the file is missing, damaged or another kind."""
        try:
            # Opened here: numpy leaves a path that it opened itself open when the zip is damaged.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                task = str(file["task"])
                truth, scores = file["truth"], file["scores"]
                clusters, counts = file["clusters"], file["counts"]
        except FileNotFoundError:
            raise RunError(f"{path}: no such predictions; evaluate the run again") from None
        except (
            OSError,
            ValueError,
            TypeError,  # an .npy file: an array where an archive was expected
            KeyError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise RunError(
                f"{path}: expected predictions as npz, cannot read them ({error}); "
                "delete the file and evaluate the run again"
            ) from None
        for known in TASKS:
            if task == known:
                try:
                    return cls(known, truth, scores, clusters, counts)
                except PolyclinicError as error:
                    raise RunError(f"{path}: {error}") from None
        raise RunError(f"{path}: expected a task of {', '.join(TASKS)}; got {task!r}")


Metric = Callable[[Predictions, Weights | None], Values]


def segmentation_counts(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """Count the pixels that Dice needs: int64 (N, classes - 1, 3), the background left out.

    The last axis is (intersection, predicted, truth). `predicted` and `truth` are label maps
    (N, H, W) below `classes`; where `truth` is `IGNORE` nothing is counted, whatever the
    prediction says there. Raises `DataError` on other shapes or labels.
    """
    if predicted.shape != truth.shape or truth.ndim != 3:
        raise DataError(
            f"segmentation: expected two label maps (N, H, W) of one shape, got {predicted.shape} "
            f"predicted and {truth.shape} true"
        )
    counts = np.zeros((len(truth), classes - 1, 3), np.int64)
    # One image at a time: what is compared stays in the processor's cache.
    for n, (said, true) in enumerate(zip(predicted, truth, strict=True)):
        known = true != IGNORE
        if ((said >= classes) & known).any() or ((true >= classes) & known).any():
            raise DataError(f"segmentation: image {n}: expected labels 0..{classes - 1}, got more")
        for label in range(1, classes):
            here, there = (said == label) & known, true == label
            counts[n, label - 1] = (
                np.count_nonzero(here & there),
                np.count_nonzero(here),
                np.count_nonzero(there),
            )
    return counts


def auroc(predictions: Predictions, weights: Weights | None = None) -> Values:
    """Macro AUROC: each class (or label) against the rest, the mean over classes; ties count 1/2.

    A class without a positive or without a negative under a resample's weights is left out of
    that resample's mean; NaN where none remains.
    """
    _expect(predictions, "auroc", "single-label", "multi-label")
    K = predictions.scores.shape[1]
    columns = np.ascontiguousarray(_checked(predictions, weights).T)  # (N, B): whole rows move
    if predictions.task == "single-label":
        positive = predictions.truth[:, None] == np.arange(K)  # (N, K)
    else:
        positive = predictions.truth == 1
    return _mean_defined(
        np.stack([_area(predictions.scores[:, k], positive[:, k], columns) for k in range(K)])
    )


def balanced_accuracy(predictions: Predictions, weights: Weights | None = None) -> Values:
    """Mean recall over the classes that are present; the highest score wins (the first of equals).

    Multi-label: per label the mean of sensitivity and specificity at a threshold of 0.5
    (a score of 0.5 is a yes), then the mean over labels that have both positives and negatives.
    """
    _expect(predictions, "balanced_accuracy", "single-label", "multi-label")
    w = _checked(predictions, weights)
    if predictions.task == "single-label":
        member = predictions.truth[:, None] == np.arange(predictions.scores.shape[1])
        hit = member & (predictions.scores.argmax(1) == predictions.truth)[:, None]
        return _mean_defined(_ratio(w @ hit, w @ member).T)
    positive, yes = predictions.truth == 1, predictions.scores >= 0.5
    sensitivity = _ratio(w @ (yes & positive), w @ positive)  # (B, K)
    specificity = _ratio(w @ (~yes & ~positive), w @ ~positive)
    return _mean_defined(((sensitivity + specificity) / 2).T)


def r2(predictions: Predictions, weights: Weights | None = None) -> Values:
    """Coefficient of determination; NaN where the truth does not vary."""
    w, truth, error = _regression(predictions, weights, "r2")
    mean = _ratio(w @ truth, w.sum(1))
    spread = np.einsum("bn,bn->b", w, (truth - mean[:, None]) ** 2)
    return 1 - _ratio(w @ error**2, np.where(_constant(w, truth), 0, spread))


def d2_absolute_error(predictions: Predictions, weights: Weights | None = None) -> Values:
    """Share of the mean absolute error that is removed, against always saying the median.

    The counterpart of `r2` for absolute errors (Hastie, Tibshirani and Wainwright 2015,
    "Statistical Learning with Sparsity", equation 3.11); NaN where the truth does not vary.
    """
    w, truth, error = _regression(predictions, weights, "d2_absolute_error")
    order = np.argsort(truth, kind="stable")
    reached = np.cumsum(w[:, order], axis=1)
    # Any median gives the same sum of absolute errors: take the lower one.
    place = (reached >= reached[:, -1:] / 2).argmax(1) if len(truth) else np.zeros(len(w), int)
    median = truth[order][place] if len(truth) else np.zeros(len(w))
    spread = np.einsum("bn,bn->b", w, np.abs(truth - median[:, None]))
    return 1 - _ratio(w @ np.abs(error), np.where(_constant(w, truth), 0, spread))


def dice(predictions: Predictions, weights: Weights | None = None) -> Values:
    """Dice per case and foreground class, the mean over cases, then the mean over classes.

    A case is a patient: the pixels of all its images are pooled, as BraTS scores a volume. A class
    that is in the prediction only scores 0 there. A class that is in neither truth nor prediction
    of a case is skipped for that case; BraTS counts such a case as 1, which would reward rare
    classes for being rare. All images of a case must have the same weight (`DataError`): a
    resample draws patients.
    """
    _expect(predictions, "dice", "segmentation")
    w = _checked(predictions, weights)
    _, first, case = np.unique(predictions.clusters, return_index=True, return_inverse=True)
    per_case = w[:, first]  # (B, cases)
    if not np.array_equal(per_case[:, case], w):
        raise DataError("dice: expected one weight per patient, got images that differ in weight")
    pooled = np.zeros((len(first), *predictions.counts.shape[1:]), np.int64)
    np.add.at(pooled, case, predictions.counts)
    intersection, size = pooled[..., 0], pooled[..., 1] + pooled[..., 2]
    present = size > 0  # (cases, classes - 1)
    score = 2 * intersection / np.where(present, size, 1)
    return _mean_defined(_ratio(per_case @ score, per_case @ present).T)


METRICS: dict[str, Metric] = {
    "auroc": auroc,
    "balanced_accuracy": balanced_accuracy,
    "dice": dice,
    "r2": r2,
    "d2_absolute_error": d2_absolute_error,
}

_METRICS_OF: dict[Task, tuple[str, ...]] = {
    "single-label": ("auroc", "balanced_accuracy"),
    "multi-label": ("auroc", "balanced_accuracy"),
    "regression": ("r2", "d2_absolute_error"),
    "segmentation": ("dice",),
}


def metrics_of(task: Task) -> tuple[str, ...]:
    """Names in `METRICS` that apply to a task, the primary one first."""
    return _METRICS_OF[task]


def primary_metric(task: Task) -> str:
    """The metric on which methods are compared."""
    return _METRICS_OF[task][0]


def _expect(predictions: Predictions, metric: str, *tasks: Task) -> None:
    if predictions.task not in tasks:
        raise DataError(f"{metric}: expected {' or '.join(tasks)}, got {predictions.task}")


def _checked(predictions: Predictions, weights: Weights | None) -> Values:
    """Weights as float64 (B, N): sums of counts are exact, and products run at full speed."""
    N = len(predictions)
    if weights is None:
        return np.ones((1, N))
    if weights.ndim != 2 or weights.shape[1] != N or not np.issubdtype(weights.dtype, np.integer):
        raise DataError(
            f"weights: expected integers (B, {N}), got {weights.dtype} {weights.shape}; "
            "draw them from the clusters of these predictions"
        )
    if weights.size and weights.min() < 0:
        raise DataError("weights: expected how often each image counts, got a negative number")
    return weights.astype(np.float64)


def _regression(
    predictions: Predictions, weights: Weights | None, metric: str
) -> tuple[Values, Values, Values]:
    """Weights (B, N), the truth (N,) and the errors (N,)."""
    _expect(predictions, metric, "regression")
    truth = predictions.truth.astype(np.float64)
    return _checked(predictions, weights), truth, predictions.scores.astype(np.float64) - truth


def _area(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], columns: Values
) -> NDArray[np.float64]:
    """AUROC (B,) of one class: the share of pairs in which the positive has the higher score.

    For each positive, the weight of the negatives below it plus half of those equal to it; sorted
    once, a running sum over the negatives answers that for all resamples.
    """
    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    no = no[np.argsort(scores[no], kind="stable")]
    below = np.zeros((len(no) + 1, columns.shape[1]))  # weight of the i lowest negatives
    np.cumsum(columns[no], axis=0, out=below[1:])
    lower = np.searchsorted(scores[no], scores[yes], side="left")
    up_to = np.searchsorted(scores[no], scores[yes], side="right")
    weight = columns[yes]
    won = np.einsum("pb,pb->b", weight, below[lower])
    won += np.einsum("pb,pb->b", weight, below[up_to])
    return _ratio(won / 2, weight.sum(0) * below[-1])


def _constant(w: Values, truth: Values) -> NDArray[np.bool_]:
    """Where (B,) all images that count have the same truth: exact, unlike a variance of 0."""
    low = np.where(w > 0, truth, np.inf).min(1, initial=np.inf)
    high = np.where(w > 0, truth, -np.inf).max(1, initial=-np.inf)
    return np.asarray(low >= high)


def _ratio(above: Values, below: Values) -> Values:
    """The quotient, NaN where `below` is 0."""
    quotient = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient


def _mean_defined(values: Values) -> Values:
    """Mean over the first axis of what is not NaN: (K, B) to (B,)."""
    defined = ~np.isnan(values)
    total: Values = np.where(defined, values, 0).sum(0)
    return _ratio(total, defined.sum(0).astype(np.float64))
