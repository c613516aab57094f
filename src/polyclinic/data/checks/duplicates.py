"""Images whose pixels are identical, whatever their files are called."""

from collections import defaultdict
from collections.abc import Sequence

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every image with the pixels of an earlier one; blank images aside.

    The same image with two labels is an error: one of them is wrong. In two splits of the data it
    makes results look too good.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in survey.seen:
        groups[survey.images[row].digest].append(row)
    return [
        _finding(survey, row, rows[:number])
        for rows in groups.values()
        for number, row in enumerate(rows)
        if number
    ]


def _finding(survey: Survey, row: int, earlier: Sequence[int]) -> Finding:
    item, others = survey.item(row), [survey.item(other) for other in earlier]
    twin = next((other for other in others if other.target != item.target), None)
    if twin is not None:
        what = f"is the same image as {twin.key}, with another label"
        return Finding("error", item.key, what, "find out which label is right; keep one")
    twin = next((other for other in others if other.split != item.split), None)
    if twin is not None:
        what = f"is the same image as {twin.key}, in another split ({item.split}, {twin.split})"
        return Finding("warning", item.key, what, "keep one; results look too good")
    what = f"is the same image as {others[0].key}"
    if others[0].patient != item.patient and survey.scan.has_patient_ids:
        what += ", of another patient"
    return Finding("warning", item.key, what, "keep one")


CHECK = Check("duplicate", "the same pixels twice, also with two labels or in two splits", run)
