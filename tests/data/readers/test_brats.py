import nibabel
import numpy as np
import pytest

from polyclinic.data.nifti import read_volume
from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError

NEW = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")
OLD = ("_t1", "_t1ce", "_t2", "_flair", "_seg")
RAS = np.eye(4)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (10, 8, 4)


def volume(seed):
    values = np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)
    values[:, :, 0] = 0  # an empty slice
    values[0] = 0
    return values


def segmentation(enhancing=3):
    labels = np.zeros(SHAPE, np.uint8)
    labels[4, 5, 2] = enhancing
    labels[5, 5, 2] = 1
    labels[6, 5, 2] = 2
    return labels


def case(site, name, volumes, *, names=NEW, affine=RAS, extension=".nii.gz"):
    folder = site / name
    folder.mkdir(parents=True)
    for end, values in zip(names, volumes, strict=True):
        if values is not None:
            image = nibabel.Nifti1Image(values, affine)
            nibabel.save(image, folder / f"{name}{end}{extension}")


def whole_case(site, name="p1", **options):
    case(site, name, [*(volume(n) for n in range(4)), segmentation()], **options)


@pytest.mark.parametrize("names", [NEW, OLD], ids=["new", "old"])
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_slices_channels_and_labels(tmp_path, names, extension):
    whole_case(tmp_path, names=names, extension=extension)
    scan = scan_site(tmp_path)
    assert (scan.format, scan.task, scan.has_patient_ids) == ("brats", "segmentation", True)
    assert scan.classes == ("background", "core", "oedema", "enhancing")
    assert [(i.key, i.patient) for i in scan.items] == [(f"p1#{z}", "p1") for z in (1, 2, 3)]
    image, labels = scan.load(scan.items[1])
    assert image.shape == (8, 10, 3)
    # Row 0 is anterior (largest y), column 0 the patient's right (largest x in RAS).
    assert labels[8 - 1 - 5, 10 - 1 - 4] == 3
    assert labels[8 - 1 - 5, 10 - 1 - 5] == 1
    assert labels[8 - 1 - 5, 10 - 1 - 6] == 2
    for channel, seed in enumerate((3, 1, 0)):  # t2f, t1c, t1n
        values = volume(seed).astype(float)
        low, high = np.percentile(values[values != 0], (0.5, 99.5))
        slow = np.where(values == 0, 0, np.rint(np.clip((values - low) / (high - low), 0, 1) * 255))
        np.testing.assert_array_equal(image[..., channel], slow[::-1, ::-1, 2].T)


def test_orientation_in_the_header_is_honoured(tmp_path):
    whole_case(tmp_path / "a", affine=RAS)
    flipped = [v[::-1, ::-1] for v in (*(volume(n) for n in range(4)), segmentation())]
    case(tmp_path / "b", "p1", flipped, affine=LPS)
    one, other = scan_site(tmp_path / "a"), scan_site(tmp_path / "b")
    for a, b in zip(one.items, other.items, strict=True):
        for x, y in zip(one.load(a), other.load(b), strict=True):
            np.testing.assert_array_equal(x, y)


def test_enhancing_tumour_was_4_until_2020(tmp_path):
    case(tmp_path, "p", [*(volume(n) for n in range(4)), segmentation(4)], names=OLD)
    scan = scan_site(tmp_path)
    assert set(np.unique(scan.load(scan.items[1])[1])) == {0, 1, 2, 3}


def test_missing_sequences_are_zero_and_t2w_stands_in_for_t2f(tmp_path):
    case(tmp_path, "p", [volume(0), None, volume(2), None, segmentation()])
    scan = scan_site(tmp_path)
    image, _ = scan.load(scan.items[0])
    assert image[..., 0].any()
    assert not image[..., 1].any()
    assert image[..., 2].any()
    assert scan.findings[-1].what == "has no t1c; these channels are zero"


def test_a_bad_case_is_one_unreadable_item(tmp_path):
    whole_case(tmp_path, "good")
    case(tmp_path, "no-seg", [volume(0), None, None, None, None])
    case(tmp_path, "only-seg", [None, None, None, None, segmentation()])
    whole_case(tmp_path, "cut")
    path = tmp_path / "cut" / "cut-t2f.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    scan = scan_site(tmp_path)
    bad = [i for i in scan.items if "#" not in i.key]
    assert [i.key for i in bad] == ["cut", "no-seg", "only-seg"]
    for item, reason in zip(
        bad, ("not a readable NIfTI", "no segmentation", "no t2f"), strict=True
    ):
        with pytest.raises(DataError, match=f"{item.key}: .*{reason}"):
            scan.load(item)
    assert {f.where for f in scan.findings if f.severity == "warning"} == {i.key for i in bad}


def test_a_case_without_a_slice_worth_using_does_not_disappear(tmp_path):
    whole_case(tmp_path, "good")
    case(tmp_path, "empty", [*(volume(n) for n in range(3)), np.zeros(SHAPE), segmentation()])
    scan = scan_site(tmp_path)
    assert scan.items[0].key == "empty"
    assert all(item.patient == "good" for item in scan.items[1:])
    reason = "empty-t2f.nii.gz has no slice with 1 % of its pixels nonzero"
    with pytest.raises(DataError, match=f"^empty: {reason}$"):
        scan.load(scan.items[0])
    assert [(f.severity, f.where, f.what) for f in scan.findings] == [("warning", "empty", reason)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seg": np.full(SHAPE, 7, np.uint8)}, "labels 7; expected 0, 1, 2 and either 3 or 4"),
        ({"seg": np.resize([0, 3, 4], SHAPE).astype(np.uint8)}, "labels 0, 3, 4; expected"),
        ({"seg": np.full(SHAPE, 0.5, np.float32)}, "labels 0.5; expected"),
        ({"seg": np.zeros((10, 8, 5), np.uint8)}, r"shape \(10, 8, 4\), .*-seg.* \(10, 8, 5\)"),
        ({"t1n": np.full(SHAPE, np.nan, np.float32)}, "t1n.*voxels that are NaN or infinite"),
    ],
)
def test_contents_that_do_not_fit_are_refused(tmp_path, change, message):
    volumes = {
        "t1n": volume(0),
        "t1c": volume(1),
        "t2w": None,
        "t2f": volume(3),
        "seg": segmentation(),
    }
    volumes.update(change)
    case(tmp_path, "p", list(volumes.values()))
    scan = scan_site(tmp_path)
    for item in scan.items:
        with pytest.raises(DataError, match=message):
            scan.load(item)


def test_each_case_is_decoded_once(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        whole_case(tmp_path, name)
    scan = scan_site(tmp_path)
    decoded = []
    real = read_volume

    def counted(path, name):
        decoded.append(name)
        return real(path, name)

    monkeypatch.setattr("polyclinic.data.readers.brats.read_volume", counted)
    for item in scan.items:
        scan.load(item)
    assert len(decoded) == len(set(decoded)) == 3 * 4


def test_four_axes(tmp_path):
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 1), np.uint8), RAS), path)
    assert read_volume(path, "a").shape == (3, 3, 3)
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), np.uint8), RAS), path)
    with pytest.raises(DataError, match="expected one volume"):
        read_volume(path, "a")


def test_no_case(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match="no sub-folder with files like"):
        scan_site(tmp_path, format="brats")


def test_timepoints_are_of_one_patient(tmp_path):
    names = ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00001-000", "p1-000")
    for name in names:
        whole_case(tmp_path, name)
    patients = {item.key.partition("#")[0]: item.patient for item in scan_site(tmp_path).items}
    assert patients == {
        "BraTS-GLI-00000-000": "BraTS-GLI-00000",
        "BraTS-GLI-00000-001": "BraTS-GLI-00000",
        "BraTS-GLI-00001-000": "BraTS-GLI-00001",
        "p1-000": "p1-000",
    }
