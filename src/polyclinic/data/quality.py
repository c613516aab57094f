"""What may be wrong with data that could be read: rules for a run and for `data check` alike."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SPLITS, Finding, SiteData, Split, Task, counted
from polyclinic.errors import DataError

MIN_IMAGES: dict[Split, int] = {"train": 8, "val": 4, "test": 4}
"""A site with fewer in one of its splits is refused."""
MIN_CORPUS = 8
"""A corpus with fewer images is refused: distillation standardises features over all of them."""
FEW_IMAGES = 8
"""A split with fewer is worth a warning."""
TINY_CLASS = 10


@dataclass(frozen=True)
class Tally:
    """How many images there are of what: all that the rules on splits and classes look at.

    `of_class` and `trained` count the images of each class, in all splits and in training.
    `patients` is None where they are not known. `constant` is the one label that all training
    images of a regression share, else None.
    """

    task: Task
    classes: tuple[str, ...]
    images: int
    patients: int | None
    splits: Mapping[Split, int]
    of_class: Sequence[int] = ()
    trained: Sequence[int] = ()
    constant: float | None = None


def check_site(site: SiteData, blank: NDArray[np.bool_]) -> SiteData:
    """`site` with findings about its splits, classes, duplicates and blank images added.

    `blank` (N,) marks images of one single value. Raises `DataError` where a split has fewer
    than `MIN_IMAGES` images, or where the training targets are all the same.
    """
    tally = _tally(site)
    notes = [*check_splits(tally), *check_classes(tally)]
    refusal = next((note for note in notes if note.severity == "error"), None)
    if refusal:
        advice = f"; {refusal.do}" if refusal.do else ""
        raise DataError(f"site {site.name!r}: {refusal.what}{advice}")
    if not site.has_patient_ids:
        notes.append(NO_PATIENTS)
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


NO_PATIENTS = Finding(
    "info",
    "",
    "no patient ids: images of one patient may be in more than one split",
    "give patient ids where they exist",
)


def check_splits(tally: Tally) -> list[Finding]:
    """Splits that are too small; an error is what a run refuses."""
    for split in SPLITS:
        count = tally.splits[split]
        if count < MIN_IMAGES[split]:
            whose = "" if tally.patients is None else f", from {counted(tally.patients, 'patient')}"
            what = (
                f"{counted(count, 'image')} in the {split} split (of {tally.images}{whose}); "
                f"expected at least {MIN_IMAGES[split]}"
            )
            return [Finding("error", "", what, "add images, or change the splits")]
    few = {s: tally.splits[s] for s in SPLITS if tally.splits[s] < FEW_IMAGES}
    return [
        Finding("warning", "", f"only {counted(count, 'image')} in the {s} split", "add images")
        for s, count in few.items()
    ]


def check_classes(tally: Tally) -> list[Finding]:
    """Classes that are missing or rare; an error is what a run refuses."""
    if tally.task == "regression":
        if tally.constant is not None:
            return [Finding("error", "", f"all training labels are {tally.constant:g}")]
        return []
    present = [name for name, count in zip(tally.classes, tally.trained, strict=True) if count]
    if len(present) < (1 if tally.task == "multi-label" else 2):
        what = (
            f"the training split shows {' and '.join(present) or 'no class'} only, of the classes "
            f"{', '.join(tally.classes)}; expected at least two"
        )
        return [Finding("error", "", what)]
    notes = []
    for name, count, trained in zip(tally.classes, tally.of_class, tally.trained, strict=True):
        if not trained:
            what = f"class {name!r} has no training image"
            notes.append(Finding("warning", "", what, "add images of it, or remove the class"))
        elif count < TINY_CLASS:
            notes.append(Finding("info", "", f"class {name!r} has only {counted(count, 'image')}"))
        elif tally.task == "multi-label" and trained == tally.splits["train"]:
            notes.append(Finding("warning", "", f"all training images are of class {name!r}"))
    return notes


def unreadable(failed: Iterable[tuple[str, str]]) -> list[Finding]:
    """A finding for every image that cannot be read, given keys and reasons.

    Slices of a volume, or frames of a file, that fail for the same reason are one finding.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for key, reason in failed:
        alike.setdefault((key.partition("#")[0], reason), []).append(key)
    findings = []
    for (whole, reason), keys in alike.items():
        where = keys[0] if len(keys) == 1 else whole
        all_of_them = "" if len(keys) == 1 else f"{len(keys)} images of it "
        what = f"{all_of_them}cannot be read: {reason}"
        findings.append(Finding("warning", where, what, "repair or remove it"))
    return findings


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W) or (H, W, C) holds one single value."""
    return bool((image == image.flat[0]).all())


def pixel_digest(image: NDArray[np.uint8]) -> bytes:
    """The same for images with the same pixels, whatever their files are; 16 bytes."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def presence(label_maps: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Which classes each label map (N, S, S) shows, (N, K)."""
    return np.stack([(label_maps == k).any(axis=(1, 2)) for k in range(classes)], axis=1)


def _tally(site: SiteData) -> Tally:
    train: NDArray[Any] = site.targets[site.split["train"]]
    sizes = {split: len(site.split[split]) for split in SPLITS}
    patients = len(np.unique(site.patients)) if site.has_patient_ids else None
    if site.task == "regression":
        alike = len(train) > 0 and np.ptp(train) == 0
        value = float(train[0]) if alike else None
        return Tally(site.task, site.classes, len(site), patients, sizes, constant=value)
    counts = _images_per_class(site.targets, site), _images_per_class(train, site)
    return Tally(site.task, site.classes, len(site), patients, sizes, *counts)


def _images_per_class(targets: NDArray[Any], site: SiteData) -> list[int]:
    classes = len(site.classes)
    if site.task == "single-label":
        return [int(n) for n in np.bincount(targets, minlength=classes)]
    if site.task == "multi-label":
        return [int(n) for n in targets.sum(axis=0, dtype=np.int64)]
    return [int(n) for n in presence(targets, classes).sum(axis=0)]


def _duplicates(site: SiteData, blank: NDArray[np.bool_]) -> list[tuple[str, str]]:
    """Pairs of keys in different splits whose prepared pixels are identical; blank ones aside."""
    seen: dict[bytes, list[tuple[Split, int]]] = defaultdict(list)
    pairs = []
    for split in SPLITS:
        for row in site.split[split]:
            if blank[row]:
                continue
            digest = pixel_digest(site.images[row])
            twin = next((r for other, r in seen[digest] if other != split), None)
            if twin is not None:
                pairs.append((site.keys[row], site.keys[twin]))
            seen[digest].append((split, int(row)))
    return pairs
