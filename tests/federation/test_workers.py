"""Workers: results in order, foreseen errors as values, bugs as exceptions."""

import importlib
import os
import sys

import pytest

from polyclinic.errors import DataError
from polyclinic.federation.workers import Workers

TASKS = [("b", (2,)), ("a", (1,)), ("c", (3,)), ("a", (4,))]

# A process imports the work by name, and the tests are not importable: so it has its own module.
WORK = """
import os
from polyclinic.errors import DataError

def work(site, number):
    if number == 3:
        raise DataError(f"{site.name}: cannot be read")
    return site.name, number, int(site.images.sum()), os.getpid()

def bug(site, number):
    raise ZeroDivisionError(f"{site.name}/{number}")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "sites_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("sites_work")
    del sys.modules["sites_work"]


@pytest.fixture
def sites(make_site):
    return {name: make_site(name=name, n=8, seed=i) for i, name in enumerate("abc")}


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


def test_several_at_a_time_in_processes(module, sites):
    with Workers(sites, jobs=2) as workers:
        assert os.getpid() not in processes([*workers.map(module.work, TASKS)], sites)
        with pytest.raises(ZeroDivisionError, match="b/2"):
            [*workers.map(module.bug, TASKS)]


def test_no_more_processes_than_sites(sites):
    assert Workers(sites, jobs=8).jobs == 3
    assert Workers(sites).jobs == 1
