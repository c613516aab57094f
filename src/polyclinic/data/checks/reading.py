"""What readers report, and the images that cannot be read."""

from collections.abc import Sequence

from polyclinic.config import DataConfig
from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding, counted
from polyclinic.data.quality import unreadable


def run(survey: Survey) -> Sequence[Finding]:
    """The reader's own findings, then a finding for every image that cannot be read."""
    bad = [
        (item.key, facts.reason)
        for item, facts in zip(survey.scan.items, survey.images, strict=True)
        if facts.reason
    ]
    named = {key for key, _ in bad}
    findings = [finding for finding in survey.scan.findings if finding.where not in named]
    findings += unreadable(bad)
    total = len(survey.scan.items)
    if len(bad) > DataConfig().max_unreadable * total:
        what = f"{len(bad)} of {counted(total, 'image')} cannot be read; a run refuses that"
        findings.append(Finding("error", "", what, "repair or remove them"))
    return findings


CHECK = Check("reading", "unreadable images, rows without a label, files left out", run)
