import os
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless

from polyclinic.data.dicom import header
from polyclinic.data.dicom.header import is_dicom, quiet, read_dataset, whole_number
from polyclinic.data.dicom.images import read_header, read_image
from polyclinic.errors import DataError


def test_files_are_known_by_their_first_bytes(tmp_path, write_dicom, ramp):
    whole = write_dicom(tmp_path / "a", ramp()).read_bytes()
    for name, content in {
        "bare": whole[132:],
        "data": whole[whole.index(b"\x08\0\x16\0") :],
    }.items():
        (tmp_path / name).write_bytes(content)
    for name in ("a", "bare", "data"):
        assert is_dicom(tmp_path / name), name
    for content in (b"", b"no", b"label,path\n1,2\n", b"\x89PNG\r\n\x1a\n" * 20, bytes(200)):
        (tmp_path / "other").write_bytes(content)
        assert not is_dicom(tmp_path / "other")
    assert not is_dicom(tmp_path / "gone")


def test_files_without_preamble_or_meta_information_are_read(tmp_path, write_dicom, ramp):
    whole = write_dicom(tmp_path / "a", ramp()).read_bytes()
    expected = read_image(tmp_path / "a", "a")
    for name, start in {"bare": 132, "data": whole.index(b"\x08\0\x16\0")}.items():
        (tmp_path / name).write_bytes(whole[start:])
        assert (read_image(tmp_path / name, name) == expected).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not DICOM at all", r"^x: not a DICOM file; expected one with pixel data$"),
        (b"\0" * 128 + b"DICM" + b"\x08\0\x05\0CS\xff\xff1", r"^x: "),
        (b"\x08\0\x05\0CS\x02\0ZZ\x08\0\x16\0??\x02\0", r"^x: "),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=message) as caught:
            read_image(tmp_path / "x", "x")
    assert "\n" not in str(caught.value)


def test_a_file_that_ends_within_its_compressed_pixels_is_called_cut_off(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "a", np.zeros((8, 8), "u1"))
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([bytes(64)])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"^a: cut off: it ends within its pixels; copy it again$"):
        read_image(path, "a")
    assert read_header(path, "a").kind == "image"


def test_what_is_not_there_and_what_is_too_large(tmp_path, write_dicom, ramp, monkeypatch):
    with pytest.raises(DataError, match=r"^a: no such file$"):
        read_dataset(tmp_path / "a", "a")
    write_dicom(tmp_path / "a", ramp())
    monkeypatch.setattr(header, "MAX_BYTES", 50)
    with pytest.raises(DataError, match=r"^a: more than 50 bytes; refused$"):
        read_dataset(tmp_path / "a", "a")


def test_a_deflated_file_that_unpacks_to_too_much_is_refused(
    tmp_path, write_dicom, ramp, monkeypatch
):
    path = write_dicom(tmp_path / "a", ramp(64, 64), syntax=DeflatedExplicitVRLittleEndian)
    assert read_dataset(path, "a").Rows == 64
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(content[:start] + packer.compress(bytes(10**6)) + packer.flush())
    monkeypatch.setattr(header, "MAX_UNPACKED", 10**5)
    assert path.stat().st_size < 10**5
    with pytest.raises(DataError, match=r"^a: unpacks to more than 100000 bytes; refused$"):
        read_dataset(path, "a")


def test_warnings_become_notes(tmp_path, write_dicom, ramp):
    path = write_dicom(tmp_path / "a", ramp())
    content = bytearray(path.read_bytes())
    at = content.index(b"\x08\0\x60\0CS")  # Modality
    content[at + 8 : at + 10] = b"c\xe9"
    path.write_bytes(content)
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_dataset(path, "a", notes=notes)
        with quiet() as said:
            warnings.warn("odd\nvalue", stacklevel=1)
    assert said == ["odd value"]
    assert all("\n" not in note for note in notes)


def test_numbers_that_are_none(tmp_path, write_dicom, ramp):
    dataset = read_dataset(write_dicom(tmp_path / "a", ramp()), "a")
    assert whole_number(dataset, "Rows", "a") == 4
    assert whole_number(dataset, "NumberOfFrames", "a", 1) == 1
    with pytest.raises(DataError, match=r"^a: has no NumberOfFrames; expected a DICOM image$"):
        whole_number(dataset, "NumberOfFrames", "a")
    with pytest.raises(DataError, match=r"^a: Modality is not a number; expected a whole one$"):
        whole_number(dataset, "Modality", "a")


def test_big_endian_files(tmp_path, write_dicom, ramp):
    path = write_dicom(tmp_path / "a", ramp(dtype=">u2"), syntax=ExplicitVRBigEndian)
    shown = read_image(path, "a")
    assert shown[0, 0] == 0
    assert shown[-1, -1] == 255


def test_more_frames_than_fit_into_the_file_are_a_false_claim(tmp_path, write_dicom, ramp):
    path = write_dicom(tmp_path / "a", ramp(), NumberOfFrames=60_000)
    message = r"^a: says that it holds 60000 frames, more than fit into it$"
    with pytest.raises(DataError, match=message):
        read_header(path, "a")
    assert read_header(write_dicom(path, np.stack([ramp()] * 3), frames=3), "a").frames == 3


def test_texts_are_on_one_line(tmp_path, write_dicom, ramp):
    path = write_dicom(tmp_path / "a", ramp(), PatientID="a\x1b[2Jb")
    assert read_header(path, "a").patient == "a [2Jb"


def test_a_pipe_is_no_dicom_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not is_dicom(tmp_path / "pipe")
