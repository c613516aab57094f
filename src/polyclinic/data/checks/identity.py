"""Entries in a file's header that may tell who the patient is: DICOM elements, EXIF, PNG texts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding, counted
from polyclinic.data.dicom.header import quiet, read_dataset, text
from polyclinic.errors import DataError

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
_KEYS = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber")
_LONG_ENOUGH = 4
"""Characters of a value from which on it is looked for in texts: short ones are found anywhere."""
_TEXTS = ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "DA", "UN")
_OVERLAYS, _OVERLAY_DATA = 0x6000, 0x3000
"""Groups 6000, 6002, ... 601E, and their element with the pixels."""
BURNED_IN = "BurnedInAnnotation = YES"
NO_PYDICOM = "not looked at"
_REMOVED = ("", "anon", "anonym", "anonymous", "anonymized", "anonymised", "removed", "none", "0")
_EXIF = {0x013B: "Artist", 0x8825: "GPS position", 0xA430: "CameraOwnerName"}
_EXIF |= {0xA431: "BodySerialNumber", 0x9C9D: "XPAuthor", 0x010E: "ImageDescription"}
_WORDS = ("patient", "birth", "name", "physician", "institution", "author")


def dicom_identity(path: Path) -> tuple[str, ...]:
    """Names of the elements of a DICOM file that may tell who it is of; values are never returned.

    At any depth: `DICOM_ELEMENTS` and all names of persons, standard or private; texts, private
    ones too, that repeat one of `_KEYS` (`ImageComments repeats PatientName`); overlays with pixels
    or texts. Empty values and words such as `ANONYMOUS` do not count. `NO_PYDICOM` alone where
    pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        return (NO_PYDICOM,)
    try:
        dataset = read_dataset(path, path.name, pixels=False)
    except DataError:  # whether it can be read is for its reader to say
        return ()
    keys = {name: text(dataset, name).strip("^ ") for name in _KEYS}
    known = {
        name: key.casefold()
        for name, key in keys.items()
        if len(key) >= _LONG_ENOUGH and not _is_removed(key)
    }
    with quiet():
        found = [name for element in _elements(dataset) if (name := _telling(element, known))]
    burned_in = text(dataset, "BurnedInAnnotation").upper() == "YES"
    return tuple(dict.fromkeys([*found, BURNED_IN] if burned_in else found))


def _elements(dataset: Any) -> Iterator[Any]:
    """All elements at any depth that can be parsed."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            inside = list(element.value) if element.VR == "SQ" else []
        except Exception:  # conversion of a value can fail in many ways
            continue
        yield element
        for item in inside:
            yield from _elements(item)


def _telling(element: Any, known: Mapping[str, str]) -> str:
    """What an element is called, and why it may identify; "" where it does not seem to."""
    nameless = "private" if element.tag.is_private else "element"
    name = element.keyword or f"{nameless} {element.tag}"
    overlay = element.tag.group & 0xFFE1 == _OVERLAYS
    if overlay and element.tag.element == _OVERLAY_DATA:
        return "OverlayData" if any(element.value or b"") else ""
    if element.VR not in _TEXTS:
        return ""
    raw = element.value
    value = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw or "")
    if _is_removed(value):
        return ""
    if element.keyword in DICOM_ELEMENTS or element.VR == "PN":
        return str(name)
    repeated = next((whose for whose, key in known.items() if key in value.casefold()), None)
    if repeated is not None:
        return f"{name} repeats {repeated}"
    return str(name) if overlay and element.VR in ("LO", "ST", "LT") else ""


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
