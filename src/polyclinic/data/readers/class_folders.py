"""`class-folders`: one sub-folder of images per class, below train/val/test or not."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Finding, Image, Item, Scan, Split, counted
from polyclinic.data.files import escaped, is_hidden, is_image, list_files, other_files
from polyclinic.data.images import read_image
from polyclinic.data.readers.dicom_files import find_dicom, may_be_dicom
from polyclinic.data.readers.reader import SPLIT_NAMES, Reader, TaskChoice, require_task
from polyclinic.errors import DataError

# Folders of these names hold the pictures of other formats, not a class.
_NO_CLASSES = {"images", "masks", "labels"}


def recognise(folder: Path) -> float:
    """Half sure where at least two sub-folders hold an image: they may belong to a manifest."""
    return 0.5 if len(with_images(folder)) >= 2 else 0.0


def with_images(folder: Path) -> list[str]:
    """Names of the sub-folders that hold an image at any depth, and may be classes."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if not is_hidden(entry.name)
        and entry.is_dir()
        and not entry.is_symlink()  # links to folders are not followed
        and entry.name.lower() not in _NO_CLASSES
        and _holds_image(entry)
    )


def scan(folder: Path, task: TaskChoice) -> Scan:
    """List `folder/CLASS/**/image` or `folder/SPLIT/CLASS/**/image`; classes in order of names.

    Images may be DICOM: every frame is an item then, and patients are known by their ids.

    Images above the class folders are left out, and reported. Raises `DataError` where it cannot
    be told whether folders are splits or classes.
    """
    require_task("class-folders", task, "single-label")
    files, refused = list_files(folder)
    dicom = find_dicom(folder, files)
    known = {*dicom.images, *(header.name for header in dicom.others)}
    findings = [*refused, *other_files(files, known), *dicom.findings]
    pictures = [name for name in files if is_image(name) or name in dicom.images]
    parts = [tuple(name.split("/")) for name in pictures]
    by_split = _splits_above_classes(folder, parts)
    level = 1 if by_split else 0
    loose = ["/".join(path) for path in parts if len(path) < level + 2]
    if loose:
        what = f"{counted(len(loose), 'image')} outside of the class folders, left out"
        findings.append(Finding("warning", loose[0], what, "move them into a class folder"))
    parts = [path for path in parts if len(path) >= level + 2]
    classes = tuple(sorted({path[level] for path in parts}))
    if not classes:
        raise DataError(f"{folder}: no sub-folder holds an image; expected one folder per class")
    index = {name: number for number, name in enumerate(classes)}
    patients = dicom.patients()
    items = []
    for path in parts:
        split: Split | None = SPLIT_NAMES[path[0].lower()] if by_split else None
        name = "/".join(path)
        patient = patients.get(name, name)
        keys = dicom.keys(name) if name in dicom.images else (name,)
        items += [Item(key, patient, index[path[level]], split) for key in keys]
    if not by_split:
        findings += _empty_classes(folder, classes)
        what, do = "has a split's name, but is read as a class", "rename it, or move it away"
        findings += [Finding("warning", c, what, do) for c in classes if c.lower() in SPLIT_NAMES]

    whose = all("/".join(path) in patients for path in parts)
    findings += _patients_for_classes(items, classes) if whose else []
    load = functools.partial(load_file, folder)
    return Scan(
        folder, "class-folders", "single-label", classes, tuple(items), load, whose, tuple(findings)
    )


def load_file(folder: Path, item: Item) -> tuple[Image, NDArray[np.uint8] | None]:
    """The image whose path in `folder` is the item's key; `DataError` where it cannot be read."""
    return read_image(folder / item.key, item.key), None


def _splits_above_classes(folder: Path, parts: Sequence[tuple[str, ...]]) -> bool:
    """Whether the top folders are splits, and the classes lie below them.

    Loose images do not count: one stray file must not turn splits into classes.
    """
    tops = {path[0] for path in parts if len(path) > 1}
    named = {top for top in tops if top.lower() in SPLIT_NAMES}
    divided = sorted({path[0] for path in parts if len(path) > 2} & named)
    others = sorted(tops - named)
    if divided and others:
        raise DataError(
            f"{folder}: {divided[0]}/ holds folders as a split does, but {others[0]}/ beside it is "
            "no split; expected only splits, or only classes; rename or move away one of the two"
        )
    if named and not divided and not others:
        raise DataError(
            f"{folder}: {' and '.join(f'{top}/' for top in sorted(named))} without a folder for "
            "each class; expected SPLIT/CLASS/image; sort the images into such folders"
        )
    return bool(divided)


def _holds_image(folder: Path) -> bool:
    pending = [folder]  # no recursion: folders may lie deeper than Python's stack
    while pending:
        parent = pending.pop()
        try:
            entries = [entry for entry in os.scandir(parent) if not is_hidden(entry.name)]
        except OSError:
            continue
        if any(
            is_image(entry.name) or may_be_dicom(parent, entry.name)
            for entry in entries
            if not entry.is_dir(follow_symlinks=False)
        ):
            return True
        pending += [parent / one.name for one in entries if one.is_dir(follow_symlinks=False)]
    return False


def _empty_classes(folder: Path, classes: tuple[str, ...]) -> list[Finding]:
    folders = {path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()}
    empty = sorted(name for name in folders - set(classes) if not is_hidden(name))
    what = "a class folder without an image; left out"
    return [Finding("warning", escaped(name), what) for name in empty]


def _patients_for_classes(items: Sequence[Item], classes: Sequence[str]) -> list[Finding]:
    """A folder for each patient looks like a folder for each class."""
    patients: list[set[str]] = [set() for _ in classes]
    for item in items:
        if isinstance(item.target, int):
            patients[item.target].add(item.patient)
    if any(len(found) > 1 for found in patients) or len(set.union(*patients)) < len(classes):
        return []
    what = "each class folder holds one patient alone: folders of patients are no classes"
    return [Finding("warning", classes[0], what, "sort the images by class, or write a labels.csv")]


READER = Reader(
    "class-folders", "one sub-folder of images per class (or train/CLASS/...)", recognise, scan
)
