import dataclasses
import json
from pathlib import Path

import pytest

from polyclinic.config import Config
from polyclinic.errors import ConfigError, RunError
from polyclinic.run.directory import RunDirectory, peak_memory, read_config


def test_refuses_a_second_start_without_resume(config: Config, tmp_path: Path):
    RunDirectory(tmp_path / "run", config, resume=False).close()
    with pytest.raises(RunError, match=r"already holds a run; continue it with --resume"):
        RunDirectory(tmp_path / "run", config, resume=False)


def test_refuses_a_folder_of_something_else(config: Config, tmp_path: Path):
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(RunError, match="not empty and not a run"):
        RunDirectory(tmp_path, config, resume=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_nothing_to_resume(config: Config, tmp_path: Path):
    with pytest.raises(RunError, match="no run to resume"):
        RunDirectory(tmp_path / "new", config, resume=True)


def test_resuming_with_another_configuration_names_the_difference(config: Config, tmp_path: Path):
    RunDirectory(tmp_path / "run", config, resume=False).close()
    other = dataclasses.replace(config, local=dataclasses.replace(config.local, stages=9))
    with pytest.raises(ConfigError, match="another `local`: stages was 2, is 9; start a new run"):
        RunDirectory(tmp_path / "run", other, resume=True)


def test_resuming_may_change_jobs_methods_and_seeds(config: Config, tmp_path: Path):
    RunDirectory(tmp_path / "run", config, resume=False).close()
    other = dataclasses.replace(config, jobs=2, seeds=(0, 1), methods=("mim",))
    RunDirectory(tmp_path / "run", other, resume=True).close()
    assert read_config(tmp_path / "run") == other


def test_two_processes_cannot_share_a_run(config: Config, tmp_path: Path):
    with (
        RunDirectory(tmp_path / "run", config, resume=False),
        pytest.raises(RunError, match="another process works on this run"),
    ):
        RunDirectory(tmp_path / "run", config, resume=True)


def test_records_survive_a_torn_line(config: Config, tmp_path: Path):
    with RunDirectory(tmp_path / "run", config, resume=False) as directory:
        directory.record({"unit": "a", "kind": "stage"})
        directory.record({"unit": "a", "kind": "again"})
        directory.record({"unit": "b", "kind": "stage"})
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-3])
    with RunDirectory(tmp_path / "run", config, resume=True) as directory:
        assert directory.records == {"a": {"unit": "a", "kind": "stage"}}
        directory.record({"unit": "b", "kind": "stage"})
    assert [json.loads(line)["unit"] for line in metrics.read_text().splitlines()] == ["a", "b"]


def test_a_full_disk_is_said_plainly(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with RunDirectory(tmp_path / "run", config, resume=False) as directory:
        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(RunError, match=r"x\.json: the disk is full"):
            directory.write_json("x.json", {})


def test_not_a_run(tmp_path: Path):
    with pytest.raises(RunError, match="not a run directory"):
        read_config(tmp_path)


def test_peak_memory_sees_an_allocation():
    with peak_memory() as small:
        pass
    with peak_memory() as large:
        block = bytearray(80 << 20)
        block[::4096] = b"x" * len(block[::4096])
    assert large[0] > small[0] + 60
