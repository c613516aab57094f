"""What a site's data look like, before and after preparation.

`Scan` is what a reader found in a folder (paths and labels; no pixel is decoded yet).
`SiteData` is what training uses: arrays of one size, splits, and the findings about them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["single-label", "multi-label", "regression", "segmentation"]
TASKS: tuple[Task, ...] = ("single-label", "multi-label", "regression", "segmentation")
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IGNORE = 255
"""Value in a label map that no loss and no metric counts (padding)."""

Image = NDArray[np.generic]  # (H, W) or (H, W, C), any dtype, as stored in the file
Target = int | float | tuple[int, ...] | None


@dataclass(frozen=True)
class Item:
    """One image of a site, not yet decoded.

    `key` is unique within the site and stable (path relative to the site's folder, with `#index`
    where a file holds many images). `target` is a class index (single-label), one 0/1 per class
    (multi-label), a number (regression), or None (segmentation: the mask comes from `load`).
    `patient` groups images that must stay in the same split; where nothing is known it is `key`.
    """

    key: str
    patient: str
    target: Target = None
    split: Split | None = None


@dataclass(frozen=True)
class Finding:
    """Something about a site's data that a person should know."""

    severity: Literal["info", "warning", "error"]
    where: str  # a file or key, relative to the site's folder; "" for the site as a whole
    what: str
    do: str = ""


def counted(number: int, noun: str) -> str:
    """A number and what is counted, as findings and errors say it.

    >>> counted(1, "image"), counted(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class Scan:
    """What a reader found in `folder`.

    `load(item)` decodes one item: image (H, W) or (H, W, C) as stored, and for segmentation a
    uint8 label map (H, W) with values below `len(classes)`, else None. It raises `DataError`
    when the file cannot be used. `classes` names the classes; for segmentation the first is the
    background.
    """

    folder: Path
    format: str
    task: Task
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    load: Callable[[Item], tuple[Image, NDArray[np.uint8] | None]]
    has_patient_ids: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class SiteData:
    """A site's prepared data: one array of images of one size, targets, and splits.

    `images` uint8 (N, C, S, S), C is 1 or 3. `targets` is int64 (N,) for single-label, uint8
    (N, K) for multi-label, float32 (N,) for regression, uint8 (N, S, S) for segmentation, where
    `IGNORE` marks padding. `split` holds row numbers, `patients` a group number per image.
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    targets: NDArray[np.generic]
    patients: NDArray[np.int64]
    keys: tuple[str, ...]
    split: dict[Split, NDArray[np.int64]]
    format: str
    has_patient_ids: bool = False
    findings: tuple[Finding, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)
