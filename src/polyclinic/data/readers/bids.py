"""`bids`: `sub-*/anat/*.nii.gz` with a column of `participants.tsv` as the label."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from polyclinic.data.dataset import Finding, Item, Scan, Target, Task, counted
from polyclinic.data.files import cap_findings, list_files, plain, read_text
from polyclinic.data.nifti import axial, axial_depth, read_volume
from polyclinic.data.readers import volumes
from polyclinic.data.readers.reader import Reader, TaskChoice
from polyclinic.errors import DataError

TABLE = "participants.tsv"
LABELS = ("diagnosis", "dx", "group", "label")
"""Columns that are the label, the first that is there."""
NUMBER = "age"
"""The column of a regression."""
EVERY = 5
"""Of the axial slices in the middle half of a volume, every so many is used."""

_VOLUME = re.compile(r"(sub-[^/]+)/(?:ses-[^/]+/)?anat/[^/]+_(\w+)\.nii(?:\.gz)?")
_EMPTY = ("", "n/a", "na", "nan")


def recognise(folder: Path) -> float:
    """Sure where `participants.tsv` lies beside a folder `sub-...`."""
    subjects = any(path.is_dir() for path in folder.glob("sub-*"))
    return 1.0 if subjects and (folder / TABLE).is_file() else 0.0


def scan(folder: Path, task: TaskChoice) -> Scan:
    """List axial slices as `FILE#Z`, Z from the feet up; the patient is the subject.

    The kind of image that most subjects have is read (such as T1w), and of its volumes every
    fifth slice of the middle half. A subject's label, one of `LABELS`, is that of its slices; with
    the task regression it is the `age`. Raises `DataError` where no column is a label.
    """
    if task not in ("auto", "single-label", "regression"):
        raise DataError(f"format bids is for single-label and regression, not for {task}")
    files, refused = list_files(folder)
    is_number = task == "regression"
    if TABLE not in files:  # it may be a link that leads elsewhere
        raise DataError(f"{folder}: no {TABLE} in it; expected one beside folders sub-...")
    labels = _labels(folder / TABLE, (NUMBER,) if is_number else LABELS)
    found = [(name, *match.groups()) for name in files if (match := _VOLUME.fullmatch(name))]
    if not found:
        raise DataError(f"{folder}: no volume like sub-01/anat/sub-01_T1w.nii.gz")
    kinds = Counter({kind: len({s for _, s, k in found if k == kind}) for _, _, kind in found})
    usual = max(kinds, key=lambda kind: (kinds[kind], kind == "T1w", kind))
    notes = []
    if len(kinds) > 1:
        others = ", ".join(sorted(kinds.keys() - {usual}))
        notes.append(Finding("info", "", f"{usual} images are used; left out: {others}"))
    named = [(name, subject) for name, subject, kind in found if kind == usual]
    nameless = sorted({subject for _, subject in named} - labels.keys())
    if nameless:
        what = f"{counted(len(nameless), 'subject')} without a label in {TABLE}, left out"
        notes.append(Finding("warning", nameless[0], what, "fill it in"))
    named = [(name, subject) for name, subject in named if subject in labels]
    classes, targets = _targets(labels, is_number)
    items: list[Item] = []
    unusable: dict[str, str] = {}
    for name, subject in named:
        try:
            slices = _slices(folder, name)
        except DataError as error:
            unusable[name] = str(error).removeprefix(f"{name}: ")
            items.append(Item(name, subject, targets[subject]))
            continue
        items += [Item(f"{name}#{z}", subject, targets[subject]) for z in slices]
    notes += cap_findings([Finding("warning", name, why) for name, why in unusable.items()])

    def decode(name: str) -> volumes.Slices:
        return axial(volumes.as_grey(read_volume(folder / name, name), is_ct=False)), None

    load = volumes.loader(decode, unusable)
    served: Task = "regression" if is_number else "single-label"
    return Scan(folder, "bids", served, classes, tuple(items), load, True, (*refused, *notes))


def _labels(path: Path, columns: tuple[str, ...]) -> dict[str, str]:
    """The label of every subject that has one."""
    try:
        text = read_text(path)
        rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", restval=""))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from None
    names = {plain(str(name)).strip().lower(): name for name in (rows[0] if rows else {})}
    column = next((names[name] for name in columns if name in names), None)
    if column is None or "participant_id" not in names:
        seen = ", ".join(names) or "nothing"
        raise DataError(
            f"{path}: expected the columns participant_id and {' or '.join(columns)}; got {seen}"
        )
    who = names["participant_id"]
    values = {plain(row[who]).strip(): plain(row[column]).strip() for row in rows}
    return {
        subject if subject.startswith("sub-") else f"sub-{subject}": value
        for subject, value in values.items()
        if subject and value.lower() not in _EMPTY
    }


def _targets(
    labels: Mapping[str, str], is_number: bool
) -> tuple[tuple[str, ...], dict[str, Target]]:
    if is_number:
        try:
            return (), {subject: float(value) for subject, value in labels.items()}
        except ValueError as error:
            raise DataError(f"{TABLE}: {NUMBER} is not a number everywhere ({error})") from None
    classes = tuple(sorted(set(labels.values())))
    index = {name: number for number, name in enumerate(classes)}
    return classes, {subject: index[value] for subject, value in labels.items()}


def _slices(folder: Path, name: str) -> list[int]:
    """Every fifth slice of the middle half, from the header alone."""
    depth = axial_depth(folder / name, name)
    quarter = depth // 4
    return list(range(quarter, depth - quarter, EVERY))


READER = Reader("bids", "participants.tsv and sub-*/anat/*.nii.gz", recognise, scan)
