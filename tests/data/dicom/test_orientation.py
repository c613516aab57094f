"""All ways to store a slice lead to one picture."""

import itertools

import numpy as np
import pytest
from pydicom import Dataset

from polyclinic.data.dicom.images import read_image
from polyclinic.data.dicom.orientation import Turn, turn_of

AXES = {"L": (1, 0, 0), "P": (0, 1, 0), "H": (0, 0, 1)}
AXES |= {o: tuple(-x for x in AXES[w]) for o, w in {"R": "L", "A": "P", "F": "H"}.items()}
USUAL = {"axial": "LP", "coronal": "LF", "sagittal": "PF"}
OPPOSITE = dict(zip("LRPAHF", "RLAPFH", strict=True))
PICTURE = np.arange(12).reshape(3, 4)


def stored(columns, rows, usual):
    """`PICTURE` as stored with `columns` and `rows` running towards these sides."""
    image, ways = PICTURE, usual
    if columns in (ways[1], OPPOSITE[ways[1]]):
        image, ways = image.T, ways[::-1]
    if columns != ways[0]:
        image = image[:, ::-1]
    if rows != ways[1]:
        image = image[::-1]
    return image


@pytest.mark.parametrize("plane", USUAL)
@pytest.mark.parametrize("letters", [True, False])
def test_every_way_to_store_a_slice_gives_the_same_picture(plane, letters):
    usual = USUAL[plane]
    for first, second in (usual, usual[::-1]):
        for columns, rows in itertools.product(
            (first, OPPOSITE[first]), (second, OPPOSITE[second])
        ):
            dataset = Dataset()
            if letters:
                dataset.PatientOrientation = [columns, rows]
            else:
                dataset.ImageOrientationPatient = [*AXES[columns], *AXES[rows]]
            turn = turn_of(dataset)
            image = stored(columns, rows, usual)
            assert np.array_equal(turn.apply(image), PICTURE), (columns, rows)
            assert np.array_equal(turn.undo(PICTURE), image), (columns, rows)


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"PatientOrientation": ["R", "F"], "Modality": "MG"},
        {"PatientOrientation": ["X", "Y"]},
        {"PatientOrientation": "L"},
        {"ImageOrientationPatient": [0.71, 0.71, 0, -0.71, 0.71, 0]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    ],
)
def test_what_is_not_known_or_oblique_stays_as_it_is(elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    assert turn_of(dataset) == Turn()


def test_images_are_read_the_usual_way_up(tmp_path, write_dicom, ramp):
    upright = read_image(write_dicom(tmp_path / "a", ramp()), "a")
    path = write_dicom(tmp_path / "b", ramp(), ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    assert np.array_equal(read_image(path, "b"), upright[::-1, ::-1])
