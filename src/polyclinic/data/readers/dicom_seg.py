"""`dicom-seg`: DICOM series of any patients, and DICOM Segmentations that refer to them."""

import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import IGNORE, Finding, Image, Item, Scan
from polyclinic.data.dicom.groups import group
from polyclinic.data.dicom.header import floats, read_dataset
from polyclinic.data.dicom.images import SEGMENTATIONS, Header, split_frame
from polyclinic.data.dicom.orientation import turn_of
from polyclinic.data.dicom.segmentation import Segmentation, read_masks, read_segmentation
from polyclinic.data.files import cap_findings, list_files, other_files
from polyclinic.data.images import read_image
from polyclinic.data.readers import volumes
from polyclinic.data.readers.dicom_files import DicomFiles, find_dicom, may_be_dicom
from polyclinic.data.readers.reader import Reader, TaskChoice, require_task
from polyclinic.errors import DataError

_CLASS_WITHIN = 1024
"""Bytes in which a file says what it is."""
_ALIKE = 1e-3
"""Direction cosines of a segment and of its image may differ by so much."""
_NEAR = 1e-2
"""Positions of a segment and of its image may differ by so many mm."""

Masks = dict[str, tuple[Segmentation, list[int]]]
"""Keys of images, and the frames of a Segmentation that lie on them."""


@dataclass(frozen=True)
class _Slice:
    key: str
    header: Header
    frame: int


def recognise(folder: Path) -> float:
    """Sure where a file says in its first bytes that it is a Segmentation."""
    marks = [uid.encode() for uid in SEGMENTATIONS]
    for name in list_files(folder)[0]:
        if may_be_dicom(folder, name):
            try:
                with (folder / name).open("rb") as file:
                    head = file.read(_CLASS_WITHIN)
            except OSError:
                continue
            if any(mark in head for mark in marks):
                return 1.0
    return 0.0


def scan(folder: Path, task: TaskChoice) -> Scan:
    """List the slices of every series that a Segmentation refers to, in their own planes.

    By patient, by series, and along it; which slices: `polyclinic.data.readers.volumes.chosen`.
    The classes are the segments' labels, the background first. Raises `DataError` where no
    Segmentation can be read, or none refers to an image that is there.
    """
    require_task("dicom-seg", task, "segmentation")
    files, refused = list_files(folder)
    dicom = find_dicom(folder, files)
    notes: list[Finding] = []
    found: list[Segmentation] = []
    for header in dicom.others:
        if header.kind == "segmentation":
            try:
                found.append(read_segmentation(folder / header.name, header.name))
            except DataError as error:
                what = str(error).removeprefix(f"{header.name}: ")
                notes.append(Finding("warning", header.name, what))
    names = sorted({label for one in found for label in one.labels.values()})
    if not found or len(names) >= IGNORE:
        raise DataError(f"{folder}: {len(names)} segments; expected some, below {IGNORE}")
    series = _series(dicom)
    masks, idle = _match(found, series)
    notes += [Finding("warning", one.name, "refers to no image in this folder") for one in idle]
    if not masks:
        raise DataError(
            f"{folder}: no Segmentation refers to an image that is there; add the series"
        )
    patients = dicom.patients()
    items: list[Item] = []
    unused = 0
    for slices in series.values():
        labelled = np.array([one.key in masks for one in slices])
        if not labelled.any():
            unused += 1
            continue
        rows = volumes.chosen(labelled, np.ones(len(slices), np.bool_))
        for one in (slices[row] for row in rows):
            items.append(Item(one.key, patients.get(one.header.name, one.header.name)))
    if unused:
        notes.append(Finding("info", "", f"{unused} series without a Segmentation, left out"))
    known = {*dicom.images, *(header.name for header in dicom.others)}
    whose = all(item.key.partition("#")[0] in patients for item in items)
    every = (*refused, *other_files(files, known), *dicom.findings, *cap_findings(notes))
    classes = ("background", *names)
    return Scan(
        folder,
        "dicom-seg",
        "segmentation",
        classes,
        tuple(items),
        _loader(folder, masks, names),
        whose,
        every,
    )


def _series(dicom: DicomFiles) -> dict[tuple[str, str], list[_Slice]]:
    """Slices by patient and series, in the order of their places."""
    held: dict[tuple[str, str], list[tuple[float, _Slice]]] = defaultdict(list)
    for name, header in dicom.images.items():
        if header is None:
            continue
        for frame, key in enumerate(header.keys):
            place = header.place if header.place is not None else 0.0
            one = _Slice(key, header, frame)
            held[header.patient, header.series or name].append((place, one))
    return {
        series: [
            one for _, one in sorted(slices, key=lambda s: (s[0], s[1].header.name, s[1].frame))
        ]
        for series, slices in sorted(held.items())
    }


def _match(
    found: Sequence[Segmentation], series: Mapping[tuple[str, str], Sequence[_Slice]]
) -> tuple[Masks, list[Segmentation]]:
    """Which frames lie on which image: by its UID, or else by position; and what lies on none."""
    by_uid: dict[tuple[str, int], str] = {}
    by_place: dict[str, list[tuple[tuple[float, ...], str]]] = defaultdict(list)
    for (_, uid), slices in series.items():
        for one in slices:
            by_uid[one.header.instance, one.frame] = one.key
            if one.header.position is not None and one.header.frames == 1:
                by_place[uid].append((one.header.position, one.key))
    masks: Masks = {}
    idle = []
    for segmentation in found:
        used = False
        near = [pair for uid in segmentation.series for pair in by_place.get(uid, ())]
        for number, (_, place) in enumerate(segmentation.frames):
            key = by_uid.get((place.image, place.frame or 0))
            if key is None and place.position is not None:
                at = place.position
                key = next((k for p, k in near if np.allclose(p, at, atol=_NEAR)), None)
            if key is not None and masks.setdefault(key, (segmentation, []))[0] is segmentation:
                masks[key][1].append(number)
                used = True
        if not used:
            idle.append(segmentation)
    return masks, idle


def _loader(
    folder: Path, masks: Masks, names: Sequence[str]
) -> Callable[[Item], tuple[Image, NDArray[np.uint8] | None]]:
    lock = threading.Lock()

    @functools.lru_cache(maxsize=2)
    def opened(name: str) -> Any:
        return read_dataset(folder / name, name)

    def load(item: Item) -> tuple[Image, NDArray[np.uint8] | None]:
        image = read_image(folder / item.key, item.key)
        if item.key not in masks:
            return image, np.zeros(image.shape[:2], np.uint8)
        segmentation, frames = masks[item.key]
        classes = {number: 1 + names.index(name) for number, name in segmentation.labels.items()}
        with lock:
            dataset = opened(segmentation.name)
        labels = read_masks(segmentation, dataset, frames, classes)
        labels = _turned(folder, item.key, labels, dataset, frames[0])
        if labels.shape != image.shape[:2]:
            raise DataError(
                f"{item.key}: {image.shape[:2]} px, its mask {segmentation.name} "
                f"{labels.shape} px; expected the same"
            )
        return image, labels

    return load


def _turned(
    folder: Path, key: str, labels: NDArray[np.uint8], masks: Any, number: int
) -> NDArray[np.uint8]:
    """`labels` turned as their image is; `DataError` where they lie in another plane."""
    file, frame = split_frame(folder / key)
    image = read_dataset(file, key, pixels=False)
    planes = [
        floats(group(one, "PlaneOrientationSequence", at), "ImageOrientationPatient", 6)
        for one, at in ((image, frame), (masks, number))
    ]
    if planes[0] and planes[1] and not np.allclose(planes[0], planes[1], atol=_ALIKE):
        raise DataError(f"{key}: lies in another plane than its mask; expected the same")
    turned: NDArray[np.uint8] = turn_of(image, frame).apply(labels)
    return turned


READER = Reader("dicom-seg", "DICOM series with DICOM Segmentations", recognise, scan)
