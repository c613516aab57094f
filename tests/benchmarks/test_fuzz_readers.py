"""Damaged folders: a small part of the fuzz run, and that the run notices what it should."""

import dataclasses
import gzip
import os
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

import fuzz_faults
import fuzz_headers
import fuzz_readers
import fuzz_sites
from polyclinic.data.readers import scan_corpus, scan_site
from polyclinic.errors import DataError
from polyclinic.run import prediction_inputs

QUICK = (
    "truncated",
    "bits flipped",
    "header claims",
    "odd name",
    "table",
    "dataset.json",
    "missing",
)
INPUTS = 200


@pytest.fixture(scope="module")
def base():
    return fuzz_sites.sites(0)


@pytest.fixture
def deep():
    """Room on the stack for folders that lie deeper than that of Python."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    yield
    sys.setrecursionlimit(limit)


def test_every_made_up_site_is_read_whole(base, tmp_path):
    for name, files in base.items():
        folder = tmp_path / name
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        scan = scan_corpus(folder) if name == "corpus" else scan_site(folder)
        assert scan.format == name.partition(" ")[0]
        broken = []
        for item in scan.items:
            try:
                scan.load(item)
            except DataError:
                broken.append(item.key)
        assert broken == (["cold/x.gif.png"] if name == "class-folders" else [])


def test_readers_bear_a_part_of_the_fuzz_run(base, tmp_path, monkeypatch):
    """In this process, without bombs: the whole of it is a benchmark."""
    monkeypatch.setattr(fuzz_readers, "KINDS", {k: fuzz_readers.KINDS[k] for k in QUICK})
    monkeypatch.setattr(fuzz_readers, "_check", lambda _: None)
    monkeypatch.setattr(fuzz_readers, "LOADS", 2)
    for number in range(INPUTS):
        folder = tmp_path / "site"
        folder.mkdir()
        name, kinds = fuzz_readers.plant(number, 0, base, folder)
        before = fuzz_readers.state(tmp_path)
        found = fuzz_readers.look(folder, name.partition(" ")[0])
        assert found["faults"] == {}, (number, name, kinds)
        assert fuzz_readers.state(tmp_path) == before
        shutil.rmtree(folder)


def test_volumes_claim_any_size_under_both_headers(base, tmp_path):
    name = "sub-1/anat/sub-1_T1w.nii.gz"
    stored = gzip.decompress(base["bids"][name])
    (tmp_path / "one.nii").write_bytes(stored)
    (tmp_path / "two.nii").write_bytes(fuzz_headers.as_nifti2(stored))
    images = [nibabel.load(tmp_path / f"{n}.nii") for n in ("one", "two")]
    assert [type(image) for image in images] == [nibabel.Nifti1Image, nibabel.Nifti2Image]
    assert np.array_equal(images[0].affine, images[1].affine)
    assert np.array_equal(*(np.asarray(image.dataobj) for image in images))
    claimed = set()
    for number in range(100):
        data = fuzz_headers.as_nifti2(stored)
        fuzz_headers.claim_nifti2(data, np.random.default_rng(number))
        claimed.add(struct.unpack_from("<q", data, 40)[0])
        assert len(data) == len(stored) + 192
    assert 2 * 10**9 in claimed


def test_what_predict_would_list_is_looked_at(base, tmp_path, claim_volume, monkeypatch):
    claim_volume(tmp_path / "a.nii", (10, 10, 2 * 10**9))
    fuzz_readers._list(tmp_path)
    found = prediction_inputs.find_inputs(tmp_path)
    shown = dataclasses.replace(found, left_out={"\x1b": "why"})
    monkeypatch.setattr(prediction_inputs, "find_inputs", lambda *_, **__: shown)
    with pytest.raises(fuzz_readers.BrokenPromiseError, match="input"):
        fuzz_readers._list(tmp_path)


def test_every_kind_of_fault_can_be_planted_at_every_site_again_and_again(base, tmp_path, deep):
    for number, name in enumerate(base):
        kinds = list(fuzz_faults.KINDS)
        kind = kinds[number % len(kinds)]
        if kind == "bomb":
            continue  # it takes seconds to pack
        states = []
        for again in range(2):
            folder = tmp_path / str(again) / "site"
            folder.mkdir(parents=True)
            for path, data in base[name].items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            fuzz_faults.KINDS[kind](folder, fuzz_readers.np.random.default_rng([5, number]))
            states.append(_names_and_contents(folder))
            shutil.rmtree(folder)
        assert states[0] == states[1], (name, kind)


def _names_and_contents(folder):
    return sorted(
        (os.fsencode(path.relative_to(folder)), path.read_bytes())
        for path in folder.rglob("*")
        if len(str(path)) < 4000 and path.is_file() and not path.is_symlink()
    )


def crash(_folder, _name):
    raise ZeroDivisionError


def end(_folder, _name):
    os.kill(os.getpid(), signal.SIGKILL)


def wait(_folder, _name):
    time.sleep(60)


def write(folder, _name):
    (Path(folder) / "new.txt").write_text("x")
    return {"outcomes": {}, "faults": {}}


def write_at_home(_folder, _name):
    Path("here.txt").write_text("x")
    return {"outcomes": {}, "faults": {}}


def fill(_folder, _name):
    return {"outcomes": {}, "faults": {}, "held": len(bytearray(b"x" * 80 * 2**20))}


def talk(_folder, _name):
    os.write(2, b"warning\n")
    return {"outcomes": {}, "faults": {}}


@pytest.mark.parametrize(
    ("look", "fault"),
    [
        (end, "died"),
        (wait, "hang"),
        (write, "wrote"),
        (write_at_home, "wrote"),
        (fill, "memory"),
        (talk, "printed"),
    ],
)
def test_the_run_notices_what_must_not_happen(look, fault, base, monkeypatch):
    monkeypatch.setattr(fuzz_readers, "LOOK", look)
    monkeypatch.setattr(fuzz_readers, "WAITS", 1)
    result = fuzz_readers.run(range(1), 0, base, seconds=2.0, mib=50)
    assert result["failed"] == 1
    assert list(result["failures"][0]["faults"]) == [fault]


def test_a_crash_is_told_from_a_refusal():
    outcomes, faults = fuzz_readers.Counter(), {}
    fuzz_readers._attempt(lambda: crash("", ""), outcomes, faults)
    assert faults["crash"].startswith("'ZeroDivisionError:")
    faults.clear()

    def refuse():
        raise DataError("a\x1b[2J")

    fuzz_readers._attempt(refuse, outcomes, faults)
    assert list(faults) == ["message"]
    assert outcomes == {"refused": 1}
