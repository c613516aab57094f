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
            "InstitutionName, PatientName",
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


@pytest.mark.parametrize(
    ("elements", "private", "text"),
    [
        (
            {"ImageComments": "scan of Doe^Jane"},
            {},
            "PatientName, ImageComments repeats PatientName",
        ),
        ({}, {0x01: ("LO", "DOE^JANE")}, "private (0009,1001) repeats PatientName, PatientName"),
        ({}, {0x01: ("UN", b"x doe^jane x")}, "private (0009,1001) repeats PatientName"),
        ({}, {0x01: ("PN", "Roe^Richard")}, "private (0009,1001)"),
        ({}, {0x01: ("LO", "gradient 7")}, "PatientName"),
        ({"RequestAttributesSequence": {"RequestingPhysician": "Roe"}}, {}, "RequestingPhysician"),
    ],
)
def test_names_in_depth_and_in_private_elements(elements, private, text, site, found):
    nested = {}
    for name, value in elements.items():
        nested[name] = value
        if isinstance(value, dict):
            item = pydicom.Dataset()
            for keyword, content in value.items():
                setattr(item, keyword, content)
            nested[name] = [item]
    path = site / "a" / "export.dcm"
    write_dicom(path, PatientName="Doe^Jane", **nested)
    dataset = pydicom.dcmread(path)
    block = dataset.private_block(0x0009, "Maker", create=True)
    for offset, (vr, value) in private.items():
        block.add_new(offset, vr, value)
    dataset.save_as(path)
    (finding,) = found(site)["identity"]
    assert text in finding.what
    assert ("private" in finding.what) == ("private" in text)


@pytest.mark.parametrize(("pixels", "comment", "named"), [
    (b"\0\1", "", "OverlayData"),
    (b"\0\0", "", ""),
    (b"\0\0", "left knee", "(6002,4000)"),
])  # fmt: skip
def test_overlays_with_pixels_or_texts(pixels, comment, named, site, alarms, found):
    path = site / "a" / "export.dcm"
    write_dicom(path)
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x60023000, "OW", pixels)
    dataset.add_new(0x60024000, "LT", comment)
    dataset.save_as(path)
    assert alarms(site).get("identity") == (["a/export.dcm"] if named else None)
    if named:
        assert named in found(site)["identity"][0].what


def test_a_broken_dicom_file_stops_nothing(site, alarms):
    (site / "a" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert "identity" not in alarms(site)
