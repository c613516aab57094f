"""The clinics, hospitals, cameras and microscopies that the images of a site come from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SiteData
from polyclinic.data.readers.manifest import read_table
from polyclinic.errors import DataError

Domains = NDArray[np.str_]  # (N,), one for each image
COLOURED = 4.0  # mean distance of the brightest from the darkest channel, of 255
BRIGHT = 128.0  # mean
LEAST = 8
"""Training images that a class must have left to be judged."""


def by_clinic(site: SiteData, folder: Path) -> Domains:
    """The column `site` of `labels.csv`, which says who took the image."""
    rows = [cells for _, cells in read_table(folder / "labels.csv").rows]
    known = {row["path"]: row.get("site", "") for row in rows}
    if unknown := [key for key in site.keys if not known.get(key)]:
        raise DataError(f"{folder / 'labels.csv'}: column `site` says nothing of {unknown[0]}")
    return np.array([known[key] for key in site.keys])


def by_hospital(site: SiteData, folder: Path) -> Domains:  # noqa: ARG001
    """The middle of the patient's name: TCGA_DU_1234 is from DU."""
    return np.array([key.split("_")[1] for key in site.keys])


def by_camera(site: SiteData, folder: Path) -> Domains:  # noqa: ARG001
    """The beginning of the file's name."""
    return np.array([Path(key).name.split("_")[0] for key in site.keys])


def by_microscopy(site: SiteData, folder: Path) -> Domains:  # noqa: ARG001
    """From the image, as nothing else says it: coloured is stained, dark grey fluorescence."""
    images = site.images.astype(np.int16)
    coloured = (images.max(axis=1) - images.min(axis=1)).mean(axis=(1, 2)) >= COLOURED
    bright = images.mean(axis=(1, 2, 3)) >= BRIGHT
    return np.where(coloured, "stained", np.where(bright, "bright field", "fluorescence"))


RULES: dict[str, Callable[[SiteData, Path], Domains]] = {
    "skin": by_clinic,
    "glioma": by_hospital,
    "retina": by_camera,
    "nuclei": by_microscopy,
}
"""Sites whose images come from several places, and how they are told apart."""


def shifted(site: SiteData, here: NDArray[np.bool_]) -> SiteData:
    """The site without the images that are `here` (N,), which take the place of the test split.

    The site's own test split goes: what is judged are images of its training and validation splits
    that now serve neither, without those of a class of which fewer than `LEAST` are left to train
    on. `DataError` where nothing is left of one of the splits.
    """
    train, val = site.split["train"], site.split["val"]
    known = np.sort(np.concatenate([train, val]))
    judged, train = known[here[known]], train[~here[train]]
    if site.task == "single-label":
        left = np.bincount(site.targets[train].astype(np.int64), minlength=len(site.classes))
        judged = judged[left[site.targets[judged].astype(np.int64)] >= LEAST]
    split = {"train": train, "val": val[~here[val]], "test": judged}
    if empty := [name for name, rows in split.items() if not len(rows)]:
        raise DataError(f"site '{site.name}': no image is left in {', '.join(empty)}")
    return replace(site, split=split)
