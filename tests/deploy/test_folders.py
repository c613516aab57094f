"""What a folder holds is written whole or not at all, and a full disk is said."""

import errno
import os

import pytest

from polyclinic.deploy import folders
from polyclinic.deploy.folders import read_record, write_record, write_status
from polyclinic.errors import RunError


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch):
    """A disk without space, from when it is called."""

    def opened(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(folders.os, "open", opened)


def test_a_record_that_cannot_be_written_is_one_line_and_the_old_one_stays(tmp_path, full):
    path = tmp_path / "site.json"
    write_record(path, {"name": "north"})
    assert path.stat().st_mode & 0o777 == 0o600
    full()
    with pytest.raises(RunError, match=r"site\.json: cannot be written .* free some space"):
        write_record(path, {"name": "south"})
    assert read_record(path) == {"name": "north"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_status_that_cannot_be_written_stops_nobody(tmp_path, full):
    path = tmp_path / "status.json"
    write_status(path, {"doing": "one"})
    before = read_record(path)
    assert before["doing"] == "one"
    assert before["time"] > 0
    full()
    write_status(path, {"doing": "two"})
    assert read_record(path) == before
