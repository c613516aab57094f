"""Membership inference: whether an image was trained on, from how sure a model is of it.

LiRA (Carlini et al. 2022, "Membership Inference Attacks From First Principles", algorithm 1), with
few shadow models. Half of a pool of images trains each model, so that every model is a victim in
turn and the others are its shadows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import PrivacyError
from polyclinic.seeding import derive

Values = NDArray[np.float64]
Truths = NDArray[np.bool_]

_ALPHA = 0.01
_LEAST = 400  # random memberships: fewer cannot tell a p-value below `_ALPHA`

FPR = 0.01
"""The rate of false alarms at which an attack is judged."""


@dataclass(frozen=True)
class Membership:
    """True positives at 1 % false ones, and the area under the ROC curve, with 95 % intervals.

    `tpr_guess` is what guessing reaches: a little above 0.01 where few images set the threshold.
    Guessing has an area of 0.5. `p_value` is how often chance does as well, by either figure.
    """

    tpr: float
    tpr_low: float
    tpr_high: float
    auc: float
    auc_low: float
    auc_high: float
    tpr_guess: float
    p_value: float

    @property
    def succeeded(self) -> bool:
        """Whether it is told from chance, at 1 %."""
        return self.p_value < _ALPHA


def halves(models: int, images: int, *seed: int | str) -> Truths:
    """Which images train which model, (M, N): each image in half of the models, drawn at random.

    `models` is even and at least 4, so that an image has shadows with and without it whichever
    model is the victim. No model gets less than a quarter of the images, nor a single one, of
    which batch normalisation has no spread: what chance draws otherwise is drawn again.
    """
    if models < 4 or models % 2:
        raise PrivacyError(
            f"membership: expected an even number of shadow models, 4 or more, got {models}"
        )
    rng = np.random.default_rng(derive("halves", *seed))
    least = min(max(2, images // 4), images // 2)
    while True:
        order = rng.random((models, images)).argsort(axis=0)
        inside = np.asarray(order < models // 2)
        if inside.sum(1).min() >= least:
            return inside


def confidence(losses: Values) -> Values:
    """The logit of a probability p from the loss -log p: what is nearly normal (section VI-B)."""
    safe = np.clip(losses.astype(np.float64), 1e-12, 700.0)
    return np.asarray(-safe - np.log(-np.expm1(-safe)))


def likelihood_ratios(confidences: Values, inside: Truths) -> Values:
    """LiRA's score of each model and image, (M, N): above 0, the image was more likely trained on.

    For each victim, the other models give each image's mean with and without it; the two spreads
    are those over all images, since few shadows tell little of a single image's (section VI-C). Of
    the others one half has a model more, and which one tells whether the image was in the victim:
    so as many are used with it as without it, M / 2 - 1.
    """
    scores = np.empty_like(confidences)
    each = len(confidences) // 2 - 1
    for victim in range(len(confidences)):
        rest = np.arange(len(confidences)) != victim
        values, within = confidences[rest], inside[rest]
        logs = []
        for members in (within, ~within):
            used = members & (np.cumsum(members, axis=0) <= each)
            mean = np.where(used, values, 0).sum(0) / each
            left = np.where(used, values - mean, 0)
            freedom = (each - 1) * values.shape[1]
            # a single shadow of each kind has no spread; then nearness alone counts
            variance = max(float((left**2).sum()) / freedom, 1e-6) if freedom else 1.0
            logs.append(
                -((confidences[victim] - mean) ** 2) / (2 * variance) - np.log(variance) / 2
            )
        scores[victim] = logs[0] - logs[1]
    return scores


def judge_membership(
    confidences: Values, inside: Truths, resamples: int, *seed: int | str
) -> Membership:
    """How well LiRA tells from `confidences` (M, N) who was `inside`.

    Intervals come from a bootstrap over images: an image's scores of all models are drawn together.
    They do not know that models differ as well. So whether there is anything to see is asked of
    memberships drawn anew (`halves`) for the same confidences: without a leak, the true one is like
    any of these. The p-value is twice the smaller one of the two figures.
    """
    if not np.isfinite(confidences).all():
        raise PrivacyError("membership: expected finite losses; a shadow model diverged")
    rng = np.random.default_rng(derive("membership", *seed))
    models, images = confidences.shape
    scores = likelihood_ratios(confidences, inside)
    found = _rates(scores, inside)
    drawn = np.array(
        [
            _rates(scores[:, rows], inside[:, rows])
            for rows in (rng.integers(images, size=images) for _ in range(resamples))
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    repeats = max(resamples, _LEAST)
    chance = np.array(
        [
            _rates(likelihood_ratios(confidences, other), other)
            for other in (halves(models, images, *seed, "chance", i) for i in range(repeats))
        ]
    )
    p_values = (1 + (chance >= np.array(found)).sum(0)) / (repeats + 1)
    others = int((~inside).sum())
    (tpr, area), (tpr_low, auc_low), (tpr_high, auc_high) = found, low.tolist(), high.tolist()
    guess = (int(FPR * others) + 1) / (others + 1)
    p_value = min(1.0, 2 * float(p_values.min()))
    return Membership(tpr, tpr_low, tpr_high, area, auc_low, auc_high, guess, p_value)


def _rates(scores: Values, inside: Truths) -> tuple[float, float]:
    members, others = np.sort(scores[inside]), np.sort(scores[~inside])
    return tpr_at(members, others), auc(members, others)


def tpr_at(members: Values, others: Values, rate: float = FPR) -> float:
    """Share of `members` above what at most `rate` of `others` exceed; sorted values."""
    allowed = int(rate * len(others))
    threshold = others[len(others) - 1 - allowed]
    return float((members > threshold).mean())


def auc(members: Values, others: Values) -> float:
    """Probability that a member scores above another image, equal scores half; sorted values."""
    below = np.searchsorted(others, members, side="left")
    up_to = np.searchsorted(others, members, side="right")
    return float((below + up_to).mean() / (2 * len(others)))
