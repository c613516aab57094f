"""States on disk: whole or absent, and every fault in words."""

import errno
import os
from pathlib import Path

import pytest
import torch

from polyclinic.errors import RunError
from polyclinic.models import state as module
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import disk_error, load_into, load_state, save_state, state_of

STATE = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "encoder.safetensors"
    save_state(STATE, path)
    found = load_state(path)
    assert set(found) == set(STATE)
    assert all(torch.equal(found[k], v) for k, v in STATE.items())
    assert [p.name for p in path.parent.iterdir()] == ["encoder.safetensors"]


def test_the_umask_decides_who_may_read_what_is_passed_on(tmp_path):
    before = os.umask(0o027)
    try:
        save_state(STATE, tmp_path / "others", {"a": "b"}, for_others=True)
        save_state(STATE, tmp_path / "own", {"a": "b"})
    finally:
        os.umask(before)
    assert (tmp_path / "others").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "others").read_bytes() == (tmp_path / "own").read_bytes()


def test_a_state_is_a_copy():
    encoder = build_encoder("small", 0)
    state = state_of(encoder)
    with torch.no_grad():
        encoder.stem.weight.zero_()
    assert state["stem.weight"].any()
    assert all(v.is_contiguous() for v in state.values())
    load_into(encoder, state)
    assert torch.equal(encoder.stem.weight, state["stem.weight"])
    with pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        load_into(encoder, {k: v for k, v in state.items() if k != "stem.weight"})


@pytest.mark.parametrize("where", ["save_file", "replace"])
def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch, where):
    path = tmp_path / "encoder.safetensors"
    save_state(STATE, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module if where == "save_file" else Path, where, full)
    with pytest.raises(RunError, match=r"encoder.safetensors: the disk is full; free some space"):
        save_state({"w": torch.zeros(1)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["encoder.safetensors"]


@pytest.mark.parametrize("content", [b"", b"1234", b"x" * 200, None])
def test_a_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "encoder.safetensors"
    if content is not None:
        path.write_bytes(content)
    text = r"encoder.safetensors: not a readable checkpoint \(.*\); expected a safetensors file"
    with pytest.raises(RunError, match=text):
        load_state(path)
    with pytest.raises(RunError, match=f"delete the folder {tmp_path} and resume"):
        load_state(path, part_of=tmp_path)


def test_a_torn_file_cannot_be_read(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_state(STATE, path)
    whole = path.read_bytes()
    for length in (0, 7, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match="not a readable checkpoint"):
            load_state(path)


def test_what_is_said_about_the_disk():
    path = Path("run/x")
    for error in (OSError(errno.ENOSPC, "x"), ValueError("I/O error: No space left on device")):
        assert "run/x: the disk is full" in str(disk_error(error, path))
    said = str(disk_error(PermissionError(errno.EACCES, "Permission denied"), path))
    assert said.startswith("run/x: cannot be written (")
    assert "full" not in said
