import nibabel
import numpy as np
import pytest

from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError


def volume(path, depth=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(depth).integers(1, 900, (6, 8, depth)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def site(folder, table="participant_id\tage\tgroup\nsub-1\t41\tcontrol\nsub-2\t52.5\tpatient\n"):
    volume(folder / "sub-1" / "anat" / "sub-1_T1w.nii.gz")
    volume(folder / "sub-2" / "ses-a" / "anat" / "sub-2_ses-a_T1w.nii.gz", 23)
    volume(folder / "sub-2" / "ses-a" / "anat" / "sub-2_ses-a_FLAIR.nii.gz")
    (folder / "participants.tsv").write_text(table)
    return folder


def test_slices_of_the_middle_carry_the_label_of_their_subject(tmp_path):
    scan = scan_site(site(tmp_path))
    assert (scan.format, scan.task, scan.classes) == (
        "bids",
        "single-label",
        ("control", "patient"),
    )
    assert scan.has_patient_ids
    assert [(item.key.rpartition("#")[2], item.patient, item.target) for item in scan.items] == [
        *((str(z), "sub-1", 0) for z in (10, 15, 20, 25)),
        *((str(z), "sub-2", 1) for z in (5, 10, 15)),
    ]
    image, labels = scan.load(scan.items[0])
    assert (image.shape, image.dtype, labels) == ((8, 6), np.uint8, None)
    assert any(f.what == "T1w images are used; left out: FLAIR" for f in scan.findings)


def test_age_is_a_regression_where_it_is_declared(tmp_path):
    scan = scan_site(site(tmp_path), task="regression")
    assert (scan.task, scan.classes) == ("regression", ())
    assert {item.target for item in scan.items} == {41.0, 52.5}


def test_subjects_without_a_label_are_left_out_and_named(tmp_path):
    table = "participant_id\tdiagnosis\n1\tx\nsub-2\tn/a\n"
    scan = scan_site(site(tmp_path, table))
    assert {item.patient for item in scan.items} == {"sub-1"}
    assert any(f.where == "sub-2" and "1 subject without a label" in f.what for f in scan.findings)


def test_a_volume_that_cannot_be_read_stays_in_the_list(tmp_path):
    folder = site(tmp_path)
    (folder / "sub-1" / "anat" / "sub-1_T1w.nii.gz").write_bytes(b"no")
    scan = scan_site(folder)
    with pytest.raises(DataError, match=r"^sub-1/anat/sub-1_T1w.nii.gz: not a readable NIfTI"):
        scan.load(scan.items[0])


@pytest.mark.parametrize("shape", [(10, 10, 2_000_000_000), (30_000,) * 3])
def test_a_volume_that_claims_any_size_is_one_image(tmp_path, claim_volume, shape):
    folder = site(tmp_path)
    name = "sub-1/anat/sub-1_T1w.nii.gz"
    (folder / name).unlink()
    claim_volume(folder / name.removesuffix(".gz"), shape)
    scan = scan_site(folder)
    first = scan.items[0]
    assert [item.patient for item in scan.items] == ["sub-1", *["sub-2"] * 3]
    assert [f.where for f in scan.findings if f.severity == "warning"] == [first.key]
    with pytest.raises(DataError, match=r"^sub-1/anat/sub-1_T1w\.nii: shape \("):
        scan.load(first)


@pytest.mark.parametrize(
    ("table", "task", "expected"),
    [
        (
            "participant_id\tsex\nsub-1\tF\n",
            "auto",
            r"expected the columns participant_id and diag",
        ),
        ("", "auto", r"got nothing"),
        ("participant_id\tage\nsub-1\told\n", "regression", r"age is not a number everywhere"),
        ("participant_id\tgroup\nsub-1\tx\n", "segmentation", r"not for segmentation"),
    ],
)
def test_tables_that_hold_no_label(tmp_path, table, task, expected):
    with pytest.raises(DataError, match=expected):
        scan_site(site(tmp_path, table), task=task)


def test_a_folder_without_volumes(tmp_path):
    (tmp_path / "sub-1").mkdir()
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\nsub-1\tx\n")
    with pytest.raises(DataError, match=r"no volume like sub-01/anat/sub-01_T1w\.nii\.gz"):
        scan_site(tmp_path)


def test_the_table_is_not_read_from_elsewhere(tmp_path):
    folder = site(tmp_path / "site")
    (folder / "participants.tsv").rename(tmp_path / "elsewhere.tsv")
    (folder / "participants.tsv").symlink_to(tmp_path / "elsewhere.tsv")
    with pytest.raises(DataError, match=r"site: no participants\.tsv in it; expected one beside"):
        scan_site(folder)
