"""Patients on both sides of given splits, and splits and classes that are too small."""

from collections.abc import Sequence

import numpy as np

from polyclinic.config import DataConfig
from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import SPLITS, Finding
from polyclinic.data.quality import NO_PATIENTS, Tally, check_classes, check_splits
from polyclinic.data.splits import leaking_patients, split_items


def run(survey: Survey) -> Sequence[Finding]:
    """What a run with the default settings would say of the splits and classes it would use."""
    scan, rows = survey.scan, survey.readable
    items = [scan.items[row] for row in rows]
    findings = []
    for patient in leaking_patients(items):
        splits = sorted({item.split for item in items if item.patient == patient and item.split})
        first = next(item.key for item in items if item.patient == patient)
        what = f"patient {patient} is in {' and '.join(splits)}"
        do = "correct the splits; results look too good"
        findings.append(Finding("warning", first, what, do))
    if items and (scan.classes or scan.task == "regression"):
        tally = _tally(survey, rows)
        findings += [*check_splits(tally), *check_classes(tally)]
        findings += [] if scan.has_patient_ids else [NO_PATIENTS]
    return findings


def _tally(survey: Survey, rows: Sequence[int]) -> Tally:
    scan, settings = survey.scan, DataConfig()
    items = [scan.items[row] for row in rows]
    segmentation = scan.task == "segmentation"
    shown = np.array([_shown(survey, row) for row in rows], np.int64)
    split = split_items(
        items,
        scan.classes,
        seed=settings.split_seed,
        val_share=settings.val_share,
        test_share=settings.test_share,
        presence=shown if segmentation else None,
    )
    sizes = {name: len(split[name]) for name in SPLITS}
    patients = len({item.patient for item in items}) if scan.has_patient_ids else None
    labels = {items[row].target for row in split["train"]}
    value = labels.pop() if scan.task == "regression" and len(labels) == 1 else None
    return Tally(
        scan.task,
        scan.classes,
        len(items),
        patients,
        sizes,
        [int(n) for n in shown.sum(axis=0)],
        [int(n) for n in shown[split["train"]].sum(axis=0)],
        float(value) if isinstance(value, int | float) else None,
    )


def _shown(survey: Survey, row: int) -> list[int]:
    """Which classes an image shows, 0 or 1 for each."""
    target, count = survey.item(row).target, len(survey.scan.classes)
    if survey.scan.task == "segmentation":
        return [int(pixels > 0) for pixels in survey.images[row].labels]
    if isinstance(target, tuple):
        return list(target)
    return [int(number == target) for number in range(count)]


CHECK = Check("split", "patients in two splits, splits and classes that are too small", run)
