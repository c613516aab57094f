"""`npz`: one NumPy archive with train_/val_/test_ images and labels, as MedMNIST writes it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SPLITS, Finding, Image, Item, Scan, Split, Target, Task, counted
from polyclinic.data.files import inside, is_hidden, plain
from polyclinic.data.images import to_uint8
from polyclinic.data.readers.archive import image_count, members, read_small, row_reader
from polyclinic.data.readers.reader import Reader, TaskChoice
from polyclinic.errors import DataError

_MAX_CLASSES = 1000
_MAX_LABELS = 2**25
"""Images times classes: every image has a number for each class."""


def recognise(folder: Path) -> float:
    """Sure where a `.npz` file lies in the folder."""
    return 1.0 if _archives(folder) else 0.0


def scan(folder: Path, task: TaskChoice) -> Scan:
    """Read the labels of the one `.npz` in `folder`; images are read when they are asked for.

    Images (N, H, W), (N, H, W, 1) or (N, H, W, 3). Labels (N,) or (N, 1) whole: single-label;
    with fractions: regression; (N, K) of 0 and 1: multi-label. `class_names` may name the
    classes. The splits are those of the file. Nothing pickled is ever loaded.
    """
    if task == "segmentation":
        raise DataError("format npz has no masks; segmentation needs image-masks or brats")
    archives = _archives(folder)
    if len(archives) != 1:
        raise DataError(f"{folder}: {len(archives)} .npz files; expected exactly one")
    path = archives[0]
    if inside(folder.resolve(), path.name) is None:
        raise DataError(f"{path}: is a link that leads out of the folder; copy the file there")
    names = members(path)
    prefixes: list[tuple[str, Split | None]] = [
        (f"{split}_", split) for split in SPLITS if f"{split}_images" in names
    ] or [("", None)]
    labels: list[NDArray[Any]] = []
    keys: list[tuple[str, Split | None]] = []
    for prefix, split in prefixes:
        count = image_count(path, f"{prefix}images", names)
        if f"{prefix}labels" not in names:
            raise DataError(
                f"{path}: {prefix}labels is missing; found {', '.join(sorted(names)[:20])}"
            )
        part = read_small(path, f"{prefix}labels")
        if len(part.shape) == 0 or len(part) != count:
            raise DataError(
                f"{path}: {prefix}images holds {counted(count, 'image')}, {prefix}labels has "
                f"shape {part.shape}; expected one label per image"
            )
        if count:
            labels.append(part.reshape(count, -1))
            keys += [(f"{path.name}:{prefix}images#{index}", split) for index in range(count)]
    if not labels or len({part.shape[1] for part in labels}) > 1:
        raise DataError(f"{path}: no image, or labels of different widths in its splits")
    chosen, count_classes, targets = _targets(path, np.concatenate(labels), task)
    classes = _class_names(path, names, count_classes)
    items = tuple(
        Item(key, key, target, split) for (key, split), target in zip(keys, targets, strict=True)
    )
    findings: tuple[Finding, ...] = ()
    if classes and "class_names" not in names:
        what = "no array `class_names`; the classes are called by their numbers"
        findings = (Finding("info", path.name, what, "add class_names to the file"),)
    return Scan(folder, "npz", chosen, classes, items, loader(path), False, findings)


def loader(path: Path) -> Callable[[Item], tuple[Image, NDArray[np.uint8] | None]]:
    """A `Scan.load` for keys `FILE:ARRAY#INDEX` of this archive."""
    read = row_reader(path)

    def load(item: Item) -> tuple[Image, NDArray[np.uint8] | None]:
        array, index = item.key.rpartition(":")[2].split("#")
        image = read(array, int(index))
        if image.ndim == 3 and image.shape[-1] == 1:
            image = image[..., 0]
        return to_uint8(image, item.key), None

    return load


def _archives(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".npz"
        and not is_hidden(path.name)
        and plain(path.name) == path.name
        and path.is_file()
    )


def _targets(
    path: Path, labels: NDArray[Any], task: TaskChoice
) -> tuple[Task, int, Iterator[Target]]:
    """Task, number of classes, and a target per row of `labels` (N, K)."""
    if labels.dtype.kind not in "biuf" or not np.isfinite(labels.astype(np.float64)).all():
        raise DataError(f"{path}: labels of type {labels.dtype}; expected finite numbers")
    if labels.size > _MAX_LABELS or (labels.shape[1] > _MAX_CLASSES):
        raise DataError(
            f"{path}: labels of shape {labels.shape}; expected at most {_MAX_CLASSES} classes "
            f"and {_MAX_LABELS} numbers"
        )
    whole = bool((labels == np.rint(labels)).all()) if labels.dtype.kind == "f" else True
    width = labels.shape[1]
    found: Task = "multi-label" if width > 1 else "single-label" if whole else "regression"
    chosen = found if task == "auto" else task
    if chosen == "regression" and width == 1:
        return chosen, 0, (float(value) for value in labels[:, 0])
    if chosen == "multi-label" and bool(np.isin(labels, (0, 1)).all()):
        return chosen, width, (tuple(int(value) for value in row) for row in labels)
    if chosen == "single-label" and width == 1 and whole:
        low, high = int(labels.min()), int(labels.max())
        if low >= 0 and high < _MAX_CLASSES:
            return chosen, high + 1, (int(value) for value in labels[:, 0])
        expected = f"class numbers from 0 to at most {_MAX_CLASSES - 1}"
        raise DataError(f"{path}: labels from {low} to {high}; expected {expected}")
    raise DataError(
        f"{path}: labels of shape {labels.shape} and type {labels.dtype} do not serve {chosen}; "
        "expected (N,) whole for single-label, (N, K) of 0 and 1 for multi-label, "
        "(N,) for regression"
    )


def _class_names(path: Path, names: frozenset[str], count: int) -> tuple[str, ...]:
    if count == 0 or "class_names" not in names:
        return tuple(f"class {number}" for number in range(count))
    given = read_small(path, "class_names")
    if given.dtype.kind != "U" or given.ndim != 1 or len(given) < count:
        raise DataError(
            f"{path}: class_names has type {given.dtype} and shape {given.shape}; "
            f"expected {count} strings"
        )
    try:
        return tuple(plain(str(name)) for name in given)
    except (ValueError, SystemError):  # numbers that are no characters
        raise DataError(f"{path}: class_names holds what is no text; write it again") from None


READER = Reader(
    "npz", "one .npz with train_images, train_labels, val_..., test_...", recognise, scan
)
