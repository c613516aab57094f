"""Images that show nothing."""

from collections.abc import Sequence

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding

FLAT = 2.0
"""A standard deviation below this many grey values (0..255) is nothing that anybody could see."""


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every image of one single value, or with next to no contrast."""
    findings = []
    for row in survey.readable:
        facts, key = survey.images[row], survey.item(row).key
        if facts.blank:
            findings.append(Finding("warning", key, "is of one single value", "remove it"))
        elif facts.intensity[1] < FLAT:
            spread = f"standard deviation {facts.intensity[1]:.1f} of 255"
            findings.append(Finding("warning", key, f"is nearly blank ({spread})", "look at it"))
    return findings


CHECK = Check("blank", "images without content", run)
