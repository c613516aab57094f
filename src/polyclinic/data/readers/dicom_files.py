"""DICOM files among those of a site: which they are, their frames, and whose they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from polyclinic.data.dataset import Finding, counted
from polyclinic.data.dicom.directory import listed_files
from polyclinic.data.dicom.header import is_dicom, is_dicom_name
from polyclinic.data.dicom.images import Header, read_header
from polyclinic.data.files import cap_findings, inside, is_image
from polyclinic.errors import DataError

_OTHERS = (".csv", ".tsv", ".txt", ".md", ".json", ".xml", ".pdf", ".npz", ".nii", ".gz", ".zip")
"""Files with these ends are not opened to see whether they are DICOM."""


@dataclass(frozen=True)
class DicomFiles:
    """Headers of those DICOM files that hold images, by name; those that cannot be read are None.

    `others` are segmentations, reports, plans and directories.
    """

    images: Mapping[str, Header | None]
    others: tuple[Header, ...] = ()
    findings: tuple[Finding, ...] = ()

    def keys(self, name: str) -> tuple[str, ...]:
        """Keys of the frames of a file."""
        header = self.images[name]
        return (name,) if header is None else header.keys

    def patients(self) -> Mapping[str, str]:
        """Whose each file is: by Patient ID; by study where all files have the same one."""
        found = {name: header for name, header in self.images.items() if header is not None}
        for whose in (attrgetter("patient"), attrgetter("study")):
            named: dict[str, str] = {name: whose(header) for name, header in found.items()}
            if len(set(named.values())) > 1 or len(named) == 1:
                return {name: patient for name, patient in named.items() if patient}
        return {}


def may_be_dicom(folder: Path, name: str) -> bool:
    """Whether a file is called DICOM, or has an unknown name and begins as DICOM does."""
    if is_dicom_name(name):
        return True
    return not is_image(name) and not name.lower().endswith(_OTHERS) and is_dicom(folder / name)


def find_dicom(folder: Path, files: Iterable[str]) -> DicomFiles:
    """Read the headers of the DICOM files among `files`, relative to `folder`; decodes nothing.

    What breaks the standard and can be read all the same is one finding.
    """
    images: dict[str, Header | None] = {}
    others: list[Header] = []
    odd: list[tuple[str, str]] = []
    for name in files:
        if not may_be_dicom(folder, name):
            continue
        try:
            header = read_header(folder / name, name)
        except DataError:
            images[name] = None  # it is named when it is loaded
            continue
        odd += [(name, note) for note in header.notes[:1]]
        if header.kind == "image":
            images[name] = header
        else:
            others.append(header)
    findings = [*_findings(odd, others, images), *_lost(folder, others)]
    return DicomFiles(images, tuple(others), tuple(findings))


def _findings(
    odd: Sequence[tuple[str, str]],
    others: Sequence[Header],
    images: Mapping[str, Header | None],
) -> tuple[Finding, ...]:
    findings = []
    if odd:
        name, note = odd[0]
        what = f"{counted(len(odd), 'DICOM file')} that break the standard (first: {note})"
        findings.append(Finding("info", name, what))
    left = [header for header in others if header.kind == "other"]
    if left:
        kinds = sorted({header.modality or "no modality" for header in left})
        what = f"{counted(len(left), 'DICOM file')} without an image, left out ({', '.join(kinds)})"
        findings.append(Finding("info", left[0].name, what))
    patients = {header.patient for header in images.values() if header is not None}
    if len(patients) == 1 and len(images) > 1:
        same = "no Patient ID" if patients == {""} else "the same Patient ID"
        what = f"all DICOM files have {same}; each study counts as a patient"
        findings.append(Finding("warning", "", what, "give patient_id in a labels.csv"))
    return cap_findings(findings)


def _lost(folder: Path, others: Sequence[Header]) -> tuple[Finding, ...]:
    """Files that a DICOMDIR lists and that are not there, or lie outside of the folder."""
    root = folder.resolve()
    findings = []
    for header in others:
        if header.kind != "directory":
            continue
        above = header.name.rpartition("/")[0]
        try:
            listed = listed_files(folder / header.name, header.name)
        except DataError as error:
            findings.append(Finding("warning", header.name, str(error)))
            continue
        for name in listed:
            path = inside(root, f"{above}/{name}" if above else name)
            if path is None or not path.is_file():
                what = f"lists {name}, which is not there"
                findings.append(Finding("warning", header.name, what, "add the file"))
    return cap_findings(findings)
