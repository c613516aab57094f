"""Names that promise another format than the file has."""

from collections.abc import Sequence

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.checks.file_facts import IMAGE_KINDS
from polyclinic.data.dataset import Finding

_KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".pdf": "PDF",
    ".dcm": "DICOM",
    ".npz": "ZIP",
    ".gz": "GZIP",
}


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every file whose first bytes contradict its extension, or that is empty."""
    findings = []
    for file in survey.files:
        name = file.name.lower()
        end = next((end for end in _KINDS if name.endswith(end)), "")
        if file.empty:
            findings.append(Finding("warning", file.name, "is an empty file", "remove it"))
        elif end and file.kind and file.kind != _KINDS[end]:
            what = f"is a {file.kind} file, not {_KINDS[end]} as its name says"
            findings.append(Finding("warning", file.name, what, "rename it"))
        elif not end and file.kind in IMAGE_KINDS:
            what = f"is a {file.kind} file, but its name does not say so; left out"
            findings.append(Finding("warning", file.name, what, "give it the extension"))
    return findings


CHECK = Check("extension", "files that are not what their names say", run)
