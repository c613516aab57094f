"""What is to be predicted: every image of a file or a folder, labelled or not, in a fixed order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Image, Item, Scan
from polyclinic.data.files import list_files
from polyclinic.data.images import read_image
from polyclinic.data.readers import scan_corpus, scan_site
from polyclinic.errors import DataError

NIFTI_EXTENSIONS = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Inputs:
    """`scan` without labels that anybody looks at; `patients` by key, where they are known;
    `references` a NIfTI file by the name of a volume, in whose geometry masks are written."""

    scan: Scan
    patients: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Path] = field(default_factory=dict)

    @property
    def items(self) -> tuple[Item, ...]:
        """The images, in the order of the answers."""
        return self.scan.items

    def groups(self, size: int) -> Iterator[Sequence[Item]]:
        """The items in runs of `size`; a volume is a run of its own, however many slices."""
        for volume, part in groupby(self.items, self.volume_of):
            items = list(part)
            step = len(items) if volume else size
            for start in range(0, len(items), step):
                yield items[start : start + step]

    def volume_of(self, item: Item) -> str:
        """The name of the volume that the item is a slice of, empty for an image on its own."""
        name = item.key.rpartition("#")[0]
        return name if name in self.references else ""


def find_inputs(path: Path) -> Inputs:
    """The images in a file or a folder.

    A folder that is a site in one of the known formats is read as that; any other is searched for
    images at any depth. `labels.csv` gives patients. Raises `DataError` where there is nothing.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected images to predict on")
    if path.is_file():
        return Inputs(_one_file(path))
    try:
        found = scan_site(path)
    except DataError:
        return Inputs(scan_corpus(path))
    patients = {i.key: i.patient for i in found.items} if found.has_patient_ids else {}
    # a manifest leaves images without a label out, which are what a model is for
    scan = scan_corpus(path) if found.format == "manifest" else found
    return Inputs(scan, patients, _references(scan))


def _one_file(path: Path) -> Scan:
    def load(item: Item) -> tuple[Image, NDArray[np.uint8] | None]:
        return read_image(path, item.key), None

    item = Item(path.name, path.name)
    load(item)  # a file that cannot be read is an error here, not a row
    return Scan(path.parent, "file", "single-label", (), (item,), load)


def _references(scan: Scan) -> dict[str, Path]:
    """For each volume of a scan that lies in NIfTI: a file with its geometry."""
    volumes = {item.key.rpartition("#")[0] for item in scan.items if "#" in item.key}
    found: dict[str, Path] = {}
    for volume in sorted(volumes):
        path = scan.folder / volume
        if path.name.lower().endswith(NIFTI_EXTENSIONS):
            found[volume] = path
        elif path.is_dir():
            names = [n for n in list_files(path)[0] if n.lower().endswith(NIFTI_EXTENSIONS)]
            found |= {volume: path / names[0]} if names else {}
    return found
