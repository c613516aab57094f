"""The contact sheet of `data check`: what was found, and the suspects' pictures, in one page.

It shows patients' images and names of files: it is for the site alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyclinic import __version__
from polyclinic.data.checks import CHECKS, Survey
from polyclinic.data.dataset import Finding
from polyclinic.data.images import to_uint8
from polyclinic.errors import DataError
from polyclinic.report import formats
from polyclinic.report.page import template, write_page
from polyclinic.report.pictures import contour, picture_data
from polyclinic.run.data_check import SEVERITIES, Checked

MAX_SUSPECTS = 200
"""Pictures of suspects on the page; the table below names all of them."""
OTHERS = 48
"""Pictures of images without a finding, drawn evenly, to compare with."""
SIDE = 128  # px, at most; a page of large pictures would be too large to open
MASK_COLOUR = (230, 159, 0)


def write_contact_sheet(checked: Checked, path: Path) -> Path:
    """Write the page: findings by check, suspects first, then some images without a finding.

    Raises `RunError` where it cannot be written.
    """
    return write_page(path, template("contact_sheet.html").render(_view(checked)))


def _view(checked: Checked) -> dict[str, Any]:
    survey, counts = checked.survey, checked.counts()
    about: dict[str, list[tuple[str, Finding]]] = defaultdict(list)
    for name, notes in checked.findings.items():
        for finding in notes:
            about[finding.where].append((name, finding))
    suspects = [row for row, item in enumerate(survey.scan.items) if _is_suspect(about[item.key])]
    suspects.sort(key=lambda row: _urgency(about[survey.item(row).key]))
    chosen = set(suspects)
    others = [row for row in survey.readable if row not in chosen]
    others = others[:: max(1, -(-len(others) // OTHERS))]
    scan = survey.scan
    patients = len({item.patient for item in scan.items}) if scan.has_patient_ids else None
    return {
        "version": __version__,
        "title": scan.folder.resolve().name,
        "headline": _headline(counts),
        "facts": [
            ("Format", scan.format),
            *([("Task", scan.task)] if checked.recognised else []),
            ("Images", formats.count(len(scan.items))),
            *([("Classes", formats.count(len(scan.classes)))] if checked.recognised else []),
            ("Patients", formats.count(patients)),
            ("Files", formats.count(len(survey.files))),
        ],
        "checks": [
            {
                "name": name,
                "describe": CHECKS[name].describe,
                "counts": [(s, sum(f.severity == s for f in notes)) for s in SEVERITIES],
                "findings": notes,
            }
            for name, notes in checked.findings.items()
        ],
        "suspects": [
            _tile(survey, row, about[survey.item(row).key]) for row in suspects[:MAX_SUSPECTS]
        ],
        "more": max(0, len(suspects) - MAX_SUSPECTS),
        "others": [_tile(survey, row, ()) for row in others],
    }


def _is_suspect(notes: Sequence[tuple[str, Finding]]) -> bool:
    return any(finding.severity != "info" for _, finding in notes)


def _urgency(notes: Sequence[tuple[str, Finding]]) -> tuple[int, int]:
    worst = min(SEVERITIES.index(finding.severity) for _, finding in notes)
    return worst, -len(notes)


def _headline(counts: dict[str, int]) -> str:
    if not counts["error"] and not counts["warning"]:
        return "Nothing was found that needs a correction."
    parts = [
        f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}"
        for name in ("error", "warning")
        if counts[name]
    ]
    return f"Found: {' and '.join(parts)}."


def _tile(survey: Survey, row: int, notes: Sequence[tuple[str, Finding]]) -> dict[str, Any]:
    item = survey.item(row)
    target = item.target
    classes = survey.scan.classes
    label = classes[target] if isinstance(target, int) and classes else ""
    return {
        "key": item.key,
        "label": label,
        "notes": [(finding.severity, finding.what) for _, finding in notes],
        "uri": _picture(survey, row),
    }


def _picture(survey: Survey, row: int) -> str | None:
    """The image, reduced, with the contour of its mask; None where it cannot be read."""
    if survey.images[row].reason:
        return None
    try:
        stored, labels = survey.scan.load(survey.item(row))
        pixels = to_uint8(stored, survey.item(row).key)
    except DataError:  # it has changed since it was checked
        return None
    if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
        pixels = pixels[..., 0]
    if labels is not None:
        pixels = np.array(Image.fromarray(pixels).convert("RGB"))
        pixels[contour(labels, 1)] = MASK_COLOUR
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    return picture_data(picture)
