"""Masks that are empty, and volumes of a case that do not lie on one another."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from polyclinic.data.checks.check import Check, FileFacts, Survey
from polyclinic.data.dataset import Finding, counted

COMMON = 0.1
"""Where a larger share of the patients have an empty mask, that is how the data are."""
TOLERANCE = 0.01
"""Affines may differ by so much: mm of place, and shares of a voxel's size."""


def run(survey: Survey) -> Sequence[Finding]:
    """Empty masks, patient by patient, and volumes with different grids, case by case.

    A mask of another size than its image makes the image unreadable, which `reading` reports.
    """
    return [*_empty(survey), *_shifted(survey)] if survey.scan.task == "segmentation" else []


def _empty(survey: Survey) -> list[Finding]:
    drawn: dict[str, int] = defaultdict(int)
    first: dict[str, str] = {}
    for row in survey.readable:
        item = survey.item(row)
        drawn[item.patient] += sum(survey.images[row].labels[1:])
        first.setdefault(item.patient, item.key)
    empty = [patient for patient, pixels in drawn.items() if not pixels]
    if len(empty) > COMMON * len(drawn):
        what = f"{len(empty)} of {counted(len(drawn), 'mask')} are empty"
        return [Finding("info", first[empty[0]], what)]
    do = "see whether there is nothing to draw"
    return [Finding("warning", first[patient], "its mask is empty", do) for patient in empty]


def _shifted(survey: Survey) -> list[Finding]:
    cases: dict[PurePosixPath, list[FileFacts]] = defaultdict(list)
    for file in survey.files:
        if file.grid:
            cases[PurePosixPath(file.name).parent].append(file)
    findings = []
    for files in cases.values():
        usual = files[0]
        for file in files[1:]:
            if len(file.grid) != len(usual.grid) or not np.allclose(
                file.grid, usual.grid, atol=TOLERANCE
            ):
                what = f"another shape or place in space than {usual.name}"
                findings.append(Finding("warning", file.name, what, "resample it to one grid"))
    return findings


CHECK = Check("mask", "empty masks, volumes that do not lie on one another", run)
