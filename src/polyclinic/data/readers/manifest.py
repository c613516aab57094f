"""`manifest`: a table `labels.csv` with the columns path and label, and images anywhere below."""

import csv
import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Finding, Image, Item, Scan, Split, Target, Task, counted
from polyclinic.data.dicom.images import split_frame
from polyclinic.data.files import cap_findings, inside, is_image, plain, read_text
from polyclinic.data.images import read_image
from polyclinic.data.readers.dicom_files import find_dicom
from polyclinic.data.readers.reader import SPLIT_NAMES, Reader, TaskChoice
from polyclinic.errors import DataError

TABLE = "labels.csv"
MAX_COLUMNS = 1000
MAX_CLASSES = 1000
"""Of a multi-label task, where every image has a number for each class."""
_HEADER = 2**16
"""Characters in which the first line ends, as far as its separator is looked for."""
_DELIMITERS = (",", ";", "\t")
_MANY_CLASSES = 50


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    patient: str
    split: Split | None


def recognise(folder: Path) -> float:
    """Sure where there is a `labels.csv`."""
    return 1.0 if (folder / TABLE).is_file() else 0.0


def scan(folder: Path, task: TaskChoice) -> Scan:
    """Read `labels.csv`: path, label, and where they exist patient_id and split.

    Several labels in one cell are separated by `|` or `;`. Labels that are all numbers, not all
    whole, are a regression. A column `site` and any other is ignored: grouping by patient_id
    alone errs on the side of keeping images together. Images that are missing stay in the list,
    so that they count as unreadable. Raises `DataError` with the line that is wrong.
    """
    if task == "segmentation":
        raise DataError("format manifest has no masks; segmentation needs image-masks or brats")
    root = folder.resolve()
    if inside(root, TABLE) is None:
        raise DataError(f"{TABLE}: is a link that leads out of {folder}; copy the file there")
    table = read_table(folder / TABLE)
    rows, findings = _rows(table)
    if not rows:
        raise DataError(f"{folder / TABLE}: no row with a path and a label")
    separator = "|;" if table.delimiter != ";" else "|"
    chosen = _task([row.label for row in rows], separator) if task == "auto" else task
    classes, targets = _targets(rows, chosen, separator)
    if task == "auto" and chosen == "single-label" and len(classes) > _MANY_CLASSES:
        what = f"{len(classes)} different labels"
        findings.append(Finding("warning", TABLE, what, "declare task = 'regression' if a number"))
    has_patients = "patient_id" in table.columns
    nameless = sum(not row.patient for row in rows)
    if has_patients and nameless:
        what = f"{counted(nameless, 'row')} without patient_id; each counts as a patient of its own"
        findings.append(Finding("warning", TABLE, what, "fill in patient_id"))
    dicom = find_dicom(
        root, [r.path for r in rows if not is_image(r.path) and inside(root, r.path)]
    )
    findings += dicom.findings
    items = tuple(
        Item(key, row.patient or row.path, target, row.split)
        for row, target in zip(rows, targets, strict=True)
        for key in (dicom.keys(row.path) if row.path in dicom.images else (row.path,))
    )
    findings += cap_findings([f for f in (_lost(root, row) for row in rows) if f])
    load = functools.partial(_load, root)
    return Scan(folder, "manifest", chosen, classes, items, load, has_patients, tuple(findings))


def _load(root: Path, item: Item) -> tuple[Image, NDArray[np.uint8] | None]:
    path = inside(root, item.key)
    if path is None:
        raise DataError(f"{item.key}: lies outside of the site's folder; refused")
    if not _is_file(split_frame(path)[0]):  # opening a pipe would wait for ever
        raise DataError(f"{item.key}: no such file")
    return read_image(path, item.key), None


@dataclass(frozen=True)
class Table:
    """A CSV file: names of the columns in small letters, rows with the line they start on."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    delimiter: str


def read_table(path: Path) -> Table:
    """Read a CSV file in UTF-8, with or without BOM, with any line ends, by `,` `;` or tab."""
    text = read_text(path)
    header = next(iter(text[:_HEADER].splitlines()), "")
    delimiter = next((d for d in _DELIMITERS if d in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = tuple(plain(cell).strip().lower() for cell in next(reader, []))
        if len(columns) > MAX_COLUMNS:
            raise DataError(f"{path}: {len(columns)} columns; expected at most {MAX_COLUMNS}")
        repeated = sorted({name for name in columns if name and columns.count(name) > 1})
        if repeated:
            raise DataError(f"{path}: two columns are called {repeated[0]!r}; rename one")
        missing = {"path", "label"} - set(columns)
        if missing:
            seen = ", ".join(columns) or "none"
            raise DataError(
                f"{path}: column {' and '.join(sorted(missing))} missing; expected path, label "
                f"and perhaps patient_id, split; got {seen}"
            )
        rows = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                got = counted(len(cells), "cell")
                raise DataError(f"{path}, line {reader.line_num}: {got}; expected {len(columns)}")
            words = (plain(cell).strip() for cell in cells)
            rows.append((reader.line_num, dict(zip(columns, words, strict=True))))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    return Table(columns, tuple(rows), delimiter)


def _rows(table: Table) -> tuple[list[_Row], list[Finding]]:
    rows: dict[str, _Row] = {}
    findings: list[Finding] = []
    contradicted: set[str] = set()
    for line, cells in table.rows:
        where = f"{TABLE}, line {line}"
        path = cells["path"].replace("\\", "/").removeprefix("./")
        if not path or not cells["label"] or cells["label"].lower() in ("nan", "na", "n/a"):
            missing = "label" if path else "path"
            findings.append(Finding("warning", where, f"no {missing}; left out", "fill it in"))
            continue
        given = cells.get("split", "").lower()
        if given and given not in SPLIT_NAMES:
            raise DataError(f"{where}: split {given!r}; expected train, val or test")
        row = _Row(line, path, cells["label"], cells.get("patient_id", ""), SPLIT_NAMES.get(given))
        first = rows.setdefault(path, row)
        if first is not row:
            same = (first.label, first.split) == (row.label, row.split)
            what = f"{path} was already in line {first.line}"
            if same:
                findings.append(Finding("warning", where, f"{what}; counted once"))
            else:
                contradicted.add(path)
                what = f"{what} with another label or split; both left out"
                findings.append(Finding("error", where, what, "keep the right one"))
    kept = [row for path, row in rows.items() if path not in contradicted]
    return kept, list(cap_findings(findings))


def _split_labels(label: str, separators: str) -> list[str]:
    for separator in separators[1:]:
        label = label.replace(separator, separators[0])
    return [part.strip() for part in label.split(separators[0]) if part.strip()]


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _task(labels: Sequence[str], separators: str) -> Task:
    if any(separator in label for separator in separators for label in labels):
        return "multi-label"
    numbers = [_number(label) for label in labels]
    if all(number is not None for number in numbers) and any(
        number is not None and not number.is_integer() for number in numbers
    ):
        return "regression"
    return "single-label"


def _targets(
    rows: Sequence[_Row], task: Task, separators: str
) -> tuple[tuple[str, ...], list[Target]]:
    if task == "regression":
        numbers: list[Target] = []
        for row in rows:
            number = _number(row.label)
            if number is None:
                raise DataError(
                    f"{TABLE}, line {row.line}: label {row.label!r}; expected a finite number"
                )
            numbers.append(number)
        return (), numbers
    several = task == "multi-label"
    labels = [_split_labels(row.label, separators) if several else [row.label] for row in rows]
    classes = tuple(sorted({name for names in labels for name in names}, key=_natural))
    index = {name: number for number, name in enumerate(classes)}
    if several and len(classes) > MAX_CLASSES:
        raise DataError(
            f"{TABLE}: {len(classes)} different labels, several in a cell; expected at most "
            f"{MAX_CLASSES} classes"
        )
    if not several:
        return classes, [index[names[0]] for names in labels]
    sets = [set(names) for names in labels]
    return classes, [tuple(int(name in names) for name in classes) for names in sets]


def _natural(name: str) -> tuple[float, str]:
    number = _number(name)
    return (math.inf if number is None else number, name)


def _lost(root: Path, row: _Row) -> Finding | None:
    path = inside(root, row.path)
    if path is None:
        what = "lies outside of the site's folder; refused"
        return Finding("warning", row.path, what, "copy the file into the folder")
    if not _is_file(path):
        what = f"is in line {row.line} of {TABLE}, but there is no such file"
        return Finding("warning", row.path, what, "add the file or remove the line")
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows
        return False


READER = Reader("manifest", "labels.csv with path, label and perhaps patient_id", recognise, scan)
