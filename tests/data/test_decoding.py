"""The same images from threads and from processes, whatever becomes of these."""

import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from polyclinic.data import decoding
from polyclinic.data.decoding import Plan, decode_all, unheard
from polyclinic.data.readers import scan_corpus, scan_site
from polyclinic.errors import DataError


@pytest.fixture
def site(tmp_path):
    """40 images with masks, one of which cannot be read."""
    rng = np.random.default_rng(0)
    for parent in ("images", "masks"):
        (tmp_path / parent).mkdir()
    for number in range(40):
        pixels = rng.integers(0, 256, (20, 12 + number), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02}.png")
        mask = (pixels > 99).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number:02}.png")
    (tmp_path / "images" / "07.png").write_bytes(b"no")
    return tmp_path


def listed(array):
    return None if array is None else array.tolist()


def decoded(scan, plan=None, workers=2):
    found = decode_all(scan, plan or Plan(32, segmentation=True), workers, unheard)
    return [
        (one.side, one.blank, one.reason, *map(listed, (one.image, one.labels))) for one in found
    ]


def pids(scan):
    """The processes that decode."""
    return {one.reason for one in decode_all(scan, Plan(8), 2, unheard)}


def tell_process(folder, item):
    raise DataError(f"{item.key}: {os.getpid()}")


def test_processes_give_what_threads_give_in_the_same_order(site, monkeypatch):
    scan = scan_site(site)
    threads = decoded(scan)
    assert [row for row, one in enumerate(threads) if one[2]] == [7]
    monkeypatch.setattr(decoding, "PROCESSES_FROM", 1)
    monkeypatch.setattr(decoding, "_CHUNK", 7)
    assert decoded(scan) == threads
    assert str(os.getpid()) not in pids(replace(scan, load=partial(tell_process, site)))


def test_the_share_that_is_done_is_told(site, monkeypatch):
    monkeypatch.setattr(decoding, "_CHUNK", 10)
    shares = []
    assert len(list(decode_all(scan_site(site), Plan(8), 1, shares.append))) == 40
    assert shares == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("make", [scan_site, scan_corpus])
def test_readers_of_single_files_can_be_sent_to_processes(site, make):
    assert decoding._portable(make(site).load) is not None


def test_a_reader_that_holds_a_lock_is_left_to_threads(tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 2)
    scan = scan_site(tmp_path)
    assert decoding._portable(scan.load) is None
    monkeypatch.setattr(decoding, "PROCESSES_FROM", 1)
    assert len(decoded(scan, Plan(8))) == 20


class Pool:
    """Processes that end after so many chunks."""

    chunks = 0

    def __init__(self, *_):
        self.left = self.chunks

    def submit(self, *_):
        self.left -= 1
        if self.left < 0:
            raise BrokenProcessPool
        return self

    def result(self):
        return [decoding.Decoded(reason="x")] * 7  # or, to whether it started, yes

    def shutdown(self, **_):
        pass


def test_processes_that_cannot_start_leave_the_work_to_threads(site, monkeypatch):
    scan = scan_site(site)
    expected = decoded(scan)
    monkeypatch.setattr(decoding, "PROCESSES_FROM", 1)
    monkeypatch.setattr(decoding, "ProcessPoolExecutor", Pool)
    assert decoded(scan) == expected


def test_a_process_that_is_killed_is_one_line(site, monkeypatch):
    monkeypatch.setattr(decoding, "PROCESSES_FROM", 1)
    monkeypatch.setattr(decoding, "_CHUNK", 1)
    monkeypatch.setattr(Pool, "chunks", 3)
    monkeypatch.setattr(decoding, "ProcessPoolExecutor", Pool)
    message = r"one of 2 processes that decode images was killed, probably for lack of memory; free"
    with pytest.raises(DataError, match=message):
        decoded(scan_site(site))


def test_a_script_without_a_guard_runs_once(site, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from polyclinic.data import decoding\n"
        "from polyclinic.data.readers import scan_corpus\n"
        "print('begun')\n"
        "decoding.PROCESSES_FROM = 1\n"
        "scan = scan_corpus(Path(sys.argv[1]))\n"
        "plan = decoding.Plan(8)\n"
        "print(len(list(decoding.decode_all(scan, plan, 2, decoding.unheard))))\n"
        "print(__file__ is not None, __spec__)\n"
    )
    done = subprocess.run(
        [sys.executable, script, site], capture_output=True, text=True, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["begun", "80", "True", "None"], "")
