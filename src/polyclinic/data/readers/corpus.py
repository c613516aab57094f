"""The server's public images: no labels, in folders of any depth, or in npz archives."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Image, Item, Scan
from polyclinic.data.files import is_image, list_files, other_files
from polyclinic.data.images import read_image
from polyclinic.data.readers.archive import image_count, members
from polyclinic.data.readers.dicom_files import find_dicom
from polyclinic.data.readers.npz import loader
from polyclinic.data.readers.reader import Load
from polyclinic.errors import DataError


def scan_corpus(folder: Path) -> Scan:
    """List every image below `folder`, and those of `train_images` or `images` in any `.npz`.

    The items have no target, and the scan no classes. Raises `DataError` when nothing is there.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the corpus of public images")
    files, refused = list_files(folder)
    archives = [name for name in files if name.lower().endswith(".npz")]
    dicom = find_dicom(folder, files)
    items = [Item(name, name) for name in files if is_image(name)]
    items += [Item(key, name) for name in dicom.images for key in dicom.keys(name)]
    loaders: dict[str, Load] = {}
    for name in archives:
        path = folder / name
        names = members(path)
        array = "train_images" if "train_images" in names else "images"
        loaders[name] = loader(path)
        for index in range(image_count(path, array, names)):
            key = f"{name}:{array}#{index}"
            items.append(Item(key, key))
    if not items:
        raise DataError(
            f"{folder}: no image in it; expected png, jpg, tif, bmp, webp, DICOM or npz"
        )

    load = functools.partial(_load, folder, loaders)
    known = {*archives, *dicom.images, *(header.name for header in dicom.others)}
    findings = (*refused, *other_files(files, known), *dicom.findings)
    return Scan(folder, "corpus", "single-label", (), tuple(items), load, False, findings)


def _load(
    folder: Path, archives: Mapping[str, Load], item: Item
) -> tuple[Image, NDArray[np.uint8] | None]:
    name, separator, _ = item.key.rpartition(":")
    if separator and name in archives:
        return archives[name](item)
    return read_image(folder / item.key, item.key), None
