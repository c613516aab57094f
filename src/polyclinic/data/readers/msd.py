"""`msd`: `dataset.json`, `imagesTr/` and `labelsTr/`, as in the Decathlon and for nnU-Net."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import IGNORE, Finding, Item, Scan, counted
from polyclinic.data.files import cap_findings, list_files, plain, read_text
from polyclinic.data.nifti import ENDS, Volume, axial, read_volume, room, values_of
from polyclinic.data.readers import volumes
from polyclinic.data.readers.reader import Reader, TaskChoice, require_task
from polyclinic.errors import DataError

TABLE = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
MAX_CHANNELS = 3

_IGNORED = "ignore"


@dataclass(frozen=True)
class _Table:
    """What `dataset.json` says: names of channels, and the class of every label value."""

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    values: Mapping[int, int]


@dataclass(frozen=True)
class _Case:
    """Its files: channel to file and, in it, volume; and the one with the labels."""

    channels: Mapping[int, tuple[str, int | None]]
    labels: str


def recognise(folder: Path) -> float:
    """Sure where `dataset.json` lies beside `imagesTr/` and `labelsTr/`."""
    folders = all((folder / name).is_dir() for name in (IMAGES, LABELS))
    return 1.0 if folders and (folder / TABLE).is_file() else 0.0


def scan(folder: Path, task: TaskChoice) -> Scan:
    """List axial slices as `CASE#Z`, Z from the feet up; the patient is the case.

    Which slices, and how bright: `polyclinic.data.readers.volumes`. Images are uint8, (H, W) of one
    channel and (H, W, 3) of more: the first three, or zeros for a third. A label called `ignore`
    counts in no loss. A case that cannot be read stays in the list as one item, so that it counts
    as unreadable. Raises `DataError` where `dataset.json` does not say what is needed.
    """
    require_task("msd", task, "segmentation")
    files, refused = list_files(folder)
    if TABLE not in files:
        raise DataError(f"{folder}: no {TABLE} in it; expected one beside {IMAGES} and {LABELS}")
    table = _table(folder / TABLE)
    cases, findings = _cases(files, table)
    if not cases:
        raise DataError(f"{folder}: no volume in {IMAGES}/ that has a partner in {LABELS}/")
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda case: _slices(folder, cases[case], table), cases))
    items: list[Item] = []
    unusable = {}
    for case, slices in zip(cases, found, strict=True):
        if isinstance(slices, str):
            unusable[case] = slices
            items.append(Item(case, case))
        else:
            items += [Item(f"{case}#{z}", case) for z in slices]
    notes = [Finding("warning", case, reason) for case, reason in unusable.items()]
    if len(table.channels) > MAX_CHANNELS:
        left = ", ".join(table.channels[MAX_CHANNELS:])
        findings.append(Finding("info", TABLE, f"channels left out: {left}"))

    def decode(case: str) -> volumes.Slices:
        return _decode(folder, cases[case], table)

    load = volumes.loader(decode, unusable)
    every = (*refused, *findings, *cap_findings(notes))
    return Scan(folder, "msd", "segmentation", table.classes, tuple(items), load, True, every)


def _table(path: Path) -> _Table:
    expected = "expected `channel_names` (or `modality`) and `labels`, as nnU-Net writes them"
    try:
        content = json.loads(read_text(path))
        names = content.get("channel_names") or content["modality"]
        channels = tuple(plain(str(names[key])) for key in sorted(names, key=int))
        labels = {plain(str(key)): value for key, value in content["labels"].items()}
        if all(str(key).lstrip("-").isdecimal() for key in labels):  # the Decathlon's way round
            labels = {plain(str(name)): int(value) for value, name in labels.items()}
        regions = [name for name, value in labels.items() if not isinstance(value, int)]
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {plain(str(error))}"
        raise DataError(f"{path}: {expected} ({what:.100})") from None
    if regions or 0 not in labels.values():
        what = f"label {regions[0]!r} is no number" if regions else "no label has the value 0"
        raise DataError(f"{path}: {what}; expected one whole number a label, 0 the background")
    ordered = sorted((value, name) for name, value in labels.items() if name != _IGNORED)
    values = {value: number for number, (value, _) in enumerate(ordered)}
    if len(values) != len(ordered) or len(values) >= IGNORE:
        raise DataError(f"{path}: {len(ordered)} labels; expected different ones, below {IGNORE}")
    if _IGNORED in labels:
        values[labels[_IGNORED]] = IGNORE
    return _Table(channels, tuple(name for _, name in ordered), values)


def _cases(files: tuple[str, ...], table: _Table) -> tuple[dict[str, _Case], list[Finding]]:
    """Cases with labels; nnU-Net keeps a file for each channel, the Decathlon one for all."""
    images, labels = _stems(files, IMAGES), _stems(files, LABELS)
    cases: dict[str, _Case] = {}
    lost = []
    for stem, label in labels.items():
        several: dict[int, tuple[str, int | None]] = {
            number: (images[f"{stem}_{number:04d}"], None)
            for number in range(len(table.channels))
            if f"{stem}_{number:04d}" in images
        }
        if several:
            cases[stem] = _Case(several, label)
        elif stem in images:
            alone = len(table.channels) == 1
            cases[stem] = _Case(
                {n: (images[stem], None if alone else n) for n in range(len(table.channels))}, label
            )
        else:
            lost.append(Finding("warning", label, f"has no image in {IMAGES}/", "add it"))
    used = {name for case in cases.values() for name, _ in case.channels.values()}
    idle = len(set(images.values()) - used)
    findings = list(cap_findings(lost))
    if idle:
        what = f"{counted(idle, 'volume')} without labels, left out"
        findings.append(Finding("info", IMAGES, what))
    return cases, findings


def _stems(files: tuple[str, ...], parent: str) -> dict[str, str]:
    found = {}
    for name in files:
        end = next((end for end in ENDS if name.endswith(end)), None)
        if end and name.startswith(f"{parent}/") and name.count("/") == 1:
            found[name.removeprefix(f"{parent}/").removesuffix(end)] = name
    return found


def _slices(folder: Path, case: _Case, table: _Table) -> list[int] | str:
    """The slices worth using, or why the case cannot be used."""
    with room(folder / case.labels):
        return _chosen(folder, case, table)


def _chosen(folder: Path, case: _Case, table: _Table) -> list[int] | str:
    try:
        labels = _labels(read_volume(folder / case.labels, case.labels), case.labels, table)
        first = min(case.channels)
        name, volume = case.channels[first]
        image = read_volume(folder / name, name, volume)
    except DataError as error:
        return str(error)
    if image.shape != labels.shape:
        return f"{name} has shape {image.shape}, {case.labels} {labels.shape}; expected the same"
    shown = volumes.shown_slices(image, _is_ct(table.channels[first]))
    marked = ((labels != 0) & (labels != IGNORE)).any(axis=(0, 1))
    return volumes.chosen(marked, shown) or f"{name} has no slice that shows anything"


def _decode(folder: Path, case: _Case, table: _Table) -> volumes.Slices:
    labels = _labels(read_volume(folder / case.labels, case.labels), case.labels, table)
    greys = []
    for number in range(min(len(table.channels), MAX_CHANNELS)):
        if number not in case.channels:
            greys.append(np.zeros(labels.shape, np.uint8))
            continue
        name, place = case.channels[number]
        volume = read_volume(folder / name, name, place)
        if volume.shape != labels.shape:
            raise DataError(
                f"{name}: shape {volume.shape}, {case.labels} {labels.shape}; expected the same"
            )
        greys.append(volumes.as_grey(volume, _is_ct(table.channels[number])))
    if len(greys) == 1:
        return axial(greys[0]), axial(labels)
    greys += [np.zeros(labels.shape, np.uint8)] * (MAX_CHANNELS - len(greys))
    return axial(np.stack(greys, axis=-1)), axial(labels)


def _labels(volume: Volume, name: str, table: _Table) -> NDArray[np.uint8]:
    found = values_of(volume)
    unknown = [float(value) for value in found if float(value) not in table.values]
    if unknown:
        raise DataError(f"{name}: label {unknown[0]:g}, which {TABLE} does not name; add it there")
    labels = np.zeros(volume.shape, np.uint8)
    for value in found:
        labels[volume == value] = table.values[int(value)]
    return labels


def _is_ct(channel: str) -> bool:
    return channel.strip().lower() == "ct"


READER = Reader(
    "msd", "dataset.json with imagesTr/ and labelsTr/ (Decathlon, nnU-Net)", recognise, scan
)
