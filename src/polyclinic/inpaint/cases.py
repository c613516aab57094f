"""Folders of brain MRI to scaled axial slices with component maps, ready to be painted on.

Three layouts are recognised: a folder per patient as in BraTS, `imagesTr/` and `labelsTr/` as in
the Medical Segmentation Decathlon, and `images/` with `masks/`, where a mask means a mixture.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.data.dataset import Finding, Scan
from polyclinic.data.files import is_hidden, list_files
from polyclinic.data.nifti import axial, read_volume
from polyclinic.data.patients import patient_of, patients_of, real_case
from polyclinic.data.phantoms import brain
from polyclinic.data.readers import image_masks
from polyclinic.data.readers.brats import kind_of
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import (
    MASK,
    SEQUENCES,
    UNKNOWN_SEQUENCE,
    from_labels,
    sequence,
)
from polyclinic.inpaint.intensity import BLACK, Scaling, scaling_of

Order = Literal["auto", "brats", "msd", "mask"]
Sources = dict[str, dict[str, tuple[str, int | None]]]
MSD_CHANNELS = {"flair": "t2f", "t1w": "t1n", "t1gd": "t1c", "t2w": "t2w"}
"""Names of sequences in the `dataset.json` of the Decathlon's brain task."""
MOST_AIR = BLACK + 0.2
"""An image whose edge is brighter than this has no air there, or grey air."""
FLAT_AIR = 0.06
"""Grey air differs by less than that along the edge: its quantile 0.05 from its median. At the
edges of crops from within 50 heads it was 0.16 and more, in single slices 0.08 and more (crops of
32 px and larger)."""
PHANTOM_SIDE, PHANTOM_SLICES = 120, 12
"""Pixels of a side, and slices, of made-up heads."""
MADE_UP = "made-up/"
"""Their keys begin with it."""
MIN_HEAD = 0.02
"""Slices with a smaller share of head are left out."""


@dataclass(frozen=True)
class Case:
    """A head at one time. `volumes` maps a number of `SEQUENCES` (or `UNKNOWN_SEQUENCE`) to
    scaled intensities, float32 (Z, H, W); `components` uint8 and `head` bool have that shape.
    `scalings` leads back to stored values; `head_px` is the head's extent in its largest slice.
    `rows` are the numbers that these Z slices have in the file, from the feet up: those that show
    little head are left out. It is empty where a case comes from no file. `patient` is whose head
    it is, that of `patient_of` if nobody says: a patient may have several cases."""

    key: str
    volumes: dict[int, NDArray[np.float32]]
    components: NDArray[np.uint8]
    head: NDArray[np.bool_]
    scalings: dict[int, Scaling]
    head_px: float
    rows: tuple[int, ...] = ()
    patient: str = ""

    def __post_init__(self) -> None:
        if not self.patient:
            object.__setattr__(self, "patient", patient_of(self.key))


@dataclass(frozen=True)
class CaseFolder:
    """What was found in `folder`: its layout, the order of its labels, a source per case."""

    folder: Path
    layout: str
    order: str
    sources: Sources
    """Case to kind (a sequence's name, `seg`, or `image`) to file and, in it, volume."""
    scan: Scan | None = None  # of images with masks, which their reader loads
    patient_pattern: str | None = None
    image_sequence: int = UNKNOWN_SEQUENCE  # of images with masks

    def without(self, keys: Collection[str]) -> "CaseFolder":
        """The same folder, some of its cases left out."""
        kept = {key: kinds for key, kinds in self.sources.items() if key not in keys}
        return replace(self, sources=kept)

    def patient(self, key: str) -> str:
        """Whose head a case is, one of this folder or not."""
        return patient_of(key, self.patient_pattern)

    def describe(self) -> str:
        """One line for people."""
        return f"{len(self.sources)} cases, laid out as {self.layout}, labels in {self.order} order"


def find_cases(
    folder: Path,
    order: Order = "auto",
    patient_pattern: str | None = None,
    image_sequence: str | None = None,
) -> CaseFolder:
    """Recognise the layout of `folder`; `order` overrides what its labels mean.

    The first group of `patient_pattern` is the patient in a case's name, see `first_groups`; None
    leaves it to `patient_of`. `image_sequence` is that of images with masks, None if it is
    unknown. Raises `DataError` where there is nothing to train on, and `ConfigError` where the
    pattern is wrong or a sequence is given for files that say it themselves.
    """
    found = _recognised(folder, order)
    if image_sequence is not None:
        if found.scan is None:
            raise ConfigError(
                f"{folder}: laid out as {found.layout}, where files say their sequence; expected "
                "--sequence for images/ with masks/ alone"
            )
        found = replace(found, image_sequence=sequence(image_sequence))
    if patient_pattern is None:
        return found
    option, example = "--patient-pattern", "(TCGA_[A-Z]+_[0-9]+)_"
    first_groups(map(real_case, found.sources), patient_pattern, option, "patient", example)
    return replace(found, patient_pattern=patient_pattern)


def first_groups(
    names: Iterable[str], pattern: str, option: str, kind: str, example: str
) -> dict[str, str]:
    """What the first group of a regular expression finds in each name.

    Raises `ConfigError`, which calls the pattern `option` and what is looked for `kind`, where it
    is no regular expression, has no group (`example` has one), or finds nothing in a name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{option}: {pattern!r} is no regular expression ({error})") from None
    if not compiled.groups:
        raise ConfigError(
            f"{option}: {pattern!r} has no group; expected one in brackets for the {kind}, such as "
            f"{example}"
        )
    found = {}
    for name in names:
        match = compiled.search(name)
        if match is None or not match.group(1):
            raise ConfigError(f"{option}: {pattern!r} finds no {kind} in the name {name}")
        found[name] = match.group(1)
    return found


def _recognised(folder: Path, order: Order) -> CaseFolder:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected brain MRI with segmentations")
    if (folder / "imagesTr").is_dir() and (folder / "labelsTr").is_dir():
        return CaseFolder(folder, "msd", _order(order, "msd"), _msd(folder))
    if image_masks.recognise(folder):
        scan = image_masks.scan(folder, "segmentation")
        sources: Sources = {item.key: {"image": (item.key, None)} for item in scan.items}
        return CaseFolder(folder, "image-masks", _order(order, MASK), sources, scan)
    sources = _brats(folder)
    if not sources:
        raise DataError(
            f"{folder}: no brain MRI with segmentations; expected a folder per patient with "
            "*-t1n.nii.gz ... *-seg.nii.gz, or imagesTr/ and labelsTr/, or images/ and masks/"
        )
    return CaseFolder(folder, "brats", _order(order, "brats"), sources)


def read_cases(found: CaseFolder) -> Iterator[Case | Finding]:
    """Every case in turn, or why it cannot be used."""
    scan = found.scan
    items = {item.key: item for item in scan.items} if scan else {}
    patients = patients_of(found.sources, found.patient_pattern)
    for key, kinds in found.sources.items():
        try:
            if scan:
                image, labels = scan.load(items[key])
                case = _image_case(key, np.asarray(image), labels, found.image_sequence)
            else:
                case = _read_case(found, key, kinds)
            yield replace(case, patient=patients[key])
        except DataError as error:
            yield Finding("warning", key, str(error))


def phantom_cases(count: int, seed: int = 1) -> list[Case]:
    """`count` made-up heads with tumours in four sequences; every fourth tumour has but one part,
    so that a painter sees each part on its own. A demo's heads have the seed 0."""
    cases = []
    for head in brain.generate(
        count, seed=seed, size=PHANTOM_SIDE, slices=PHANTOM_SLICES, lone_part_every=4
    ):
        components = from_labels(axial(head.parts), "brats", head.name)
        stored = {SEQUENCES.index(name): axial(v) for name, v in head.sequences.items()}
        scalings = {number: scaling_of(v, head.name) for number, v in stored.items()}
        volumes = {number: scalings[number].apply(v) for number, v in stored.items()}
        cases.append(_case(f"{MADE_UP}{head.name}", volumes, components, scalings))
    return cases


def head_mask(volumes: list[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Where the head is, bool (Z, H, W): other than the air in any sequence, holes filled.

    Air is dark, or as grey as the whole edge of the image, as where inversion recovery keeps the
    sign: tissue then is darker or brighter than air.
    """
    smooth = _smooth(np.max(np.stack([_with_dark_air(volume) for volume in volumes]), axis=0))
    air = min(float(np.median(_edges(smooth))), MOST_AIR)  # noise makes it brighter
    head = smooth > air + 0.12
    filled = [ndimage.binary_fill_holes(_largest(plane)) for plane in head]
    return np.stack(filled)


def head_extent(head: NDArray[np.bool_]) -> float:
    """The larger side, px, of the box around the head in the slice that shows most of it."""
    plane = head[head.sum(axis=(1, 2)).argmax()]
    if not plane.any():
        return float(max(plane.shape))
    rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    return float(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)


def _with_dark_air(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    smooth = _smooth(volume)
    low, median = np.quantile(_edges(smooth), (0.05, 0.5))
    alike = np.count_nonzero(np.abs(smooth - median) < FLAT_AIR)
    framed = alike < np.count_nonzero(smooth < MOST_AIR)  # around a picture whose air is dark
    if median > MOST_AIR and median - low < FLAT_AIR and not framed:
        distance: NDArray[np.float32] = np.abs(volume - np.float32(median)) + np.float32(BLACK)
        return distance
    return volume


def _smooth(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(volume, (0, 1, 1))
    return smooth


def _edges(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = (volume[:, 0], volume[:, -1], volume[:, :, 0], volume[:, :, -1])
    return np.concatenate(sides, axis=1)


def _largest(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = ndimage.label(plane)
    if count < 2:
        return plane
    sizes = np.bincount(parts.ravel())[1:]
    kept: NDArray[np.bool_] = parts == 1 + int(sizes.argmax())
    return kept


def _order(order: Order, usual: str) -> str:
    return usual if order == "auto" else order


def _brats(folder: Path) -> Sources:
    sources: Sources = {}
    for name in list_files(folder)[0]:
        kind, case = kind_of(name), name.rpartition("/")[0]
        if kind and case:
            sources.setdefault(case, {}).setdefault(kind, (name, None))
    return {case: kinds for case, kinds in sources.items() if "seg" in kinds and len(kinds) > 1}


def _msd(folder: Path) -> Sources:
    channels = _msd_channels(folder / "dataset.json")
    sources: Sources = {}
    for path in sorted((folder / "imagesTr").glob("*.nii.gz")):
        if is_hidden(path.name) or not (folder / "labelsTr" / path.name).is_file():
            continue
        kinds: dict[str, tuple[str, int | None]] = {
            kind: (f"imagesTr/{path.name}", channel) for channel, kind in channels.items()
        }
        kinds["seg"] = (f"labelsTr/{path.name}", None)
        sources[path.name.removesuffix(".nii.gz")] = kinds
    if not sources:
        raise DataError(f"{folder}: no volume in imagesTr/ that has a partner in labelsTr/")
    return sources


def _msd_channels(path: Path) -> dict[int, str]:
    """Which volume of a file is which sequence, as `dataset.json` says."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["modality"]
        channels = {int(n): MSD_CHANNELS[str(name).lower()] for n, name in names.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: expected the brain task's `modality` table with FLAIR, T1w, t1gd, T2w "
            f"({type(error).__name__}: {error})"
        ) from None
    return channels


def _read_case(found: CaseFolder, key: str, kinds: dict[str, tuple[str, int | None]]) -> Case:
    def read(kind: str) -> NDArray[Any]:
        name, channel = kinds[kind]
        return axial(read_volume(found.folder / name, name, channel))

    components = from_labels(read("seg"), found.order, kinds["seg"][0])
    volumes, scalings = {}, {}
    for number, kind in enumerate(SEQUENCES):
        if kind not in kinds:
            continue
        stored = read(kind)
        if stored.shape != components.shape:
            raise DataError(
                f"{kinds[kind][0]}: shape {stored.shape}, its segmentation {components.shape}; "
                "expected the same"
            )
        scalings[number] = scaling_of(stored, kinds[kind][0])
        volumes[number] = scalings[number].apply(stored)
    return _case(key, volumes, components, scalings)


def _image_case(
    key: str, image: NDArray[Any], labels: NDArray[np.uint8] | None, number: int
) -> Case:
    """One slice of the sequence `number`; a mask's foreground is a mixture."""
    grey = image.mean(axis=-1) if image.ndim == 3 else image
    scaling = scaling_of(grey, key)
    assert labels is not None  # the reader of images and masks returns one for every image
    components = from_labels(labels[None], MASK, key)
    return _case(key, {number: scaling.apply(grey)[None]}, components, {number: scaling})


def _case(
    key: str,
    volumes: dict[int, NDArray[np.float32]],
    components: NDArray[np.uint8],
    scalings: dict[int, Scaling],
) -> Case:
    head = head_mask(list(volumes.values()))
    kept = head.mean(axis=(1, 2)) >= MIN_HEAD
    if not kept.any():
        raise DataError("no slice shows a head")
    return Case(
        key,
        {number: volume[kept] for number, volume in volumes.items()},
        components[kept],
        head[kept],
        scalings,
        head_extent(head),
        tuple(np.flatnonzero(kept).tolist()),
    )
