"""Whose a case is, by its name: one rule for all readers, for painted cases too.

A painted case is named after the case that it was painted into: `KEY_painted-00012` is of the
patient of KEY, wherever both lie.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import unquote

_TIMEPOINT = re.compile(r"(?:^|/)(BraTS-[A-Za-z]+-\d+)-\d+$")
_PAINTED = re.compile(r"(?:^|/)(?P<case>[^/]+)_painted-\d{5,}(?P<image>\.[^./]+)?$")
_IMAGES = "images/"


def painted_key(case: str, number: int) -> str:
    """The name of a new case that is painted into `case`: fit for a file, and `real_case` reads it.

    >>> painted_key("glioma/TCGA_DU_5849", 12), painted_key("images/0-1.png", 3)
    ('glioma%2FTCGA_DU_5849_painted-00012', '0-1.png_painted-00003')
    """
    name = case.removeprefix(_IMAGES).replace("%", "%25").replace("/", "%2F")
    return f"{name}_painted-{number:05d}"


def real_case(case: str) -> str:
    """The case that a painted one was painted into; any other case as it is.

    >>> real_case("more/glioma%2FTCGA_DU_5849_painted-00012")
    'glioma/TCGA_DU_5849'
    >>> real_case("images/0-1.png_painted-00003.png")
    'images/0-1.png'
    """
    while match := _PAINTED.search(case):  # painted cases may be painted into in their turn
        case = (_IMAGES if match["image"] else "") + unquote(match["case"])
    return case


def patient_of(case: str, pattern: str | None = None) -> str:
    """The patient of a case, by its `real_case`: what the first group of `pattern` finds in it, if
    it finds any. From 2023 on, BraTS-GLI-00000-000 and BraTS-GLI-00000-001 are two timepoints of
    BraTS-GLI-00000, in whatever folder they lie. Other cases are their own."""
    case = real_case(case)
    match = (re.search(pattern, case) if pattern else None) or _TIMEPOINT.search(case)
    return (match and match.group(1)) or case


def patients_of(cases: Iterable[str], pattern: str | None = None) -> dict[str, str]:
    """The patient of each of some cases: `patient_of` it; a painted one whose own case goes by a
    longer or shorter path here is of that one's patient, see `same_names`."""
    found = {case: patient_of(case, pattern) for case in cases}
    painted = {case for case in found if real_case(case) != case}
    there = [found[case] for case in found if case not in painted]
    same = same_names({found[case] for case in painted}, there)
    return {case: (same.get(found[case]) or [found[case]])[0] for case in found}


def same_names(names: Iterable[str], known: Iterable[str]) -> dict[str, list[str]]:
    """For each of `names`, those of `known` that it may stand for, as folders are moved: itself,
    or else those that end with the same part of a path; of several, those that share most of it.

    >>> same_names(["glioma/TCGA_DU_1", "b/x"], ["TCGA_DU_1", "TCGA_DU_2", "a/x", "c/b/x"])
    {'glioma/TCGA_DU_1': ['TCGA_DU_1'], 'b/x': ['c/b/x']}
    """
    ending = defaultdict(list)
    for one in dict.fromkeys(known):
        ending[last_part(one)].append(one)
    found = {}
    for name in names:
        shared = {one: _shared(name, one) for one in ending.get(last_part(name), [])}
        most = max(shared.values(), default=0)
        alike = [one for one in shared if shared[one] == most]
        found[name] = [name] if name in shared else alike
    return found


def last_part(name: str) -> str:
    """The last part of a path: a case, whatever folder it was found in."""
    return name.rpartition("/")[2]


def _shared(name: str, other: str) -> int:
    """How many parts two paths have in common, from their ends."""
    pairs = zip(reversed(name.split("/")), reversed(other.split("/")), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
