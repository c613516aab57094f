"""Entries in a file's header that may tell who the patient is: DICOM elements, EXIF, PNG texts."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding, counted

if TYPE_CHECKING:
    from PIL.Image import Image

DICOM_ELEMENTS = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientBirthDate",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientMotherBirthName",
    "MilitaryRank",
    "EthnicGroup",
    "PatientComments",
    "AccessionNumber",
    "InstitutionName",
    "InstitutionAddress",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "PhysiciansOfRecord",
    "RequestingPhysician",
    "AdmissionID",
)
"""Elements of DICOM PS3.15 table E.1-1 that name a person, an address, or a number of one."""
BURNED_IN = "BurnedInAnnotation = YES"
NO_PYDICOM = "not looked at"
_REMOVED = ("", "anon", "anonym", "anonymous", "anonymized", "anonymised", "removed", "none", "0")
_EXIF = {0x013B: "Artist", 0x8825: "GPS position", 0xA430: "CameraOwnerName"}
_EXIF |= {0xA431: "BodySerialNumber", 0x9C9D: "XPAuthor", 0x010E: "ImageDescription"}
_WORDS = ("patient", "birth", "name", "physician", "institution", "author")


def dicom_identity(path: Path) -> tuple[str, ...]:
    """Names of the elements of a DICOM file that are filled in; values are never returned.

    Empty values and words such as `ANONYMOUS` do not count. `NO_PYDICOM` alone where pydicom is
    not installed.
    """
    try:
        import pydicom
    except ImportError:
        return (NO_PYDICOM,)
    wanted = [*DICOM_ELEMENTS, "BurnedInAnnotation"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
            values = {name: str(header.get(name) or "") for name in wanted}
    except Exception:  # whether it can be read is for its reader to say
        return ()
    found = tuple(name for name in DICOM_ELEMENTS if not _is_removed(values[name]))
    return (*found, BURNED_IN) if values["BurnedInAnnotation"].upper() == "YES" else found


def image_identity(image: "Image") -> tuple[str, ...]:
    """Names of EXIF entries and texts of an opened image file that may tell who or where."""
    found = {f"EXIF {name}" for tag, name in _EXIF.items() if image.getexif().get(tag)}
    info = {str(key): value for key, value in image.info.items()}
    texts = [key for key, value in info.items() if isinstance(value, str) and value.strip()]
    found |= {f"text {key[:40]!r}" for key in texts if any(w in key.lower() for w in _WORDS)}
    return tuple(sorted(found))


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every file whose header may identify a patient."""
    findings = []
    unread = [file.name for file in survey.files if file.identity == (NO_PYDICOM,)]
    for file in survey.files:
        if file.identity and file.identity != (NO_PYDICOM,):
            what = f"its header may identify a patient: {', '.join(file.identity)}"
            findings.append(Finding("warning", file.name, what, "de-identify it"))
    if unread:
        what = f"headers of {counted(len(unread), 'DICOM file')} were not looked at"
        findings.append(Finding("info", unread[0], what, "install pydicom"))
    return findings


def _is_removed(value: str) -> bool:
    return value.strip().strip("^").lower() in _REMOVED


CHECK = Check("identity", "headers that may identify a patient", run)
