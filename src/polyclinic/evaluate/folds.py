"""Cross-validation by patient: every image is judged by a model that never saw its patient."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SiteData
from polyclinic.data.quality import presence


def patient_folds(site: SiteData, count: int, seed: int) -> NDArray[np.int64]:
    """A fold number below `count` for each image (N,); all images of a patient share theirs.

    Patients are placed one by one, those with the rarest label first, each into the fold with the
    fewest images of that label (then the fewest images). The draw depends on `seed`, on patients
    and labels, and on nothing else.
    """
    shown = labels_shown(site)
    _, patient = np.unique(site.patients, return_inverse=True)
    P = int(patient.max()) + 1 if len(patient) else 0
    counts = np.zeros((P, shown.shape[1] + 1), np.int64)  # images of each label, and of any
    np.add.at(counts, patient, np.hstack([shown, np.ones((len(shown), 1), np.int64)]))
    frequency = counts.sum(0)
    rarest = [
        min(np.flatnonzero(row), key=lambda label: int(frequency[label])) if row.any() else 0
        for row in counts
    ]

    def turn(p: int) -> tuple[int, int, bytes]:
        chance = hashlib.sha256(f"{seed}:fold:{p}".encode()).digest()
        return int(frequency[rarest[p]]), -int(counts[p, -1]), chance

    placed = np.zeros((count, counts.shape[1]), np.int64)
    fold = np.zeros(P, np.int64)
    for p in sorted(range(P), key=turn):
        fold[p] = min(range(count), key=lambda f: (placed[f, rarest[p]], placed[f, -1]))
        placed[fold[p]] += counts[p]
    folds: NDArray[np.int64] = fold[patient]
    return folds


def labels_shown(site: SiteData) -> NDArray[np.int64]:
    """Which labels each image shows, 0 or 1, (N, K); K is 0 for numbers."""
    if site.task == "segmentation":
        shown = np.asarray(presence(site.targets, len(site.classes)) != 0, np.int64)
        return shown[:, 1:]
    if site.task == "single-label":
        one = np.eye(len(site.classes), dtype=np.int64)
        return np.asarray(one[site.targets.astype(np.int64)])
    if site.task == "multi-label":
        return site.targets.astype(np.int64)
    return np.zeros((len(site), 0), np.int64)
