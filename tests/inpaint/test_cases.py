"""Folders of brain MRI: what layout is recognised, and what its labels mean."""

import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from polyclinic.data.phantoms import brain
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.cases import find_cases, head_mask, phantom_cases, read_cases
from polyclinic.inpaint.components import (
    CORE,
    ENHANCING,
    MIXED,
    OEDEMA,
    SEQUENCES,
    UNKNOWN_SEQUENCE,
)


def head():
    rows, columns = np.mgrid[:24, :24] - 12
    return np.where(np.hypot(rows, columns) < 10, 100, 0).astype(np.uint8)


def test_a_mask_means_a_mixture(tmp_path):
    labels = np.zeros((24, 24), np.uint8)
    labels[8:12, 9:14] = 255
    for folder, pixels in (("images", head()), ("masks", labels)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    found = find_cases(tmp_path)
    assert found.describe() == "1 cases, laid out as image-masks, labels in mask order"
    (case,) = read_cases(found)
    assert list(case.volumes) == [UNKNOWN_SEQUENCE]
    assert np.array_equal(case.components[0] == MIXED, labels > 0)
    assert np.array_equal(case.components[0] > 0, labels > 0)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("auto", {OEDEMA: 1, CORE: 2, ENHANCING: 3}), ("brats", {CORE: 1, OEDEMA: 2, ENHANCING: 3})],
)
def test_the_decathlon_s_order_is_recognised_and_can_be_overridden(tmp_path, order, expected):
    names = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": names}))
    labels = np.zeros((24, 24, 1), np.uint8)
    labels[8, 8], labels[9, 9:11], labels[10, 10:13] = 1, 2, 3
    volume = np.stack([head()[..., None] + n for n in range(4)], axis=-1).astype(np.int16)
    for folder, array in (("imagesTr", volume), ("labelsTr", labels)):
        (tmp_path / folder).mkdir()
        image = nibabel.Nifti1Image(array, np.eye(4))
        nibabel.save(image, tmp_path / folder / "BRATS_001.nii.gz")
    (case,) = read_cases(find_cases(tmp_path, order))
    assert sorted(case.volumes) == [0, 1, 2, 3]
    counts = {c: int((case.components == c).sum()) for c in (CORE, OEDEMA, ENHANCING)}
    assert counts == expected


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(DataError, match=r"no brain MRI with segmentations; expected a folder per"):
        find_cases(tmp_path)
    with pytest.raises(DataError, match=r"absent: no such folder"):
        find_cases(tmp_path / "absent")


def test_made_up_heads_have_all_sequences_and_some_have_one_part_alone():
    made = phantom_cases(10)
    assert len({case.key for case in made}) == 10
    assert all(case.key.startswith("made-up/") for case in made)
    parts = [set(np.unique(case.components).tolist()) - {0} for case in made]
    assert parts[1] == parts[2] == {CORE, OEDEMA, ENHANCING}
    assert [parts[number] for number in (0, 4, 8)] == [{CORE}, {OEDEMA}, {ENHANCING}]
    assert {number for case in made for number in case.volumes} == {0, 1, 2, 3}
    assert all(case.components.shape == (12, 120, 120) for case in made)


@pytest.fixture
def timepoints(tmp_path):
    """Images with masks of two patients, one of whom came twice."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("a_1", "a_2", "b_1"):
            Image.fromarray(head() if folder == "images" else head() // 100).save(
                tmp_path / folder / f"{name}.png"
            )
    return tmp_path


def test_a_pattern_finds_the_patient_in_a_name(timepoints):
    patients = [case.patient for case in read_cases(find_cases(timepoints))]
    assert patients == ["images/a_1.png", "images/a_2.png", "images/b_1.png"]
    found = find_cases(timepoints, patient_pattern="/([a-z])_")
    assert [case.patient for case in read_cases(found)] == ["a", "a", "b"]
    assert found.patient("images/a_7.png") == "a"


def test_a_sequence_is_said_of_images_alone(timepoints, tmp_path_factory):
    found = find_cases(timepoints, image_sequence="flair")
    flair = SEQUENCES.index("t2f")
    assert {tuple(case.volumes) for case in read_cases(found)} == {(flair,)}
    with pytest.raises(ConfigError, match=r"no sequence 'x': expected one of t1n"):
        find_cases(timepoints, image_sequence="x")
    brats = tmp_path_factory.mktemp("brats")
    brain.write_cases(brats, brain.generate(1, size=32, slices=3))
    with pytest.raises(
        ConfigError, match=r"laid out as brats, where files say their sequence; exp"
    ):
        find_cases(brats, image_sequence="flair")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(", r"--patient-pattern: '\(' is no regular expression"),
        ("a", r"--patient-pattern: 'a' has no group; .* for the patient, such as \(TCGA_"),
        ("(a)_", r"--patient-pattern: '\(a\)_' finds no patient in the name images/b_1\.png"),
    ],
)
def test_a_pattern_that_does_not_fit(timepoints, pattern, text):
    with pytest.raises(ConfigError, match=text):
        find_cases(timepoints, patient_pattern=pattern)


def test_made_up_heads_are_their_own_patients():
    assert all(case.patient == case.key for case in phantom_cases(2))


ROWS, COLUMNS = np.mgrid[:48, :48] - 24
AWAY = np.hypot(ROWS, COLUMNS * 1.2)


def toned(air, seed=0):
    """A bright brain in a dark skull in noisy air, (2, 48, 48), and the disc that is the head."""
    noise = 0.02 * np.random.default_rng(seed).normal(size=(2, 48, 48))
    plane = np.where(AWAY < 14, 0.8, np.where(AWAY < 18, -0.65, air))
    return (plane + noise).astype(np.float32), np.broadcast_to(AWAY < 18, (2, 48, 48))


def overlap(found, disc):
    return 2 * (found & disc).sum() / (found.sum() + disc.sum())


@pytest.mark.parametrize("air", [-1, -0.9, -0.3, 0.1, 0.4])
def test_a_head_is_what_is_not_air_however_grey_that_is(air):
    plane, disc = toned(air)
    assert overlap(head_mask([plane]), disc) > 0.9


def test_grey_air_in_one_sequence_does_not_hide_the_head_in_another():
    (dark, disc), (grey, _) = toned(-1), toned(0.4)
    assert overlap(head_mask([dark, grey]), disc) > 0.9
    assert overlap(head_mask([grey, dark]), disc) > 0.9


@pytest.mark.parametrize("width", [1, 3])
def test_a_grey_frame_is_not_the_air(width):
    plane, disc = toned(-1)
    sides = ((0, 0), (width, width), (width, width))
    found = head_mask([np.pad(plane, sides, constant_values=-0.4)])
    assert overlap(found, np.pad(disc, sides)) > 0.9


def test_a_crop_from_within_a_head_is_head_all_over():
    rng = np.random.default_rng(0)
    folds = np.where((ROWS // 5 + COLUMNS // 5) % 2, 0.4, 0.1)
    tissue = folds + 0.05 * rng.normal(size=(1, 48, 48))
    assert head_mask([tissue.astype(np.float32)]).mean() > 0.99
