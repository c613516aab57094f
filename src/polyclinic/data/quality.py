"""What may be wrong with prepared data although every file could be read."""

import dataclasses
import hashlib
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SPLITS, Finding, SiteData, Split, counted
from polyclinic.errors import DataError

MIN_IMAGES: dict[Split, int] = {"train": 8, "val": 4, "test": 4}
"""A site with fewer in one of its splits is refused."""
MIN_CORPUS = 8
"""A corpus with fewer images is refused: distillation standardises features over all of them."""
FEW_IMAGES = 8
"""A split with fewer is worth a warning."""
TINY_CLASS = 10


def check_site(site: SiteData, blank: NDArray[np.bool_]) -> SiteData:
    """`site` with findings about its splits, classes, duplicates and blank images added.

    `blank` (N,) marks images of one single value. Raises `DataError` where a split has fewer
    than `MIN_IMAGES` images, or where the training targets are all the same.
    """
    for split in SPLITS:
        count = len(site.split[split])
        if count < MIN_IMAGES[split]:
            patients = counted(len(np.unique(site.patients)), "patient")
            raise DataError(
                f"site {site.name!r}: {counted(count, 'image')} in the {split} split "
                f"(of {len(site)}, from {patients}); expected at least {MIN_IMAGES[split]}; "
                "add images, or change the splits"
            )
    few = {s: len(site.split[s]) for s in SPLITS if len(site.split[s]) < FEW_IMAGES}
    notes = [
        Finding("warning", "", f"only {counted(count, 'image')} in the {s} split", "add images")
        for s, count in few.items()
    ]
    notes += _check_targets(site)
    if not site.has_patient_ids:
        what = "no patient ids: images of one patient may be in more than one split"
        notes.append(Finding("info", "", what, "give patient ids where they exist"))
    rows = np.flatnonzero(blank)
    if len(rows):
        what = f"{counted(len(rows), 'image')} of one single value (first: {site.keys[rows[0]]})"
        notes.append(Finding("warning", site.keys[rows[0]], what, "remove them"))
    duplicates = _duplicates(site, blank)
    if duplicates:
        one, other = duplicates[0]
        what = f"{counted(len(duplicates), 'image')} in two splits (first: {one} is {other})"
        notes.append(Finding("warning", one, what, "remove the copies; results look too good"))
    return dataclasses.replace(site, findings=(*site.findings, *notes))


def _check_targets(site: SiteData) -> list[Finding]:
    train: NDArray[Any] = site.targets[site.split["train"]]
    if site.task == "regression":
        if np.ptp(train) == 0:
            raise DataError(f"site {site.name!r}: all training labels are {train[0]:g}")
        return []
    counts = _images_per_class(site.targets, site)
    in_train = _images_per_class(train, site)
    present = [name for name, count in zip(site.classes, in_train, strict=True) if count]
    if len(present) < (1 if site.task == "multi-label" else 2):
        raise DataError(
            f"site {site.name!r}: the training split shows {' and '.join(present) or 'no class'} "
            f"only, of the classes {', '.join(site.classes)}; expected at least two"
        )
    notes = []
    for name, count, trained in zip(site.classes, counts, in_train, strict=True):
        if not trained:
            what = f"class {name!r} has no training image"
            notes.append(Finding("warning", "", what, "add images of it, or remove the class"))
        elif count < TINY_CLASS:
            notes.append(Finding("info", "", f"class {name!r} has only {counted(count, 'image')}"))
        elif site.task == "multi-label" and trained == len(train):
            notes.append(Finding("warning", "", f"all training images are of class {name!r}"))
    return notes


def _images_per_class(targets: NDArray[Any], site: SiteData) -> list[int]:
    classes = len(site.classes)
    if site.task == "single-label":
        return [int(n) for n in np.bincount(targets, minlength=classes)]
    if site.task == "multi-label":
        return [int(n) for n in targets.sum(axis=0, dtype=np.int64)]
    return [int(n) for n in presence(targets, classes).sum(axis=0)]


def presence(label_maps: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Which classes each label map (N, S, S) shows, (N, K)."""
    return np.stack([(label_maps == k).any(axis=(1, 2)) for k in range(classes)], axis=1)


def _duplicates(site: SiteData, blank: NDArray[np.bool_]) -> list[tuple[str, str]]:
    """Pairs of keys in different splits whose prepared pixels are identical; blank ones aside."""
    seen: dict[bytes, list[tuple[Split, int]]] = defaultdict(list)
    pairs = []
    for split in SPLITS:
        for row in site.split[split]:
            if blank[row]:
                continue
            digest = hashlib.blake2b(site.images[row].tobytes(), digest_size=16).digest()
            twin = next((r for other, r in seen[digest] if other != split), None)
            if twin is not None:
                pairs.append((site.keys[row], site.keys[twin]))
            seen[digest].append((split, int(row)))
    return pairs
