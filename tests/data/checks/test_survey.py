"""The same facts from any number of processes."""

from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from polyclinic.data.checks import survey as module
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
