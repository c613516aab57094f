"""DICOM: every bit outside stays, new instances say what they are, odd files end in one line."""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from polyclinic.errors import DataError, PolyclinicError
from polyclinic.inpaint.files import FORMATS, read_source

REAL = Path(__file__).parents[3] / "../shared/data/dicom"
KINDS = {  # cells, and what the header says of them
    "u1": ("u1", {}),
    "u2": ("<u2", {}),
    "i2": ("<i2", {}),
    "u2 of 12 bits": ("<u2", {"BitsStored": 12}),
    "i2 of 12 bits": ("<i2", {"BitsStored": 12}),
    "u4": ("<u4", {}),
    "inverted": ("<u2", {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"}),
    "rescaled": ("<i2", {"RescaleSlope": 2.5, "RescaleIntercept": -100.0}),
}


def cells_of(path):
    dataset = pydicom.dcmread(path)
    stored = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
    return stored[: dataset.Rows * dataset.Columns].reshape(dataset.Rows, dataset.Columns)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_outside_stays(tmp_path, write_dicom, make_numbers, record, kind):
    dtype, elements = KINDS[kind]
    cells = make_numbers((5, 7), dtype)  # with bits above Bits Stored, as old overlays have
    path = write_dicom(tmp_path / "a.dcm", cells, **elements)
    source = read_source(path)
    edited = source.volumes[4].copy()
    edited[0, 2, 3] = -7 if cells.dtype.kind == "i" else 7
    FORMATS["dicom"].write(source, {4: edited}, tmp_path / "b.dcm", record)
    before, after = cells_of(path), cells_of(tmp_path / "b.dcm")
    changed = before != after
    assert changed.sum() == 1
    assert changed[2, 3]
    assert np.array_equal(read_source(tmp_path / "b.dcm").volumes[4], edited)


def test_stored_values_are_those_that_pydicom_decodes(tmp_path, write_dicom):
    cells = np.array([[0x0FFF, 0x0800, 0x07FF, 0x0001]], "<i2")
    source = read_source(write_dicom(tmp_path / "a.dcm", cells, BitsStored=12))
    assert source.volumes[4].ravel().tolist() == [-1, -2048, 2047, 1]
    assert (source.storage[4].lowest, source.storage[4].highest) == (-2048, 2047)


def test_inverted_pixels_are_bright_where_they_mean_it(tmp_path, write_dicom):
    cells = np.array([[4095, 0]], "<u2")
    source = read_source(write_dicom(tmp_path / "a.dcm", cells, **KINDS["inverted"][1]))
    assert source.storage[4].real(source.volumes[4]).ravel().tolist() == [0, 4095]


def test_a_new_instance_says_that_it_is_synthetic(tmp_path, write_dicom, make_numbers, record):
    path = write_dicom(tmp_path / "a.dcm", make_numbers((5, 7), "<u2"), SmallestImagePixelValue=1)
    source = read_source(path)
    for name in ("b.dcm", "c.dcm"):
        FORMATS["dicom"].write(source, dict(source.volumes), tmp_path / name, record)
    before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "b.dcm")
    assert after[0x0008, 0x001C].value == "YES"
    assert list(after.ImageType) == ["DERIVED", "SECONDARY", "M"]
    equipment = after.ContributingEquipmentSequence[-1]
    assert equipment.Manufacturer == "Polyclinic"
    assert equipment.SoftwareVersions == record.version
    assert "SYNTHETIC" in after.DerivationDescription
    assert after.SeriesDescription.startswith("SYNTHETIC")
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert after[keyword].value != before[keyword].value
        assert after[keyword].value.startswith("2.25.")
        assert len(after[keyword].value) <= 64
    kept = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PatientName")
    for keyword in (*kept, "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID"):
        assert after[keyword].value == before[keyword].value
    assert "SmallestImagePixelValue" not in after
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (tmp_path / "b.dcm").read_bytes() == (tmp_path / "c.dcm").read_bytes()


def test_a_series_is_sorted_by_position_and_written_whole(
    tmp_path, write_dicom, make_numbers, record
):
    folder, out = tmp_path / "s", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    planes = {z: make_numbers((5, 7), "<u2", seed=z) for z in range(3)}
    for name, z in {"a": 2, "b": 0, "c": 1}.items():
        write_dicom(folder / name, planes[z], position=4.0 * z, InstanceNumber=9 - z)
    (folder / "readme.txt").write_text("not DICOM")
    source = read_source(folder, "t2f")
    assert np.array_equal(source.volumes[3], np.stack([planes[z] for z in range(3)]))
    expected = [[-1.5, 0, 0, -10], [0, -2, 0, 20], [0, 0, 4, 0], [0, 0, 0, 1]]
    assert np.allclose(source.grid.affine, expected)
    edited = source.volumes[3].copy()
    edited[2] = 1
    FORMATS["dicom"].write(source, {3: edited}, out, record)
    assert np.array_equal(read_source(out).volumes[4], edited)
    assert sorted(p.name for p in out.iterdir()) == ["a", "b", "c"]
    assert (cells_of(out / "a") == 1).all()


def test_a_sagittal_series_is_shown_in_axial_slices(tmp_path, write_dicom, make_numbers):
    for x in range(3):
        write_dicom(
            tmp_path / f"{x}",
            make_numbers((5, 7), "<u2", seed=x),
            position=x,
            ImagePositionPatient=[float(x), 0.0, 0.0],
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        )
    source = read_source(tmp_path)
    assert source.shape == (5, 7, 3)
    # rows run down from the head, so the first slice from the feet up is the last row
    expected = [make_numbers((5, 7), "<u2", seed=x)[4, 0] for x in range(3)]
    assert source.volumes[4][0, 0].tolist() == expected


def test_compressed_pixels_are_decoded(tmp_path, write_dicom, make_numbers, record):
    pixels = make_numbers((5, 7), "<u2")
    path = write_dicom(tmp_path / "a.dcm", pixels)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    source = read_source(path)
    assert np.array_equal(source.volumes[4][0], pixels)
    FORMATS["dicom"].write(source, dict(source.volumes), tmp_path / "b.dcm", record)
    assert np.array_equal(cells_of(tmp_path / "b.dcm"), pixels)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"NumberOfFrames": 3}, r"holds 3 frames; expected one slice a file"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"pixels in PALETTE COLOR; expected"),
        ({"BitsStored": 12, "HighBit": 15}, r"12 bits stored up to bit 15"),
        ({"Rows": 50}, r"its pixel data are cut off"),
        ({"BitsStored": None, "HighBit": 15}, r"its DICOM header cannot be used"),
    ],
)
def test_what_cannot_be_painted_on_is_refused(
    tmp_path, write_dicom, make_numbers, elements, expected
):
    path = tmp_path / "a.dcm"
    if elements.get("BitsStored", 0) is None:
        write_dicom(path, make_numbers((5, 7), "<u2"))
        dataset = pydicom.dcmread(path)
        del dataset.BitsStored
        dataset.save_as(path)
    else:
        write_dicom(path, make_numbers((5, 7), "<u2"), **elements)
    with pytest.raises(DataError, match=expected):
        read_source(path)


def test_folders_that_are_no_series_are_refused(tmp_path, write_dicom, make_numbers):
    pixels = make_numbers((5, 7), "<u2")
    with pytest.raises(DataError, match=r"no DICOM images in this folder"):
        read_source(tmp_path)
    write_dicom(tmp_path / "a", pixels)
    write_dicom(tmp_path / "b", pixels)
    with pytest.raises(DataError, match=r"two slices have the same position"):
        read_source(tmp_path)
    write_dicom(tmp_path / "b", pixels, position=3.0, SeriesInstanceUID="1.2.9")
    with pytest.raises(DataError, match=r"SeriesInstanceUID is 1\.2\.3\.2 in a, 1\.2\.9 in b"):
        read_source(tmp_path)
    (tmp_path / "text").write_text("x")
    with pytest.raises(DataError, match=r"text: not a DICOM image"):
        read_source(tmp_path / "text")


def test_a_series_that_lacks_a_slice_is_refused(tmp_path, write_dicom, make_numbers):
    pixels = make_numbers((5, 7), "<u2")
    for name, place in {"a": 10.0, "b": 0.0, "c": 5.2, "e": 20.0}.items():
        write_dicom(tmp_path / name, pixels, position=place)
    with pytest.raises(
        DataError, match=r"a and e are 10 mm apart, most slices 5\.2 mm, as if .* expected even s"
    ):
        read_source(tmp_path)
    write_dicom(tmp_path / "d", pixels, position=15.0)
    assert read_source(tmp_path).shape == (5, 5, 7)
    write_dicom(tmp_path / "f", pixels, position=15.5)
    with pytest.raises(DataError, match=r"d and f are 0\.5 mm apart, .* as if they were of two se"):
        read_source(tmp_path)


def test_three_slices_with_a_gap_are_uneven(tmp_path, write_dicom, make_numbers):
    for name, place in {"a": 0.0, "b": 5.0, "c": 15.0}.items():
        write_dicom(tmp_path / name, make_numbers((5, 7), "<u2"), position=place)
    with pytest.raises(
        DataError, match=r"b and c are 10 mm apart, most slices 5 mm, as if one was"
    ):
        read_source(tmp_path)


@pytest.mark.parametrize(("step", "digits"), [(0.45, 1), (0.625, 1), (0.9375, 1), (5, 0)])
def test_positions_may_be_rounded(tmp_path, write_dicom, make_numbers, step, digits):
    pixels = make_numbers((5, 7), "<u2")
    for number in range(12):
        place = float(np.round(number * step, digits))
        write_dicom(tmp_path / f"{number:02}", pixels, position=place)
    assert read_source(tmp_path).shape == (12, 5, 7)


def _readable():
    if not (REAL / "INDEX.csv").is_file():
        return []
    with (REAL / "INDEX.csv").open(encoding="utf-8") as lines:
        rows = [
            row["file"]
            for row in csv.DictReader(lines)
            if row["photometric"].startswith("MONOCHROME")
            and row["frames"] in ("", "1")
            and row["bits"] not in ("", "1")
            and not row["pixels_seen"].startswith("FAIL")
            and int(row["bytes"]) < 40_000
        ]
    return rows[:: max(1, len(rows) // 10)][:10]


@pytest.mark.skipif(not _readable(), reason="the folder of real DICOM files is not there")
@pytest.mark.parametrize("number", range(len(_readable())))
def test_real_files_are_written_as_they_were(tmp_path, record, number):
    path = REAL / _readable()[number]
    try:
        source = read_source(path)
    except PolyclinicError as error:
        pytest.skip(str(error))
    edited = source.volumes[4].copy()
    edited[0, 0, 0] = 3
    FORMATS["dicom"].write(source, {4: edited}, tmp_path / "b.dcm", record)
    assert np.array_equal(read_source(tmp_path / "b.dcm").volumes[4], edited)
