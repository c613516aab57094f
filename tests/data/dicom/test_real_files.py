"""A hundred odd but real files, against pydicom; skipped where they are not at hand."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from polyclinic.data.dicom.header import read_dataset
from polyclinic.data.dicom.images import read_image
from polyclinic.data.dicom.pixels import decode, frame_count
from polyclinic.errors import DataError

FILES = Path(__file__).parents[3] / "../shared/data/dicom"
LARGEST = 60_000  # bytes; benchmarks/dicom_files.py reads the others too

pytestmark = pytest.mark.skipif(
    not (FILES / "INDEX.csv").is_file(), reason=f"no real DICOM files in {FILES}"
)


def names():
    if not (FILES / "INDEX.csv").is_file():
        return []
    with (FILES / "INDEX.csv").open(encoding="utf-8") as lines:
        return [row["file"] for row in csv.DictReader(lines) if int(row["bytes"]) < LARGEST]


def expected(path):
    """What pydicom decodes; None where it does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(path).pixel_array
        except Exception:
            return None


@pytest.mark.parametrize("name", names())
def test_values_are_those_of_pydicom_or_there_is_one_line(name, capfd):
    reference = expected(FILES / name)
    capfd.readouterr()
    try:
        dataset = read_dataset(FILES / name, name)
        frames = [
            decode(dataset, name, number).values for number in range(frame_count(dataset, name))
        ]
        image = read_image(FILES / name, name)
    except DataError as error:
        line = str(error)
        assert reference is None
        assert line.startswith(f"{name}: ")
        assert "\n" not in line
        return
    finally:
        assert capfd.readouterr() == ("", "")
    assert image.dtype == np.uint8
    if reference is not None:
        assert np.array_equal(frames[0] if len(frames) == 1 else np.stack(frames), reference)


def test_one_bit_in_every_compression_is_the_same():
    parts = [
        decode(read_dataset(FILES / f"pydicom-data__data_store__data__{name}.dcm", name), name, 0)
        for name in ("liver_rle", "liver_deflate", "liver_j2k", "liver_expb")
    ]
    assert all(np.array_equal(part.values, parts[0].values) for part in parts)
    assert parts[0].values.any()
