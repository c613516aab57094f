import dataclasses
import json
from pathlib import Path

import pytest

from polyclinic.config import Config, load_config
from polyclinic.errors import ConfigError, RunError
from polyclinic.run.directory import open_run


def test_refuses_a_second_start_without_resume(config: Config, tmp_path: Path):
    open_run(tmp_path / "run", config, resume=False).close()
    with pytest.raises(RunError, match=r"already holds a run; continue it with --resume"):
        open_run(tmp_path / "run", config, resume=False)


def test_refuses_a_folder_of_something_else(config: Config, tmp_path: Path):
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(RunError, match="not empty and not a run"):
        open_run(tmp_path, config, resume=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_nothing_to_resume(config: Config, tmp_path: Path):
    with pytest.raises(RunError, match="no run to resume"):
        open_run(tmp_path / "new", config, resume=True)
    assert not (tmp_path / "new").exists()


def test_resuming_with_another_configuration_names_the_difference(config: Config, tmp_path: Path):
    open_run(tmp_path / "run", config, resume=False).close()
    other = dataclasses.replace(config, local=dataclasses.replace(config.local, stages=9))
    with pytest.raises(ConfigError, match="another `local`: stages was 2, is 9; start a new run"):
        open_run(tmp_path / "run", other, resume=True)


def test_resuming_may_change_jobs_methods_and_seeds(config: Config, tmp_path: Path):
    open_run(tmp_path / "run", config, resume=False).close()
    other = dataclasses.replace(config, jobs=2, seeds=(0, 1), methods=("mim",))
    open_run(tmp_path / "run", other, resume=True).close()
    assert load_config(tmp_path / "run" / "config.json") == other


def test_two_processes_cannot_share_a_run(config: Config, tmp_path: Path):
    with (
        open_run(tmp_path / "run", config, resume=False),
        pytest.raises(RunError, match="another process works on this run"),
    ):
        open_run(tmp_path / "run", config, resume=True)


def test_records_survive_a_torn_line(config: Config, tmp_path: Path):
    with open_run(tmp_path / "run", config, resume=False) as directory:
        directory.record({"unit": "a", "kind": "stage"})
        directory.record({"unit": "a", "kind": "again"})
        directory.record({"unit": "b", "kind": "stage"})
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-3])
    with open_run(tmp_path / "run", config, resume=True) as directory:
        assert directory.records == {"a": {"unit": "a", "kind": "stage"}}
        directory.record({"unit": "b", "kind": "stage"})
    assert [json.loads(line)["unit"] for line in metrics.read_text().splitlines()] == ["a", "b"]


def test_a_full_disk_is_said_plainly(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with open_run(tmp_path / "run", config, resume=False) as directory:
        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(RunError, match=r"x\.json: the disk is full"):
            directory.write_json("x.json", {})
    assert not (tmp_path / "run" / "x.json.part").exists()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("left", [(), (".lock",), (".lock", "config.json.part")], ids=str)
def test_a_start_that_was_killed_early_can_be_repeated(
    config: Config, tmp_path: Path, left: tuple[str, ...], resume: bool
):
    for name in left:
        (tmp_path / name).write_text('{"name": "ti')
    with open_run(tmp_path, config, resume=resume) as directory:
        assert directory.records == {}
    assert load_config(tmp_path / "config.json") == config


@pytest.mark.parametrize("resume", [False, True])
def test_a_start_that_found_the_disk_full_can_be_repeated(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
):
    write = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        write(path, text[:5], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match=r"config\.json: the disk is full; .* --resume"):
        open_run(tmp_path / "run", config, resume=False)
    monkeypatch.setattr(Path, "write_text", write)
    assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]
    open_run(tmp_path / "run", config, resume=resume).close()
    assert load_config(tmp_path / "run" / "config.json") == config


@pytest.mark.parametrize(
    ("content", "text"), [("", "cannot be read"), ("[]", r"expected a JSON object, got \[\]")]
)
def test_a_damaged_configuration_is_named(config: Config, tmp_path: Path, content: str, text: str):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=rf"config\.json: {text}.*; restore it, or start a new run"):
        open_run(tmp_path, config, resume=True)
