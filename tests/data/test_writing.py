"""A file is written whole or not at all, whatever happens meanwhile."""

import errno
from pathlib import Path

import pytest

from polyclinic.data.writing import writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with writing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error, old):
    path = tmp_path / "a.json"
    if old is not None:
        path.write_text(old)

    def fails():
        with writing(path) as part:
            part.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        fails()
    assert names(tmp_path) == ([] if old is None else ["a.json"])
    assert old is None or path.read_text() == old


def test_a_name_that_cannot_be_given_leaves_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.json"

    def refused(self, target):
        raise PermissionError(errno.EACCES, "Permission denied", str(target))

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(PermissionError, match=r"Permission denied"), writing(path) as part:
        part.write_text("new")
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_what_the_error_tells(tmp_path):
    path = tmp_path / "no" / "a.json"
    with pytest.raises(FileNotFoundError), writing(path) as part:
        part.write_text("new")
