"""Can a painted border be told from a real one: a classifier of what lies along it.

It sees patches around borders of painted regions, and patches around borders of the same shapes
laid over untouched tissue. An AUC of 0.5 says that it cannot tell.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.errors import DataError
from polyclinic.evaluate.bootstrap import Estimate, cluster_weights, interval
from polyclinic.evaluate.metrics import Predictions
from polyclinic.evaluate.painting.checks import Mask, expect_finite, expect_mask

RING_FEATURES = (
    "gradient across the border",
    "gradient along the border",
    "step over the border",
    "Laplacian at the border",
    "Laplacian inside",
    "Laplacian outside",
    "spread inside",
    "spread outside",
)
"""What the classifier sees of a patch, in intensities: root mean squares of derivatives, the
distance of the means on either side, standard deviations."""

SMOOTHING = 1.5
"""Standard deviation, px, of the filter that makes directions of a ragged border."""

_CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)  # neighbours in a patch: (1, 3, 3)


def ring_features(patches: NDArray[np.float64], insides: Mask) -> NDArray[np.float64]:
    """`RING_FEATURES` of patches (N, S, S) whose pixels `insides` lie in the region: (N, F).

    "At the border" are pixels that have a neighbour on its other side. Raises `DataError` where a
    patch shows no border or a number is not finite.
    """
    expect_mask("ring features", insides)
    if patches.ndim != 3 or patches.shape != insides.shape:
        raise DataError(
            f"ring features: expected patches and insides (N, S, S), got {patches.shape} and "
            f"{insides.shape}"
        )
    expect_finite("ring features", patches)
    one_sided = np.flatnonzero(insides.all(axis=(1, 2)) | ~insides.any(axis=(1, 2)))
    if len(one_sided):
        raise DataError(
            f"ring features: expected patches on a border, got {len(one_sided)} of {len(patches)} "
            f"that lie on one side, the first is patch {one_sided[0]}"
        )
    beside_inside = ndimage.binary_dilation(insides, _CROSS)
    beside_outside = ndimage.binary_dilation(~insides, _CROSS)
    border = beside_inside & beside_outside
    row, column = np.gradient(patches, axis=(1, 2))
    soft = ndimage.gaussian_filter(insides.astype(np.float64), (0, SMOOTHING, SMOOTHING))
    normal_row, normal_column = np.gradient(soft, axis=(1, 2))
    length = np.maximum(np.hypot(normal_row, normal_column), 1e-12)
    across = (row * normal_row + column * normal_column) / length
    along = (column * normal_row - row * normal_column) / length
    curvature = np.zeros_like(patches)
    for axis in (1, 2):
        curvature += ndimage.correlate1d(patches, [1.0, -2.0, 1.0], axis=axis, mode="nearest")
    step = _mean(patches, border & insides) - _mean(patches, border & ~insides)
    columns = [
        np.sqrt(_mean(across**2, border)),
        np.sqrt(_mean(along**2, border)),
        np.abs(step),
        np.sqrt(_mean(curvature**2, border)),
        np.sqrt(_mean(curvature**2, insides)),
        np.sqrt(_mean(curvature**2, ~insides)),
        _spread(patches, insides),
        _spread(patches, ~insides),
    ]
    return np.stack(columns, axis=1)


def ring_auc(
    features: NDArray[np.float64],
    painted: Mask,
    patients: NDArray[np.int64],
    seed: int = 0,
    folds: int = 5,
    resamples: int = 1000,
) -> Estimate:
    """AUC with which a logistic regression tells painted borders from real ones, and its interval.

    `features` (N, F), `painted` (N,) bool, `patients` (N,). No patient is in training and test of
    the same fold; there are at most as many folds as patients of the rarer kind. The interval is
    the bootstrap over patients of the scores that cross-validation gave, without fitting again.
    Raises `DataError` where the shapes do not fit, or where a fold would lack a kind of border.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    _expect_rows(features, painted, patients)
    kinds = [len(np.unique(patients[painted == kind])) for kind in (True, False)]
    folds = min(folds, *kinds)
    if folds < 2:
        raise DataError(
            f"ring AUC: expected borders of at least 2 patients of either kind, got {kinds[0]} "
            f"with painted and {kinds[1]} with real ones"
        )
    scores = np.zeros(len(features))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(features, painted, patients):
        if len(np.unique(painted[train])) < 2:
            raise DataError(
                "ring AUC: all borders of one kind are in one fold; take about as many painted "
                "as real borders from each patient"
            )
        model = _model().fit(features[train], painted[train])
        scores[test] = model.predict_proba(features[test])[:, 1]
    truth = painted.astype(np.int64)[:, None]
    told = Predictions("multi-label", truth, scores[:, None], patients)
    return interval([told], "auroc", cluster_weights(patients, resamples, seed))


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = LogisticRegression(class_weight="balanced", max_iter=1000)
    return make_pipeline(StandardScaler(), line)


def _mean(values: NDArray[np.float64], where: Mask) -> NDArray[np.float64]:
    """The mean over each patch's pixels `where`: (N, S, S) to (N,)."""
    return np.asarray(values.mean(axis=(1, 2), where=where))


def _spread(values: NDArray[np.float64], where: Mask) -> NDArray[np.float64]:
    return np.asarray(values.std(axis=(1, 2), where=where))


def _expect_rows(features: NDArray[np.float64], painted: Mask, patients: NDArray[np.int64]) -> None:
    expect_mask("ring AUC", painted)
    N = len(features)
    if features.ndim != 2 or painted.shape != (N,) or patients.shape != (N,):
        raise DataError(
            f"ring AUC: expected features (N, F), painted (N,) and patients (N,), got "
            f"{features.shape}, {painted.shape} and {patients.shape}"
        )
    expect_finite("ring AUC", features)
