"""`data check`: an honest statement about a folder, and what of it may leave the site."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from polyclinic.data.checks import CHECKS, Survey, run_checks, survey_folder
from polyclinic.data.checks.loose import UNRECOGNISED
from polyclinic.data.checks.sharing import aggregates
from polyclinic.data.dataset import Finding
from polyclinic.data.writing import writing
from polyclinic.errors import RunError
from polyclinic.run.progress import Progress, Tell, time_left

SURVEY_SHARE = 0.9
"""Of the whole work, as progress counts it: looking at the images; the checks are the rest."""
SEVERITIES: tuple[Literal["error", "warning", "info"], ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Checked:
    """A survey of a folder, and the findings of every check by its name."""

    survey: Survey
    findings: Mapping[str, tuple[Finding, ...]]
    seconds: float

    @property
    def recognised(self) -> bool:
        """Whether a reader understands the folder; else it was looked at file by file."""
        return self.survey.scan.format != UNRECOGNISED

    def counts(self) -> dict[str, int]:
        """Number of findings of each severity."""
        every = [finding for notes in self.findings.values() for finding in notes]
        return {name: sum(f.severity == name for f in every) for name in SEVERITIES}


def check_data(folder: Path, *, jobs: int, tell: Tell) -> Checked:
    """Look at all files of a site's folder and run every check; nothing is written.

    Raises `DataError` where there is no such folder. Whatever is wrong inside it is a finding.
    """
    began = time.monotonic()
    site = folder.resolve().name
    left = time_left()

    def surveyed(share: float) -> None:
        tell(Progress("check", SURVEY_SHARE * share, site=site, seconds_left=left(share)))

    def judged(share: float) -> None:
        tell(Progress("check", SURVEY_SHARE + (1 - SURVEY_SHARE) * share, site=site))

    survey = survey_folder(folder, jobs=jobs, done=surveyed)
    found = run_checks(survey, judged)
    return Checked(survey, found, time.monotonic() - began)


def as_json(checked: Checked) -> dict[str, Any]:
    """All that was found, laid out as `data_check_schema` says; it names files of the site."""
    scan = checked.survey.scan
    patients = len({item.patient for item in scan.items}) if scan.has_patient_ids else None
    return {
        "schema": "polyclinic.data-check/1",
        "folder": str(scan.folder),
        "format": scan.format,
        "task": scan.task if checked.recognised else None,
        "images": len(scan.items),
        "readable": len(checked.survey.readable),
        "files": len(checked.survey.files),
        "classes": list(scan.classes),
        "patients": patients,
        "seconds": round(checked.seconds, 2),
        "counts": checked.counts(),
        "checks": [
            {"name": name, "describe": CHECKS[name].describe, "findings": len(notes)}
            for name, notes in checked.findings.items()
        ],
        "findings": [
            {"check": name, "severity": f.severity, "where": f.where, "what": f.what, "do": f.do}
            for name, notes in checked.findings.items()
            for f in notes
        ],
    }


def data_check_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `as_json`."""
    text = files("polyclinic.run").joinpath("data_check.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def write_shared(checked: Checked, path: Path) -> Path:
    """Write what may leave the site as JSON, whole or not at all; see `aggregates`.

    Raises `DataError` where the site is too small, `RunError` where `path` cannot be written.
    """
    text = json.dumps(aggregates(checked.survey, checked.findings), indent=1, allow_nan=False)
    try:
        with writing(path) as part:
            part.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error}); check space and rights") from None
    return path
