import json

import nibabel
import numpy as np
import pytest

from polyclinic.data.dataset import IGNORE
from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError

SHAPE = (6, 8, 12)


def save(path, volume, flip=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if flip else np.eye(4)
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def labels():
    volume = np.zeros(SHAPE, np.uint8)
    volume[1:3, 2:4, 5:7] = 1
    volume[4, 4, 6] = 2
    return volume


def image(channels=None, seed=0):
    shape = SHAPE if channels is None else (*SHAPE, channels)
    return np.random.default_rng(seed).integers(1, 900, shape).astype(np.int16)


def decathlon(folder, channels=None, **table):
    save(folder / "imagesTr" / "p1.nii.gz", image(channels))
    save(folder / "labelsTr" / "p1.nii.gz", labels())
    names = {str(n): f"m{n}" for n in range(channels or 1)}
    content = {"modality": names, "labels": {"0": "background", "1": "liver", "2": "cyst"}, **table}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def nnunet(folder, **table):
    for number in range(2):
        save(folder / "imagesTr" / f"p1_{number:04d}.nii.gz", image(seed=number), flip=True)
    save(folder / "labelsTr" / "p1.nii.gz", labels(), flip=True)
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1, "cyst": 2},
        "file_ending": ".nii.gz",
        **table,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("channels", "shape"), [(None, (8, 6)), (2, (8, 6, 3)), (4, (8, 6, 3))])
def test_the_decathlon(tmp_path, channels, shape):
    scan = scan_site(decathlon(tmp_path, channels))
    assert (scan.format, scan.task, scan.has_patient_ids) == ("msd", "segmentation", True)
    assert scan.classes == ("background", "liver", "cyst")
    assert [item.key for item in scan.items] == ["p1#2", "p1#5", "p1#6", "p1#9"]
    assert {item.patient for item in scan.items} == {"p1"}
    pixels, label_map = scan.load(scan.items[2])
    assert pixels.shape == shape
    assert label_map.shape == (8, 6)
    # rows run from anterior, columns from the patient's right, which is x from the left backwards
    assert label_map[7 - 2, 5 - 1] == 1
    assert label_map[7 - 4, 5 - 4] == 2
    if channels == 2:
        assert not pixels[..., 2].any()
    if channels == 4:
        assert any("channels left out: m3" in finding.what for finding in scan.findings)


def test_nnunet_of_another_orientation(tmp_path):
    scan = scan_site(nnunet(tmp_path))
    assert [item.key for item in scan.items] == ["p1#2", "p1#5", "p1#6", "p1#9"]
    pixels, label_map = scan.load(scan.items[2])
    assert pixels.shape == (8, 6, 3)
    assert label_map[2, 1] == 1
    assert label_map[4, 4] == 2


def test_labels_that_do_not_count(tmp_path):
    names = {"background": 0, "liver": 1, "ignore": 2}
    scan = scan_site(nnunet(tmp_path, labels=names))
    assert scan.classes == ("background", "liver")
    assert (scan.load(scan.items[2])[1] == IGNORE).sum() == 1


def test_labels_with_gaps_are_numbered_in_a_row(tmp_path):
    folder = nnunet(tmp_path, labels={"background": 0, "liver": 1, "cyst": 2, "vessel": 9})
    volume = labels()
    volume[0, 0, 5] = 9
    save(folder / "labelsTr" / "p1.nii.gz", volume)
    scan = scan_site(folder)
    assert scan.classes == ("background", "liver", "cyst", "vessel")
    assert scan.load(scan.items[1])[1].max() == 3


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"labels": {"background": 0, "all": [1, 2]}}, r"label 'all' is no number; expected one"),
        ({"labels": {"liver": 1}}, r"no label has the value 0; expected one whole number"),
        ({"labels": {"background": 0, "liver": 0}}, r"2 labels; expected different ones"),
        ({"channel_names": 3}, r"expected `channel_names` \(or `modality`\) and `labels`"),
        ({"labels": None}, r"expected `channel_names` \(or `modality`\) and `labels`"),
    ],
)
def test_tables_that_do_not_say_what_is_needed(tmp_path, table, expected):
    with pytest.raises(DataError, match=expected) as caught:
        scan_site(nnunet(tmp_path, **table))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_json(tmp_path):
    (nnunet(tmp_path) / "dataset.json").write_text("{" * 20000)
    with pytest.raises(DataError, match=r"dataset\.json: expected"):
        scan_site(tmp_path)


def test_cases_that_cannot_be_used_stay_in_the_list(tmp_path):
    folder = nnunet(tmp_path)
    save(folder / "labelsTr" / "p2.nii.gz", labels())
    for number in range(2):
        save(folder / "imagesTr" / f"p2_{number:04d}.nii.gz", image()[:-1])
    save(folder / "labelsTr" / "p3.nii.gz", labels() + 7)
    save(folder / "imagesTr" / "p3_0000.nii.gz", image())
    save(folder / "labelsTr" / "p4.nii.gz", labels())
    save(folder / "imagesTr" / "p5_0000.nii.gz", image())
    scan = scan_site(folder)
    bad = {item.key: item for item in scan.items if "#" not in item.key}
    assert set(bad) == {"p2", "p3"}
    with pytest.raises(DataError, match=r"has shape \(5, 8, 12\), labelsTr/p2.* expected the same"):
        scan.load(bad["p2"])
    with pytest.raises(DataError, match=r"label 7, which dataset\.json does not name; add it"):
        scan.load(bad["p3"])
    said = {finding.where: finding.what for finding in scan.findings}
    assert said["labelsTr/p4.nii.gz"] == "has no image in imagesTr/"
    assert said["imagesTr"] == "1 volume without labels, left out"


def test_a_folder_without_pairs(tmp_path):
    folder = nnunet(tmp_path)
    (folder / "labelsTr" / "p1.nii.gz").unlink()
    with pytest.raises(DataError, match=r"no volume in imagesTr/ that has a partner in labelsTr/"):
        scan_site(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"no dataset\.json in it"):
        scan_site(folder, format="msd")


def test_names_are_text_that_can_be_shown(tmp_path):
    labels = '{"background": 0, "a\\nb": 1, "\\ud800": 2}'
    folder = decathlon(tmp_path)
    (folder / "dataset.json").write_text(f'{{"modality": {{"0": "m\\u001b"}}, "labels": {labels}}}')
    assert scan_site(folder).classes == ("background", "a b", " ")
