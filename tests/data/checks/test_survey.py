"""The same facts from any number of processes."""

from concurrent.futures.process import BrokenProcessPool

import nibabel
import numpy as np
import pytest

from polyclinic.cli import main
from polyclinic.data.checks import survey as module
from polyclinic.data.checks.loose import UNRECOGNISED
from polyclinic.data.checks.survey import survey_folder
from polyclinic.data.phantoms import brain
from polyclinic.errors import DataError


def test_two_processes_see_what_one_sees_in_the_same_order(site, monkeypatch):
    monkeypatch.setattr(module, "ONE_PROCESS", 0)
    monkeypatch.setattr(module, "CHUNK", 16)
    shares = []
    two = survey_folder(site, jobs=2, done=shares.append)
    one = survey_folder(site, jobs=1, done=lambda _: None)
    assert (two.images, two.files) == (one.images, one.files)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_slices_of_a_volume_stay_together(tmp_path, monkeypatch):
    brain.write(tmp_path / "site", seed=0, images=32, image_size=32)
    monkeypatch.setattr(module, "CHUNK", 5)
    scan = module.open_scan(tmp_path / "site")
    patients = [
        {item.patient for item in scan.items[start:stop]} for start, stop in module._chunks(scan)
    ]
    assert sum(map(len, patients)) == len(set.union(*patients))
    survey = survey_folder(tmp_path / "site", jobs=1, done=lambda _: None)
    assert len(survey.images) == len(scan.items)
    assert all(np.sum(facts.labels) > 0 for facts in survey.images)


def test_a_killed_process_is_one_line(site, monkeypatch):
    class Pool:
        def __init__(self, *_):
            pass

        def submit(self, *_):
            raise BrokenProcessPool

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(module, "ONE_PROCESS", 0)
    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    with pytest.raises(DataError, match=r"one of 2 worker processes was killed.*fewer --jobs"):
        survey_folder(site, jobs=2, done=lambda _: None)


def test_nothing_in_the_folder_is_changed(site):
    before = {path: path.read_bytes() for path in sorted(site.rglob("*.png"))}
    survey_folder(site, jobs=1, done=lambda _: None)
    assert {path: path.read_bytes() for path in sorted(site.rglob("*")) if path.is_file()} == before


def test_a_folder_that_is_no_site_is_looked_at_all_the_same(tmp_path, write_dicom, ramp, found):
    loose = tmp_path / "loose"
    for number in range(3):
        write_dicom(loose / f"d{number}.dcm", ramp(16, 16) + np.uint8(number))
    write_dicom(loose / "many.dcm", np.stack([ramp(16, 16)] * 3), frames=3)
    whole = write_dicom(loose / "cut.dcm", ramp(16, 16)).read_bytes()
    (loose / "cut.dcm").write_bytes(whole[:-40])
    volume = nibabel.Nifti1Image(np.arange(10 * 10 * 12.0).reshape(10, 10, 12), np.eye(4))
    nibabel.save(volume, loose / "v.nii.gz")
    short = (loose / "v.nii.gz").read_bytes()
    (loose / "w.nii.gz").write_bytes(short[:-200])
    (loose / "x.nii").write_bytes(b"no volume")
    (loose / "notes.txt").write_text("nothing to see")
    survey = survey_folder(loose, jobs=1, done=lambda _: None)
    assert survey.scan.format == UNRECOGNISED
    keys = [item.key for item in survey.scan.items]
    slices = [f"{name}#{z}" for name in ("v.nii.gz", "w.nii.gz") for z in (2, 7)]
    frames = [f"many.dcm#{n}" for n in range(3)]
    assert keys == ["cut.dcm", "d0.dcm", "d1.dcm", "d2.dcm", *frames, *slices, "x.nii"]
    reasons = {k: f.reason for k, f in zip(keys, survey.images, strict=True) if f.reason}
    assert set(reasons) == {"cut.dcm", "w.nii.gz#2", "w.nii.gz#7", "x.nii"}
    assert all("w.nii.gz" not in reason for reason in reasons.values())
    said = found(loose)
    assert any("cannot be used as a site" in finding.what for finding in said["reading"])
    assert any(finding.where == "cut.dcm" for finding in said["reading"])
    assert said["near-duplicate"] == ()  # frames of one file are alike


def test_the_head_says_how_many_images_cannot_be_read(tmp_path, capsys, write_dicom, ramp):
    write_dicom(tmp_path / "loose" / "a.dcm", ramp(16, 16))
    (tmp_path / "loose" / "b.nii").write_bytes(b"no volume")
    main(["data", "check", str(tmp_path / "loose")])
    assert "no known format, 2 images, 1 of them unreadable\n" in capsys.readouterr().out
