"""DICOM in class folders, in tables and in the corpus."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from polyclinic.data.readers import scan_corpus, scan_site
from polyclinic.errors import DataError


def test_class_folders_of_dicom(tmp_path, write_dicom, ramp):
    write_dicom(tmp_path / "no" / "a.dcm", ramp(), PatientID="p1")
    write_dicom(tmp_path / "no" / "IM0001", ramp(), PatientID="p2")
    write_dicom(tmp_path / "yes" / "b.DCM", np.stack([ramp()] * 3), frames=3, PatientID="p1")
    (tmp_path / "yes" / "c.dcm").write_bytes(b"no")
    write_dicom(tmp_path / "yes" / "plan.dcm", ramp(), PatientID="p1", Rows=None, Modality="RTPLAN")
    (tmp_path / "yes" / "notes.txt").write_text("x")
    scan = scan_site(tmp_path)
    assert (scan.format, scan.classes) == ("class-folders", ("no", "yes"))
    assert [(item.key, item.patient, item.target) for item in scan.items] == [
        ("no/IM0001", "p2", 0),
        ("no/a.dcm", "p1", 0),
        ("yes/b.DCM#0", "p1", 1),
        ("yes/b.DCM#1", "p1", 1),
        ("yes/b.DCM#2", "p1", 1),
        ("yes/c.dcm", "yes/c.dcm", 1),
    ]
    assert not scan.has_patient_ids  # one file does not say
    pictures = [scan.load(item)[0] for item in scan.items[:-1]]
    assert all(np.array_equal(picture, ramp()) for picture in pictures)
    with pytest.raises(DataError, match=r"^yes/c\.dcm: not a DICOM file"):
        scan.load(scan.items[-1])
    said = {finding.where: finding.what for finding in scan.findings}
    assert said["yes/plan.dcm"] == "1 DICOM file without an image, left out (RTPLAN)"
    assert "other than images" in said["yes/notes.txt"]


@pytest.mark.parametrize(("same", "said"), [("x", "the same Patient ID"), (None, "no Patient ID")])
def test_one_name_for_all_patients_is_no_name(tmp_path, write_dicom, ramp, same, said):
    for number, label in enumerate(("no", "no", "yes", "yes")):
        uid = f"1.2.{number // 2}"
        path = tmp_path / label / f"{number}.dcm"
        write_dicom(path, ramp(), PatientID=same, StudyInstanceUID=uid)
    scan = scan_site(tmp_path)
    assert len({item.patient for item in scan.items}) == 2
    assert any(f"all DICOM files have {said}; each study" in f.what for f in scan.findings)


def test_tables_of_dicom(tmp_path, write_dicom, ramp):
    write_dicom(tmp_path / "i" / "a.dcm", ramp())
    write_dicom(tmp_path / "i" / "b", np.stack([ramp()] * 2), frames=2)
    rows = "path,label,patient_id\ni/a.dcm,x,p\ni/b,y,q\ni/gone.dcm,y,q\n"
    (tmp_path / "labels.csv").write_text(rows)
    scan = scan_site(tmp_path)
    assert [(item.key, item.patient) for item in scan.items] == [
        ("i/a.dcm", "p"),
        ("i/b#0", "q"),
        ("i/b#1", "q"),
        ("i/gone.dcm", "q"),
    ]
    assert np.array_equal(scan.load(scan.items[2])[0], ramp())
    with pytest.raises(DataError, match=r"^i/gone\.dcm: no such file"):
        scan.load(scan.items[3])


def test_a_corpus_of_dicom(tmp_path, write_dicom, ramp):
    write_dicom(tmp_path / "deep" / "a.dcm", ramp())
    scan = scan_corpus(tmp_path)
    assert [item.key for item in scan.items] == ["deep/a.dcm"]
    assert np.array_equal(scan.load(scan.items[0])[0], ramp())


def test_a_disc_with_its_table_of_contents(tmp_path, write_dicom, ramp):
    parts = ["PT000000", "ST000000", "SE000000", "IM000000"]
    write_dicom(tmp_path.joinpath("disc", *parts), ramp())
    record, table = pydicom.Dataset(), pydicom.Dataset()
    record.ReferencedFileID = parts
    table.file_meta = FileMetaDataset()
    table.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    table.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    table.file_meta.MediaStorageSOPInstanceUID = "1.2"
    table.DirectoryRecordSequence = [pydicom.Dataset(), record]
    table.save_as(tmp_path / "disc" / "DICOMDIR", enforce_file_format=True)
    scan = scan_corpus(tmp_path / "disc")
    assert [item.key for item in scan.items] == ["PT000000/ST000000/SE000000/IM000000"]
    assert scan.findings == ()
    (tmp_path / "disc" / scan.items[0].key).rename(tmp_path / "disc" / "moved")
    (finding,) = scan_corpus(tmp_path / "disc").findings
    assert finding.where == "DICOMDIR"
    assert finding.what == "lists PT000000/ST000000/SE000000/IM000000, which is not there"


def test_folders_of_patients_are_no_classes(tmp_path, write_dicom, ramp):
    for number in range(4):
        path = tmp_path / f"case{number // 2}" / f"{number}.dcm"
        write_dicom(path, ramp(), PatientID=f"p{number // 2}")
    assert any("holds one patient alone" in f.what for f in scan_site(tmp_path).findings)
    write_dicom(tmp_path / "case1" / "9.dcm", ramp(), PatientID="p0")
    assert not any("holds one patient alone" in f.what for f in scan_site(tmp_path).findings)
