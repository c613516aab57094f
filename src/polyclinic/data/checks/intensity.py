"""Images much darker, brighter, flatter, blurred or noisier than the others of the site."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding

MIN_IMAGES = 20
"""With fewer images nothing is usual."""
DEVIATIONS = 6.0
"""Robust z-score from which an image is unusual."""
LEAST_SCALE = 0.3
"""Octaves: at a site of very even images, what differs by a little is not unusual for that."""
_MEASURES = ("brightness", "contrast", "bright end", "sharpness")


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every image with a robust z-score beyond `DEVIATIONS` in some measure."""
    if len(survey.seen) < MIN_IMAGES:
        return []
    measured = np.array([survey.images[row].intensity for row in survey.seen])
    scores = robust_scores(octaves(measured))
    findings = []
    for row, score in zip(survey.seen, scores, strict=True):
        worst = int(np.abs(score).argmax())
        if abs(score[worst]) > DEVIATIONS:
            how = "low" if score[worst] < 0 else "high"
            what = f"unusually {how} {_MEASURES[worst]} (z {score[worst]:.1f})"
            findings.append(Finding("warning", survey.item(row).key, what, "look at it"))
    return findings


def octaves(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """`ImageFacts.intensity` (N, 4) in powers of two: exposure and gain multiply."""
    powers: NDArray[np.float64] = np.log2(measured + np.array([2.0, 2.0, 2.0, 0.05]))
    return powers


def robust_scores(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (N, M) from each column's median, in robust standard deviations.

    1.4826 times the median absolute deviation is the standard deviation of a normal distribution
    (Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers", section 3.3).
    """
    distance = measured - np.median(measured, axis=0)
    spread = 1.4826 * np.median(np.abs(distance), axis=0)
    scores: NDArray[np.float64] = distance / np.maximum(spread, LEAST_SCALE)
    return scores


CHECK = Check("intensity", "unusual brightness, contrast, sharpness", run)
