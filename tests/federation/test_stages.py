"""Stages: what was saved comes back, and a kill anywhere leaves the stage before."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyclinic.errors import RunError
from polyclinic.federation import stages as module
from polyclinic.federation.stages import Stages, StageStore


def nothing(record):
    """A log that keeps no record."""


def shared(done, total=3):
    value = torch.full((2, 2), float(done))
    heads = {"a": {"h": value + 1}, "b": {"h": value + 2}}
    return Stages(done, total, {"": {"w": value}}, heads, {"m": value + 3})


def alone(done, total=3):
    value = torch.full((2,), float(done))
    return Stages(done, total, {"a": {"w": value}, "b": {"w": -value}}, {"a": {"h": value + 1}})


def same(a, b):
    def plain(stages):
        nested = (stages.encoders, stages.heads, {"": stages.memory})
        flat = [{k: {n: v.tolist() for n, v in s.items()} for k, s in x.items()} for x in nested]
        return stages.done, stages.total, flat

    return plain(a) == plain(b)


@pytest.mark.parametrize("make", [shared, alone])
def test_round_trip(tmp_path, make):
    records = []
    store = StageStore(tmp_path / "universal", records.append)
    assert store.latest(3) is None
    for done in (1, 2):
        store.save(make(done), {"stage": done, "sites": {}})
    found = StageStore(tmp_path / "universal", records.append).latest(3)
    assert same(found, make(2))
    assert records == [{"stage": n, "sites": {}} for n in (1, 2, 2)]
    assert not found.finished
    assert make(3).finished


def test_only_the_last_stage_is_kept(tmp_path):
    store = StageStore(tmp_path, nothing)
    for done in (1, 2, 3):
        store.save(shared(done), {})
    assert [p.name for p in tmp_path.iterdir()] == ["stage-003"]


def test_the_thousandth_stage_comes_after_the_one_before(tmp_path, monkeypatch):
    store = StageStore(tmp_path, nothing)
    store.save(shared(999, 2000), {})
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    store.save(shared(1000, 2000), {})
    assert store.latest(2000).done == 1000


class KilledError(BaseException):
    """Not an Exception: nothing may catch it and tidy up, as nothing does after a real kill."""


def counted_operations(monkeypatch, kill_at):
    """Let the file operation number `kill_at` raise; the list counts those that were begun."""
    begun = []

    def guard(owner, name):
        real = getattr(owner, name)

        def operation(*arguments, **options):
            begun.append(name)
            if len(begun) - 1 == kill_at:
                raise KilledError
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, operation)

    guard(module, "save_state")
    guard(shutil, "rmtree")
    for name in ("mkdir", "replace", "write_text"):
        guard(Path, name)
    return begun


def test_a_kill_before_any_file_operation_leaves_a_usable_stage(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        store = StageStore(tmp_path / "count", nothing)
        store.save(shared(1), {"stage": 1})
        operations = counted_operations(patch, kill_at=-1)
        store.save(shared(2), {"stage": 2})
    assert {"save_state", "rmtree", "mkdir", "replace", "write_text"} <= set(operations)
    for kill_at in range(len(operations)):
        folder = tmp_path / str(kill_at)
        StageStore(folder, nothing).save(shared(1), {"stage": 1})
        with monkeypatch.context() as patch:
            counted_operations(patch, kill_at)
            with pytest.raises(KilledError):
                StageStore(folder, nothing).save(shared(2), {"stage": 2})
        records = []
        store = StageStore(folder, records.append)
        found = store.latest(3)
        assert same(found, shared(found.done))
        assert records == [{"stage": found.done}]
        # and the run goes on from there
        store.save(shared(found.done + 1), {})
        assert same(store.latest(3), shared(found.done + 1))
        assert len([*folder.iterdir()]) == 1


def test_a_stage_cut_off_while_it_was_written_is_no_stage(tmp_path):
    store = StageStore(tmp_path, nothing)
    (tmp_path / "stage-004.part").mkdir(parents=True)
    (tmp_path / "stage-004.part" / "server.safetensors").write_bytes(b"half")
    assert store.latest(9) is None


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("operation", ["mkdir", "write_text", "replace"])
def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch, operation):
    store = StageStore(tmp_path, nothing)
    store.save(shared(1), {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, operation, full)
        with pytest.raises(RunError, match=r"the disk is full; free some space.*--resume"):
            store.save(shared(2), {})
    assert same(store.latest(3), shared(1))
    store.save(shared(2), {})
    assert same(store.latest(3), shared(2))


def test_a_disk_that_cannot_be_written_for_another_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"stage-001.part: cannot be written"):
        StageStore(tmp_path / "file", nothing).save(shared(1), {})


@pytest.mark.parametrize("name", ["server.safetensors", "site-a.safetensors"])
@pytest.mark.parametrize("damage", ["torn", "empty", "text"])
def test_a_damaged_file_names_itself_and_the_folder_to_delete(tmp_path, name, damage):
    store = StageStore(tmp_path, nothing)
    store.save(shared(1), {})
    path = tmp_path / "stage-001" / name
    whole = path.read_bytes()
    path.write_bytes({"torn": whole[:-5], "empty": b"", "text": b"not tensors at all"}[damage])
    with pytest.raises(
        RunError, match=rf"{name}: not a readable checkpoint .* delete the folder .*stage-001 and"
    ):
        store.latest(3)
    shutil.rmtree(tmp_path / "stage-001")  # as it says
    assert store.latest(3) is None


def test_a_missing_file_names_itself(tmp_path):
    store = StageStore(tmp_path, nothing)
    store.save(shared(1), {})
    (tmp_path / "stage-001" / "server.safetensors").unlink()
    with pytest.raises(RunError, match=r"server.safetensors: not a readable checkpoint"):
        store.latest(3)


@pytest.mark.parametrize("text", ["{", "", "\x00"])
def test_a_damaged_record(tmp_path, text):
    store = StageStore(tmp_path, nothing)
    store.save(shared(1), {"fine": True})
    assert json.loads((tmp_path / "stage-001" / "record.json").read_text()) == {"fine": True}
    (tmp_path / "stage-001" / "record.json").write_text(text)
    with pytest.raises(RunError, match=r"stage-001: its record cannot be read .* delete the dir"):
        store.latest(3)


def test_what_was_let_in_is_remembered(tmp_path):
    store = StageStore(tmp_path, nothing)
    store.save(replace(shared(1), seen=frozenset({"12ab", "34cd"})), {})
    assert store.latest(3).seen == {"12ab", "34cd"}
    (tmp_path / "stage-001" / "seen.json").unlink()  # as earlier versions left it
    assert store.latest(3).seen == frozenset()


def test_a_damaged_memory_of_what_was_let_in_is_named(tmp_path):
    store = StageStore(tmp_path, nothing)
    store.save(shared(1), {})
    (tmp_path / "stage-001" / "seen.json").write_text('["12')
    with pytest.raises(RunError, match=r"stage-001: its record cannot be read .*; delete the"):
        store.latest(3)


def test_a_stage_is_on_the_disk_before_anything_of_it_can_be_sent(tmp_path, monkeypatch):
    """A power cut must not bring back the stage before: noise would be drawn for it again."""
    settled = []
    monkeypatch.setattr(module, "settle", lambda path: settled.append((path.name, path.exists())))
    StageStore(tmp_path, nothing).save(shared(1), {})
    *files, folder = settled
    assert {name for name, _ in files} >= {"server.safetensors", "record.json", "seen.json"}
    assert folder == ("stage-001", True)
    assert all(there for _, there in files)
