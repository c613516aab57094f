"""`npz`: one NumPy archive with train_/val_/test_ images and labels, as MedMNIST writes it."""

import functools
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SPLITS, Finding, Image, Item, Scan, Split, Target, Task, counted
from polyclinic.data.files import inside, is_hidden
from polyclinic.data.images import to_uint8
from polyclinic.data.readers.reader import Reader, TaskChoice
from polyclinic.errors import DataError

_MAX_CLASSES = 1000


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
    read = array_reader(path)
    names = members(path)
    prefixes: list[tuple[str, Split | None]] = [
        (f"{split}_", split) for split in SPLITS if f"{split}_images" in names
    ] or [("", None)]
    labels: list[NDArray[Any]] = []
    keys: list[tuple[str, Split | None]] = []
    for prefix, split in prefixes:
        count = image_count(path, f"{prefix}images", names)
        if f"{prefix}labels" not in names:
            raise DataError(f"{path}: {prefix}labels is missing; found {', '.join(sorted(names))}")
        part = read(f"{prefix}labels")
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
    classes = _class_names(path, read, names, count_classes)
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
    read = array_reader(path)

    def load(item: Item) -> tuple[Image, NDArray[np.uint8] | None]:
        array, index = item.key.rpartition(":")[2].split("#")
        image = read(array)[int(index)]
        if image.ndim == 3 and image.shape[-1] == 1:
            image = image[..., 0]
        return to_uint8(image, item.key), None

    return load


def array_reader(path: Path) -> Callable[[str], NDArray[Any]]:
    """A function that gives an array of the archive by name and keeps it; safe among threads."""
    lock = threading.Lock()

    @functools.cache
    def read(name: str) -> NDArray[Any] | str:
        try:
            with np.load(path, allow_pickle=False) as archive:
                array: NDArray[Any] = archive[name]
                return array
        except Exception as error:  # zip, zlib and NumPy each have errors of their own
            return " ".join(str(error).split()) or type(error).__name__

    def array(name: str) -> NDArray[Any]:
        with lock:
            result = read(name)
        if isinstance(result, str):
            raise DataError(f"{path}: array {name} cannot be read ({result})")
        return result

    return array


def members(path: Path) -> frozenset[str]:
    """The names of the arrays in the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from None
    return frozenset(name.removesuffix(".npy") for name in names)


def image_count(path: Path, name: str, names: frozenset[str]) -> int:
    """How many images the array holds, from its header alone; checks that they are images."""
    if name not in names:
        raise DataError(
            f"{path}: expected train_images (val_images, test_images) or images; "
            f"found {', '.join(sorted(names)) or 'nothing'}"
        )
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, _ = header(file)
    except Exception as error:  # as in array_reader
        raise DataError(f"{path}: array {name} cannot be read ({error})") from None
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape[1:]:
        raise DataError(
            f"{path}: {name} has shape {shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
        )
    return int(shape[0])


def _archives(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".npz" and not is_hidden(path.name) and path.is_file()
    )


def _targets(
    path: Path, labels: NDArray[Any], task: TaskChoice
) -> tuple[Task, int, Iterator[Target]]:
    """Task, number of classes, and a target per row of `labels` (N, K)."""
    if labels.dtype.kind not in "biuf" or not np.isfinite(labels.astype(np.float64)).all():
        raise DataError(f"{path}: labels of type {labels.dtype}; expected finite numbers")
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


def _class_names(
    path: Path, read: Callable[[str], NDArray[Any]], names: frozenset[str], count: int
) -> tuple[str, ...]:
    if count == 0 or "class_names" not in names:
        return tuple(f"class {number}" for number in range(count))
    given = read("class_names")
    if given.dtype.kind != "U" or given.ndim != 1 or len(given) < count:
        raise DataError(
            f"{path}: class_names has type {given.dtype} and shape {given.shape}; "
            f"expected {count} strings"
        )
    return tuple(str(name) for name in given)


READER = Reader(
    "npz", "one .npz with train_images, train_labels, val_..., test_...", recognise, scan
)
