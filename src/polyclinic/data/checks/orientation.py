"""Inverted, mirrored and rotated images, by a rule that is fitted to the site and measured on it.

Each image has other versions: turned, mirrored, inverted. How well a version fits the site is the
sum of two scores, on small standardised thumbnails:

- how much it looks like the site's mean image, whitened by the covariance of all versions (Fisher's
  linear discriminant between images as they are and all their versions);
- how much it looks like its five nearest among the other patients' images, which also serves sites
  that show several views.

An image is a suspect where another version fits better than the image itself, and the gain lies
far out of what the site's own images show. Slices lie as their volume does, so that of volumes the
mean over all slices counts. How often that works is measured on the site's images, by turning each
of them on purpose. A version that is not found often enough (cells have no upside) is not
reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding, Item

Images = NDArray[np.float32]

MIN_IMAGES = 40
"""With fewer images nothing is fitted."""
MIN_VOLUMES = 10
"""With fewer volumes, each slice counts for itself."""
MIN_HIT_RATE = 0.5
"""A version that is found less often on the site's own images is not reported."""
DEVIATIONS, VOLUME_DEVIATIONS = 6.0, 5.0
"""A suspect's gain lies so many robust deviations above the site's median for that version.

Chosen on data without faults: of 22 made-up chest sites (48 to 320 films, six seeds) the largest
gain lay 5.4 deviations above the median where versions can be told apart well enough to be
reported; of the volumes of four made-up brain sites and of one real one, 4.1.
"""
SUSPECTS = {
    1: "rotated by 90\u00b0 to the left",
    2: "rotated by 180\u00b0",
    3: "rotated by 90\u00b0 to the right",
    4: "mirrored left to right",
    6: "mirrored top to bottom",
    8: "inverted",
}
"""Numbers of the versions that are looked for; `version` makes them."""
_INVERSE = {1: 3, 2: 2, 3: 1, 4: 4, 6: 6, 8: 8}
_VERSIONS = 16  # four turns, mirrored or not, inverted or not
_SIDE = 16  # px of the thumbnails
_FOLDS = 5
_RIDGE = 0.1  # of the mean variance, added to the covariance
_MAX_FITTED = 4000  # images that the covariance is estimated from
_REFERENCES = 1000  # images among which the nearest are looked for
_NEAREST = 5
_BLOCK = 4096  # images that are compared with all references at a time


@dataclass(frozen=True)
class Calibration:
    """What the rule found at a site, by the numbers of `SUSPECTS`.

    `gains` (N,) of taking each image, or the volume that it is a slice of, for that version and
    undoing it; `limits` above which it is a suspect; `hit_rates`: the shares of the site's own
    images or volumes that are found.
    """

    gains: dict[int, NDArray[np.float64]]
    limits: dict[int, float]
    hit_rates: dict[int, float]


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every suspect, and one that says what can be told at this site."""
    if len(survey.seen) < MIN_IMAGES:
        return []
    items = [survey.item(row) for row in survey.seen]
    volumes = _volumes(items)
    found = calibrate(survey.thumbnails, [item.patient for item in items], volumes)
    able = [number for number in SUSPECTS if found.hit_rates[number] >= MIN_HIT_RATE]
    noun = "images" if volumes is None else "volumes"
    findings: dict[str, Finding] = {}
    for position, item in enumerate(items):
        gains = {n: found.gains[n][position] for n in able}
        beyond = [number for number in able if gains[number] > found.limits[number]]
        where = item.key if volumes is None else volumes[position]
        if beyond and where not in findings:
            best = max(beyond, key=lambda number: gains[number])
            rate = f"{100 * found.hit_rates[best]:.0f} % of such {noun} are found here"
            what = f"looks {SUSPECTS[best]} ({rate})"
            findings[where] = Finding("warning", item.key, what, "look at it")
    return [*findings.values(), _ability(found, able)]


def _volumes(items: Sequence[Item]) -> list[str] | None:
    """The volume that each image is a slice of; None where images are not slices of a few."""
    wholes = [item.key.partition("#")[0] for item in items]
    sliced = all("#" in item.key and ":" not in item.key for item in items)
    return wholes if sliced and MIN_VOLUMES <= len(set(wholes)) < len(items) else None


def calibrate(
    thumbnails: Images, patients: Sequence[str], volumes: Sequence[str] | None = None
) -> Calibration:
    """Fit and measure the rule on a site's thumbnails (N, S, S), 0..255, by patients (N,).

    `volumes` (N,) names the volume of each where images are slices.
    """
    images = _standardised(thumbnails)
    _, groups = np.unique(np.array(patients), return_inverse=True)
    scores = (_template_scores(images), _neighbour_scores(images, groups))
    total = {number: np.zeros(len(images)) for number in SUSPECTS}
    whole, size = np.arange(len(images)), np.ones(len(images))
    if volumes is not None:
        _, whole = np.unique(np.array(volumes), return_inverse=True)
        size = np.bincount(whole).astype(np.float64)
        total = {number: np.zeros(len(size)) for number in SUSPECTS}
    for score in scores:  # each in the unit of its usual loss, so that both count alike
        gains = {n: np.bincount(whole, score[n] - score[0]) / size for n in SUSPECTS}
        unit = np.median(np.mean([np.abs(gain) for gain in gains.values()], axis=0))
        for number in SUSPECTS:
            total[number] += gains[number] / max(float(unit), 1e-9)
    deviations = DEVIATIONS if volumes is None else VOLUME_DEVIATIONS
    limits, rates = {}, {}
    for number, gain in total.items():
        middle = float(np.median(gain))
        spread = 1.4826 * float(np.median(np.abs(gain - middle)))
        limits[number] = max(middle + deviations * spread, 0.3 * abs(middle))
    for number in SUSPECTS:
        # What undoing a fault gains is what the fault lost, and that is known of every image.
        rates[number] = float((-total[_INVERSE[number]] > limits[number]).mean())
    return Calibration({n: gain[whole] for n, gain in total.items()}, limits, rates)


def version(images: Images, number: int) -> Images:
    """Standardised images (N, S, S), turned to the left, then mirrored, then inverted."""
    turned = np.rot90(images, number % 4, axes=(1, 2))
    mirrored = turned[:, :, ::-1] if number // 4 % 2 else turned
    return -mirrored if number >= _VERSIONS // 2 else mirrored


def _standardised(thumbnails: Images) -> Images:
    """Reduced to `_SIDE` px, mean 0 and length 1 each."""
    factor = thumbnails.shape[1] // _SIDE
    count = len(thumbnails)
    small = thumbnails.reshape(count, _SIDE, factor, _SIDE, factor).mean(axis=(2, 4))
    small = small - small.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((small**2).sum(axis=(1, 2), keepdims=True))
    standardised: Images = small / np.maximum(length, 1e-6)
    return standardised


def _template_scores(images: Images) -> dict[int, NDArray[np.float64]]:
    """Likeness to the whitened mean image, as it is (0) and after undoing each version, (N,).

    Each fold is scored by what was fitted to the others.
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    scores = {number: np.zeros(len(flat)) for number in (0, *SUSPECTS)}
    folds = np.arange(len(flat)) % _FOLDS
    for fold in range(_FOLDS):
        fitted = images[folds != fold]
        weights = _weights(fitted[:: -(-len(fitted) // _MAX_FITTED)])
        for number, score in scores.items():
            # Undoing a version of the image is the same as making it of the weights.
            turned = version(weights[None], number).reshape(-1)
            score[folds == fold] = flat[folds == fold] @ turned
    return scores


def _weights(images: Images) -> Images:
    """Fisher's discriminant between images as they are and all versions of them, (S, S)."""
    mean = images.mean(axis=0).reshape(-1).astype(np.float64)
    covariance = np.zeros((mean.size, mean.size))
    for number in range(_VERSIONS // 2):  # inverting changes no covariance
        flat = version(images, number).reshape(len(images), -1)
        covariance += flat.T @ flat / (len(images) * _VERSIONS / 2)
    covariance += _RIDGE * np.trace(covariance) / mean.size * np.eye(mean.size)
    weights: Images = np.linalg.solve(covariance, mean).astype(np.float32)
    return weights.reshape(images.shape[1:])


def _neighbour_scores(images: Images, groups: NDArray[np.int64]) -> dict[int, NDArray[np.float64]]:
    """Mean correlation with the nearest images of other `groups` (N,), as in `_template_scores`."""
    step = -(-len(images) // _REFERENCES)
    references = images[::step].reshape(-1, _SIDE * _SIDE)
    others = groups[::step]
    nearest = min(_NEAREST, len(references))
    scores = {number: np.zeros(len(images)) for number in (0, *SUSPECTS)}
    for start in range(0, len(images), _BLOCK):
        block = slice(start, start + _BLOCK)
        same = groups[block, None] == others[None]
        for number, score in scores.items():
            undone = version(images[block], _INVERSE.get(number, 0))
            likeness = undone.reshape(len(undone), -1) @ references.T
            likeness[same] = -1
            largest = np.partition(likeness, len(references) - nearest, axis=1)[:, -nearest:]
            score[block] = largest.mean(axis=1)
    return scores


def _ability(found: Calibration, able: Sequence[int]) -> Finding:
    if not able:
        return Finding("info", "", "images of this site have no upside that could be learned")
    rates = [f"{SUSPECTS[number]} ({100 * found.hit_rates[number]:.0f} %)" for number in able]
    return Finding("info", "", f"what would be noticed, and how often: {', '.join(rates)}")


CHECK = Check("orientation", "inverted, mirrored and rotated images", run)
