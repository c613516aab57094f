"""Workers: results in order, foreseen errors as values, bugs as exceptions, and a quick end."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from polyclinic.errors import DataError, RunError
from polyclinic.federation.workers import Workers
from polyclinic.models.device import fixed_precision

TASKS = [("b", (2,)), ("a", (1,)), ("c", (3,)), ("a", (4,))]

# A process imports the work by name, and the tests are not importable: so it has its own module.
WORK = """
import os
import signal
import time
from pathlib import Path
from polyclinic.errors import DataError
from polyclinic.models.device import precision

def work(site, number):
    if number == 3:
        raise DataError(f"{site.name}: cannot be read")
    return site.name, number, int(site.images.sum()), os.getpid()

def bug(site, number):
    raise ZeroDivisionError(f"{site.name}/{number}")

def computes_in(site):
    return str(precision())

def needs_memory(site, mib):
    block = bytearray(mib << 20)
    block[::4096] = b"x" * len(block[::4096])

def is_killed(site, weights):
    if site.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return weights

def waits(site, folder):
    (Path(folder) / f"{site.name}-{os.getpid()}").touch()
    if site.name == "a":
        time.sleep(600)
"""

# A whole program, as a terminal sees it: one process works, one waits for work.
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from polyclinic.data.dataset import SiteData
from polyclinic.federation.workers import Workers
import sites_work

if __name__ == "__main__":
    none = np.zeros(0, np.int64)
    split = {"train": none, "val": none, "test": none}
    images = np.zeros((0, 1, 16, 16), np.uint8)
    site = SiteData("a", "single-label", ("x", "y"), images, none, none, (), split, "memory")
    try:
        with Workers({"a": site, "b": replace(site, name="b")}, jobs=2) as workers:
            list(workers.map(sites_work.waits, [("a", (sys.argv[1],)), ("b", (sys.argv[1],))]))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    (folder / "sites_work.py").write_text(WORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("sites_work")
        del sys.modules["sites_work"]


@pytest.fixture(scope="module")
def sites(make_site):
    return {name: make_site(name=name, n=8, seed=i) for i, name in enumerate("abc")}


@pytest.fixture(scope="module")
def two(module, sites):
    """Workers with two processes."""
    with Workers(sites, jobs=2) as workers:
        yield workers


def processes(results, sites):
    """Check the results of `TASKS`; the processes in which they were made."""
    assert [name for name, _ in results] == ["b", "a", "c", "a"]
    error = results.pop(2)[1]
    assert isinstance(error, DataError)
    assert str(error) == "c: cannot be read"
    for (name, result), number in zip(results, (2, 1, 4), strict=True):
        assert result[:3] == (name, number, int(sites[name].images.sum()))
    return {result[3] for _, result in results}


def test_one_after_the_other_in_this_process(module, sites):
    with Workers(sites) as workers:
        assert processes([*workers.map(module.work, TASKS)], sites) == {os.getpid()}
        with pytest.raises(ZeroDivisionError, match="b/2"):
            [*workers.map(module.bug, TASKS)]


def test_several_at_a_time_in_processes(module, sites, two):
    assert os.getpid() not in processes([*two.map(module.work, TASKS)], sites)
    with pytest.raises(ZeroDivisionError, match="b/2"):
        [*two.map(module.bug, TASKS)]


def test_no_more_processes_than_sites(sites):
    assert Workers(sites, jobs=8).jobs == 3
    assert Workers(sites).jobs == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_processes_compute_in_the_precision_of_their_parent(module, sites, two, dtype):
    with fixed_precision(dtype):
        found = {result for _, result in two.map(module.computes_in, [(n, ()) for n in sites])}
    assert found == {str(dtype)}


def test_the_memory_of_the_largest_process_is_known(module, two):
    two.peak_mib = 0.0
    [*two.map(module.needs_memory, [("a", (1,)), ("b", (1,))])]
    small, two.peak_mib = two.peak_mib, 0.0
    [*two.map(module.needs_memory, [("a", (1,)), ("b", (120,)), ("c", (1,))])]
    assert two.peak_mib > small + 80 > 80


def test_a_process_that_is_killed_is_no_bug_and_nothing_hangs(module, sites):
    weights = bytes(20 << 20)  # more than a pipe holds: somebody is writing when the reader dies
    text = "one of 2 worker processes was killed, probably for lack of memory; use fewer jobs"
    with Workers(sites, jobs=2) as workers, pytest.raises(RunError, match=text):
        [*workers.map(module.is_killed, [(name, (weights,)) for name in "abcabc"])]


def running(pid: int) -> bool:
    """Whether the process is there and more than a zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def program(tmp_path):
    """The program in a session of its own, so that a signal can go to all of its processes."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    (tmp_path / "sites_work.py").write_text(WORK)
    with subprocess.Popen(
        [sys.executable, str(path), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test that was started in the background has inherited that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        yield process
        with suppress(ProcessLookupError):  # all have ended, as they should
            os.killpg(process.pid, signal.SIGKILL)


def workers_of(folder: Path) -> list[int]:
    return [int(path.name[2:]) for path in folder.glob("[ab]-*")]


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["to all", "to the parent"])
def test_ctrl_c_ends_everything_at_once_and_without_a_word(program, tmp_path, send):
    until(lambda: len(workers_of(tmp_path)) == 2)
    send(program.pid, signal.SIGINT)
    assert program.communicate(timeout=30)[1] == ""
    assert program.returncode == 130
    assert not any(map(running, workers_of(tmp_path)))


def test_ctrl_c_is_the_parents_also_while_processes_are_starting(module, sites):
    before = multiprocessing.active_children()

    def started():
        return [child for child in multiprocessing.active_children() if child not in before]

    with Workers(sites, jobs=2) as workers, ThreadPoolExecutor(1) as thread:
        results = thread.submit(lambda: [*workers.map(module.work, TASKS)])
        until(lambda: len(started()) == 2)
        for child in started():
            os.kill(child.pid, signal.SIGINT)
        processes(results.result(), sites)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_end_with_a_parent_that_was_killed(program, tmp_path):
    until(lambda: len(workers_of(tmp_path)) == 2)
    os.kill(program.pid, signal.SIGKILL)
    until(lambda: not any(map(running, workers_of(tmp_path))), 30)
