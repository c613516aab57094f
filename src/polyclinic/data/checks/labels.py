"""Labels that look like typing errors, and images that no table names."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding, counted
from polyclinic.data.files import is_image

ALIKE = 0.8
"""Names at least this alike (`difflib` ratio, 0..1) may be one name and a slip."""
RARE = 0.1
"""A slip has at most this share of the images of the name that was meant."""

MAX_PAIRS = 200_000
"""Where more names would have to be compared, none are."""


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for each rare class with nearly the name of a common one, and for lost images."""
    return [*_slips(survey), *_unlisted(survey)]


def _slips(survey: Survey) -> list[Finding]:
    counts: Counter[str] = Counter()
    for item in survey.scan.items:
        if isinstance(item.target, tuple):
            counts.update(c for c, n in zip(survey.scan.classes, item.target, strict=True) if n)
        elif isinstance(item.target, int) and survey.scan.classes:
            counts[survey.scan.classes[item.target]] += 1
    findings = []
    common = [name for name in survey.scan.classes if RARE * counts[name] >= 1]
    most = RARE * max(counts.values(), default=0)
    rare = [name for name in survey.scan.classes if counts[name] <= most]
    if len(common) * len(rare) > MAX_PAIRS:
        return []  # numbers or identifiers rather than classes
    for name in rare:
        meant = next((m for m in common if _is_slip(name, m, counts)), None)
        if meant is not None:
            what = f"class {name!r} ({counted(counts[name], 'image')}) is nearly called {meant!r}"
            findings.append(Finding("warning", "", what, "correct it if it is a slip"))
    return findings


def _is_slip(name: str, meant: str, counts: Counter[str]) -> bool:
    if name == meant or not 0 < counts[name] <= RARE * counts[meant]:
        return False
    one, other = name.casefold().strip(), meant.casefold().strip()
    if one == other:
        return True
    if re.sub(r"\d+", "", one) == re.sub(r"\d+", "", other):
        return False  # grade 1 and grade 2 are two classes
    return difflib.SequenceMatcher(None, one, other).ratio() >= ALIKE


def _unlisted(survey: Survey) -> list[Finding]:
    if survey.scan.format != "manifest":
        return []  # other formats have no table: their readers say what they leave out
    listed = {item.key for item in survey.scan.items}
    lost = [file.name for file in survey.files if is_image(file.name) and file.name not in listed]
    if not lost:
        return []
    what = f"{counted(len(lost), 'image file')} without a usable row in labels.csv"
    return [Finding("warning", lost[0], what, "add the rows, or remove the files")]


CHECK = Check("label", "labels that look like slips, images without one", run)
