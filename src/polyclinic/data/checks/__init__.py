"""What may be wrong with a site's data. To add a check: a file beside this one, and a line."""

from collections.abc import Callable

from polyclinic.data.checks import (
    blank,
    burned_in_text,
    duplicates,
    extensions,
    formats,
    identity,
    intensity,
    labels,
    masks,
    near_duplicates,
    orientation,
    reading,
    splits,
)
from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.checks.survey import survey_folder
from polyclinic.data.dataset import Finding

__all__ = ["CHECKS", "Check", "Survey", "run_checks", "survey_folder"]

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        reading.CHECK,
        extensions.CHECK,
        labels.CHECK,
        splits.CHECK,
        duplicates.CHECK,
        near_duplicates.CHECK,
        blank.CHECK,
        formats.CHECK,
        intensity.CHECK,
        orientation.CHECK,
        masks.CHECK,
        burned_in_text.CHECK,
        identity.CHECK,
    )
}


def run_checks(survey: Survey, done: Callable[[float], None]) -> dict[str, tuple[Finding, ...]]:
    """The findings of every check, by its name; `done` is told the share of them, 0..1."""
    found = {}
    for number, (name, check) in enumerate(CHECKS.items(), 1):
        found[name] = tuple(check.run(survey))
        done(number / len(CHECKS))
    return found
