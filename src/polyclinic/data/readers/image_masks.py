"""`image-masks`: a folder images/ and a folder masks/ or labels/ with a mask for each."""

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import IGNORE, Finding, Image, Item, Scan, counted
from polyclinic.data.files import (
    cap_findings,
    is_image,
    list_files,
    other_files,
    plain,
    read_text,
)
from polyclinic.data.images import quiet_decoders, read_image, read_label_map
from polyclinic.data.patients import patients_of
from polyclinic.data.readers.reader import Reader, TaskChoice, require_task
from polyclinic.errors import DataError

MASK_FOLDERS = ("masks", "labels")
MASK_SUFFIXES = ("", "_mask", "-mask", "_label", "-label", "_labels", "_seg", "-seg")
"""What may follow the image's name in its mask's name."""
CLASS_NAMES = "classes.txt"
MAX_CLASSES = 64

Meaning = Literal["foreground", "threshold", "classes"]


@dataclass(frozen=True)
class _Survey:
    """What the values of one mask, or of all, could mean."""

    wide: bool = False  # more than 8 bits
    binary: bool = True  # 0 and 1, or 0 and 255
    highest: int = 0  # IGNORE aside


def recognise(folder: Path) -> float:
    """Sure where images/ lies beside masks/ or labels/."""
    beside = any((folder / name).is_dir() for name in MASK_FOLDERS)
    return 1.0 if beside and (folder / "images").is_dir() else 0.0


def scan(folder: Path, task: TaskChoice) -> Scan:
    """Pair images with masks by name, and find out from the masks what their values mean.

    Values of 0 and 1, or 0 and 255: background and foreground. More than 8 bits: instance
    numbers, and every instance is foreground. Small numbers: classes, 255 is not counted;
    `classes.txt` (a name per line, the background first) names them and settles what the values
    mean. JPEG masks, whose values blur, are cut at 128. An image without a mask stays in the
    list, so that it counts as unreadable. Each image is a patient, see `patients_of`. Raises
    `DataError` where the values mean nothing.
    """
    require_task("image-masks", task, "segmentation")
    files, refused = list_files(folder)
    parents = [name for name in MASK_FOLDERS if any(f.startswith(f"{name}/") for f in files)]
    if len(parents) != 1:
        raise DataError(f"{folder}: expected images/ and either masks/ or labels/ with files")
    findings = [*refused, *other_files(files, (CLASS_NAMES,))]
    images = [name for name in files if name.startswith("images/") and is_image(name)]
    masks = [name for name in files if name.startswith(f"{parents[0]}/") and is_image(name)]
    if not images or not masks:
        raise DataError(f"{folder}: no image in {'images' if not images else parents[0]}/")
    partner = _pair(images, masks)
    findings += _unpaired(images, masks, partner)
    named = _class_names(folder / CLASS_NAMES) if CLASS_NAMES in files else ()
    meaning: Meaning = "classes"
    classes = named
    if len(named) <= 1:
        classes, meaning = _meaning(folder, masks)
    if meaning == "threshold":
        what = "masks are JPEG files, whose values blur; cut at 128"
        findings.append(Finding("warning", parents[0], what, "save masks as PNG"))

    load = functools.partial(_load, folder, partner, meaning, len(classes), parents[0])
    items = tuple(Item(name, patient) for name, patient in patients_of(images).items())
    return Scan(folder, "image-masks", "segmentation", classes, items, load, False, tuple(findings))


def _load(
    folder: Path,
    partner: Mapping[str, str],
    meaning: Meaning,
    classes: int,
    parent: str,
    item: Item,
) -> tuple[Image, NDArray[np.uint8] | None]:
    if item.key not in partner:
        raise DataError(f"{item.key}: has no mask in {parent}/")
    mask_name = partner[item.key]
    labels = _interpret(folder, mask_name, meaning, classes)
    image = read_image(folder / item.key, item.key)
    if image.shape[:2] != labels.shape:
        raise DataError(
            f"{item.key}: {image.shape[:2]} px, its mask {mask_name} {labels.shape} px; "
            "expected the same"
        )
    return image, labels


def _pair(images: Sequence[str], masks: Sequence[str]) -> dict[str, str]:
    by_stem = {_stem(name): name for name in masks}
    partner = {}
    for image in images:
        stem = _stem(image)
        found = (by_stem[stem + end] for end in MASK_SUFFIXES if stem + end in by_stem)
        mask = next(found, None)
        if mask is not None:
            partner[image] = mask
    return partner


def _stem(name: str) -> str:
    """Path below images/ or masks/, without extension."""
    return str(PurePosixPath(*PurePosixPath(name).parts[1:]).with_suffix(""))


def _unpaired(
    images: Sequence[str], masks: Sequence[str], partner: dict[str, str]
) -> list[Finding]:
    alone = [Finding("warning", n, "has no mask", "add it") for n in images if n not in partner]
    used = set(partner.values())
    idle = [Finding("warning", n, "is a mask without an image") for n in masks if n not in used]
    twice = len(partner) - len(used)
    what = f"{counted(twice, 'mask')} shared by two images"
    shared = [Finding("error", "", what, "rename")] if twice else []
    return [*cap_findings(alone), *cap_findings(idle), *shared]


def _meaning(folder: Path, masks: Sequence[str]) -> tuple[tuple[str, ...], Meaning]:
    with quiet_decoders(), ThreadPoolExecutor() as pool:
        surveys = list(pool.map(lambda name: _survey(folder, name), masks))
    if any(survey.wide for survey in surveys) or all(survey.binary for survey in surveys):
        return ("background", "foreground"), "foreground"
    if all(name.lower().endswith((".jpg", ".jpeg")) for name in masks):
        return ("background", "foreground"), "threshold"
    highest, name = max((survey.highest, name) for survey, name in zip(surveys, masks, strict=True))
    if highest >= MAX_CLASSES:
        raise DataError(
            f"{folder / name}: values up to {highest}; expected 0 and 255, classes 0 to "
            f"{MAX_CLASSES - 1}, or instance numbers in 16 bits"
        )
    return ("background", *(f"class {number}" for number in range(1, highest + 1))), "classes"


def _survey(folder: Path, name: str) -> _Survey:
    try:
        labels = read_label_map(folder / name, name)
    except DataError:
        return _Survey()  # it is named when its image is loaded
    if labels.dtype.itemsize > 1:
        return _Survey(wide=True)
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    binary = set(values.tolist()) <= {0, 255} or set(values.tolist()) <= {0, 1}
    return _Survey(binary=binary, highest=int(values[values != IGNORE].max(initial=0)))


def _interpret(folder: Path, name: str, meaning: Meaning, classes: int) -> NDArray[np.uint8]:
    labels = read_label_map(folder / name, name)
    if meaning != "classes":
        foreground: NDArray[np.bool_] = labels >= 128 if meaning == "threshold" else labels != 0
        return foreground.astype(np.uint8)
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != IGNORE)]
    if wrong.size:
        raise DataError(f"{name}: value {wrong[0]}; expected 0 to {classes - 1} for the classes")
    return labels.astype(np.uint8)


def _class_names(path: Path) -> tuple[str, ...]:
    lines = [plain(line).strip() for line in read_text(path).splitlines()]
    names = tuple(line for line in lines if line)
    if len(names) > MAX_CLASSES or len(set(names)) != len(names):
        raise DataError(f"{path}: expected up to {MAX_CLASSES} different names, one per line")
    return names


READER = Reader("image-masks", "images/ and masks/ (or labels/), paired by name", recognise, scan)
