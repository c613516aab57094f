"""What a screen would show, against the formulas of the standard."""

import math

import numpy as np
import pydicom
import pytest

from polyclinic.data.dicom.display import window
from polyclinic.data.dicom.images import read_image
from polyclinic.errors import DataError


def slow_window(x, c, w, function):
    """PS3.3 C.11.2.1.2 and .3, for one value, 0..255."""
    if function == "SIGMOID":
        return 255 / (1 + math.exp(min(-4 * (x - c) / w, 700)))
    low, high = (c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2)
    if function == "LINEAR_EXACT":
        low, high = c - w / 2, c + w / 2
    if x <= low:
        return 0
    if x > high:
        return 255
    if function == "LINEAR_EXACT":
        return ((x - c) / w + 0.5) * 255
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (0.5, 1), (2048, 4096), (-600, 1.5)])
def test_windows_are_those_of_the_standard(function, centre, width):
    values = np.linspace(-1000, 4000, 97)
    expected = [round(slow_window(x, centre, width, function)) for x in values]
    assert np.abs(window(values, centre, width, function) - np.array(expected)).max() <= 1


def shown(path):
    return read_image(path, path.name)


def test_rescaled_then_through_the_first_window(tmp_path, write_dicom):
    cells = np.array([[0, 1024, 1064, 1264, 4000]], "<u2")
    elements = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    elements |= {"WindowCenter": [40, 500], "WindowWidth": [400, 50]}
    pixels = shown(write_dicom(tmp_path / "a", cells, **elements))
    assert pixels.tolist() == [window(cells - 1024.0, 40, 400)[0].tolist()]
    assert pixels[0].tolist()[::4] == [0, 255]


def test_inverted_pixels_are_shown_bright_where_they_mean_it(tmp_path, write_dicom):
    cells = np.array([[0, 255]], "u1")
    assert shown(write_dicom(tmp_path / "a", cells)).tolist() == [[0, 255]]
    path = write_dicom(tmp_path / "b", cells, PhotometricInterpretation="MONOCHROME1")
    assert shown(path).tolist() == [[255, 0]]


@pytest.mark.parametrize(("bits", "expected"), [(8, [0, 64, 127]), (7, [0, 129, 255])])
def test_few_bits_show_their_whole_range(tmp_path, write_dicom, bits, expected):
    cells = np.array([[0, 64, 127]], "u1")
    assert shown(write_dicom(tmp_path / "a", cells, BitsStored=bits)).tolist() == [expected]


def test_many_bits_without_a_window_show_percentiles(tmp_path, write_dicom):
    cells = np.arange(1000, dtype="<u2").reshape(20, 50)
    pixels = shown(write_dicom(tmp_path / "a", cells))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (pixels.ravel() == 0).sum() == pytest.approx(5, abs=2)


def test_a_window_that_shows_nothing_is_not_believed(tmp_path, write_dicom):
    cells = np.arange(1000, dtype="<u2").reshape(20, 50)
    path = write_dicom(tmp_path / "a", cells, WindowCenter=30000, WindowWidth=10)
    assert np.ptp(shown(path)) == 255
    path = write_dicom(tmp_path / "b", cells, WindowCenter=500, WindowWidth=0)
    assert np.ptp(shown(path)) == 255


def test_padding_is_black_and_counts_for_no_percentile(tmp_path, write_dicom):
    cells = np.full((20, 50), -2000, "<i2")
    cells[5:15] = np.arange(500).reshape(10, 50)
    plain, padded = tmp_path / "a", tmp_path / "b"
    assert shown(write_dicom(plain, cells))[5, 0] > 150
    pixels = shown(write_dicom(padded, cells, PixelPaddingValue=-2000))
    assert pixels[0].max() == 0
    assert pixels[5, 0] < 5
    assert pixels[14, -1] > 250


def test_look_up_tables_of_palette_and_of_interest(tmp_path, write_dicom):
    path = write_dicom(
        tmp_path / "a", np.array([[0, 1, 2]], "u1"), PhotometricInterpretation="PALETTE COLOR"
    )
    dataset = pydicom.dcmread(path)
    for name, table in {"Red": (0, 255, 9, 1), "Green": (0, 0, 8, 1), "Blue": (7, 0, 7, 1)}.items():
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        dataset[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(dataset, f"{name}PaletteColorLookupTableData", bytes(table))
    dataset.save_as(path)
    assert shown(path).tolist() == [[[0, 0, 7], [255, 0, 0], [9, 8, 7]]]
    path = write_dicom(tmp_path / "b", np.array([[0, 1, 2]], "<u2"))
    dataset = pydicom.dcmread(path)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [3, 0, 16])
    item.add_new("LUTData", "US", [65535, 0, 32768])
    dataset.VOILUTSequence = [item]
    dataset.save_as(path)
    assert shown(path).tolist() == [[255, 0, 128]]


def test_colours_of_many_bits(tmp_path, write_dicom):
    rgb = np.array([[[0, 32768, 65535]]], "<u2")
    assert shown(write_dicom(tmp_path / "a", rgb)).tolist() == [[[0, 128, 255]]]


def test_every_frame_has_its_own_window(tmp_path, write_dicom):
    cells = np.stack([np.arange(100).reshape(10, 10)] * 2).astype("<u2")
    path = write_dicom(tmp_path / "a.dcm", cells, frames=2)
    dataset = pydicom.dcmread(path)
    groups = []
    for centre in (20, 80):
        window_of, group = pydicom.Dataset(), pydicom.Dataset()
        window_of.WindowCenter, window_of.WindowWidth = centre, 2
        group.FrameVOILUTSequence = [window_of]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.save_as(path)
    first, second = (read_image(tmp_path / f"a.dcm#{n}", "a") for n in (0, 1))
    assert [(image > 200).sum() for image in (first, second)] == [80, 20]
    assert np.array_equal(first, shown(path))


def test_colours_that_mean_nothing_are_refused(tmp_path, write_dicom, ramp):
    path = write_dicom(tmp_path / "a", ramp(), PhotometricInterpretation="HSV")
    with pytest.raises(DataError, match=r"^a: pixels in HSV; expected MONOCHROME, PALETTE COLOR"):
        shown(path)
    path = write_dicom(tmp_path / "a", ramp(), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DataError, match=r"^a: its DICOM header cannot be used \("):
        shown(path)
