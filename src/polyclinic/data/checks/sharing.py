"""Aggregates about a site's data that may leave it: counts and histograms, none of them small."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyclinic.data.checks.check import Survey
from polyclinic.data.dataset import Finding
from polyclinic.errors import DataError

MIN_COUNT = 10
"""No number below this leaves, and none from which one could be derived by subtraction."""
BINS = 16
"""Bins of the histograms of grey values, 0..255."""


def aggregates(survey: Survey, found: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """Numbers of images, sizes, classes, findings, and histograms; no name, no picture, no id.

    `None` stands for fewer than `MIN_COUNT`, zero included. Classes are sorted by size and have
    no names: a folder may be called after a patient. Raises `DataError` where there are fewer than
    `MIN_COUNT` readable images or, if they are known, patients.
    """
    scan, rows = survey.scan, survey.readable
    patients = len({survey.item(row).patient for row in rows})
    for number, noun in ((len(rows), "readable images"), (patients, "patients")):
        if number < MIN_COUNT:
            raise DataError(
                f"{scan.folder}: {number} {noun}; aggregates may leave from {MIN_COUNT} on; "
                "leave out --share"
            )
    counts: Counter[int] = Counter()
    for row in rows:
        target = survey.item(row).target
        if isinstance(target, tuple):
            counts.update(number for number, shown in enumerate(target) if shown)
        elif isinstance(target, int) and scan.classes:
            counts[target] += 1
    exclusive = scan.task == "single-label"
    of_class = sorted(counts.values(), reverse=True)
    sizes = Counter(survey.images[row].shape for row in rows)
    measured = np.array([survey.images[row].intensity for row in rows])
    edges = np.linspace(0, 256, BINS + 1)
    histograms = {
        name: suppressed([int(n) for n in np.histogram(measured[:, column], edges)[0]])
        for column, name in enumerate(("brightness", "contrast"))
    }
    return {
        "schema": "polyclinic.shared/1",
        "min_count": MIN_COUNT,
        "task": scan.task,
        "images": len(rows),
        "patients": patients if scan.has_patient_ids else None,
        "classes": suppressed(of_class) if exclusive else [_large(n) for n in of_class],
        "sizes": [
            {"height": shape[0], "width": shape[1], "images": number}
            for (shape, _), number in zip(
                sizes.most_common(), suppressed([n for _, n in sizes.most_common()]), strict=True
            )
            if number is not None
        ],
        "histograms": {"edges": edges.tolist(), **histograms},
        "findings": {name: _large(len(notes)) for name, notes in found.items()},
    }


def suppressed(counts: Sequence[int]) -> list[int | None]:
    """Counts that add up to a known total, with `None` for small ones.

    Where those that are left out add up to less than `MIN_COUNT`, the smallest of the others is
    left out too: else the total would give them away.

    >>> suppressed([50, 30, 3])
    [50, None, None]
    >>> suppressed([50, 30, 7, 3])
    [50, 30, None, None]
    """
    kept = [_large(count) for count in counts]
    hidden = sum(count for count in counts if count < MIN_COUNT)
    large = [count for count in kept if count is not None]
    if 0 < hidden < MIN_COUNT and large:
        kept[kept.index(min(large))] = None
    return kept


def _large(count: int) -> int | None:
    return count if count >= MIN_COUNT else None
