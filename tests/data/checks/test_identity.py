"""Headers that may identify a patient are named by element, never by value."""

import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def write_dicom(path, **elements):
    header = pydicom.Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    header.SOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    for name, value in elements.items():
        setattr(header, name, value)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("elements", "text"),
    [
        (
            {"PatientName": "Doe^Jane", "InstitutionName": "St. Mary"},
            "PatientName, InstitutionName",
        ),
        ({"PatientName": "ANONYMOUS", "BurnedInAnnotation": "YES"}, "BurnedInAnnotation = YES"),
        ({"PatientName": "", "PatientID": "removed", "BurnedInAnnotation": "NO"}, ""),
    ],
)
def test_dicom_elements_that_are_filled_in(elements, text, site, alarms, found):
    write_dicom(site / "a" / "export.dcm", **elements)
    assert alarms(site).get("identity") == (["a/export.dcm"] if text else None)
    if text:
        (finding,) = found(site)["identity"]
        assert finding.what.endswith(f": {text}")
        assert "Doe" not in finding.what


def test_texts_and_exif_of_images(site, alarms, found):
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient Name", "Doe")
    text.add_text("Software", "x")
    image = Image.open(site / "a" / "00.png")
    image.load()
    image.save(site / "a" / "00.png", pnginfo=text)
    exif = Image.Exif()
    exif[0x013B] = "Dr. Doe"
    Image.open(site / "a" / "02.png").save(site / "a" / "x.jpg", exif=exif)
    (site / "a" / "02.png").unlink()
    assert alarms(site) == {"identity": ["a/00.png", "a/x.jpg"]}
    assert [f.what for f in found(site)["identity"]] == [
        "its header may identify a patient: text 'Patient Name'",
        "its header may identify a patient: EXIF Artist",
    ]


def test_a_broken_dicom_file_stops_nothing(site, alarms):
    (site / "a" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert "identity" not in alarms(site)
