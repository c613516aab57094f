"""The cache of prepared images stays within its limit; what was used last stays."""

import os

import numpy as np
import pytest

from polyclinic.data import cache as disk
from polyclinic.errors import ConfigError


@pytest.fixture
def entries(tmp_path):
    """Four entries of 1 MiB, used one after another, and what is none of the cache's."""
    for number in range(4):
        folder = tmp_path / f"{number:032x}"
        folder.mkdir()
        (folder / disk.IMAGES).write_bytes(bytes(2**20))
        os.utime(folder, (1000 + number, 1000 + number))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(bytes(2**20))
    return tmp_path


def left(folder):
    return {path.name.lstrip("0") or "0" for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("mebibytes", "expected"),
    [(4, {"0", "1", "2", "3"}), (3.5, {"0", "2", "3"}), (2, {"0", "3"}), (0, {"0"})],
)
def test_what_was_used_longest_ago_goes_first(entries, monkeypatch, mebibytes, expected):
    monkeypatch.setenv("POLYCLINIC_CACHE_LIMIT", str(mebibytes / 1024))
    disk.trim(entries, keep=entries / f"{0:032x}")  # the oldest, but being used
    assert left(entries) == {*expected, "mine"}


def test_without_being_told_there_is_room_for_20_gib(monkeypatch):
    monkeypatch.delenv("POLYCLINIC_CACHE_LIMIT", raising=False)
    assert disk.limit() == 20 * 2**30


@pytest.mark.parametrize("given", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_none(given, monkeypatch):
    monkeypatch.setenv("POLYCLINIC_CACHE_LIMIT", given)
    message = rf"^POLYCLINIC_CACHE_LIMIT: expected a number of GiB, 0 or more, got '{given}'$"
    with pytest.raises(ConfigError, match=message):
        disk.limit()


def test_half_written_entries_go_after_a_day_and_links_are_not_followed(entries):
    other = entries / "mine"
    (entries / f"{9:032x}").symlink_to(other)
    for name, used in ((".1", 0), (".2", 2**33)):
        folder = entries / f".{7:032x}{name}"
        folder.mkdir()
        os.utime(folder, (used, used))
    disk.trim(entries, keep=entries / f"{3:032x}")
    assert not (entries / f".{7:032x}.1").exists()
    assert (entries / f".{7:032x}.2").exists()
    assert (other / "photo.png").exists()


def test_being_read_is_being_used(tmp_path):
    folder = tmp_path / "entry"
    images = np.zeros((1, 1, 4, 4), np.uint8)
    prepared = disk.Prepared(images, None, np.zeros(1, np.int64), np.zeros(1, bool), ())
    with disk.filling(folder) as partial:
        disk.write_array(partial / disk.IMAGES, images.shape, images)
        disk.write_facts(prepared, partial)
    os.utime(folder, (1000, 1000))
    assert disk.load(folder) is not None
    assert folder.stat().st_mtime > 10**9
