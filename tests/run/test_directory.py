import dataclasses
import json
from pathlib import Path

import pytest

from polyclinic.config import Config, FederationConfig, load_config, quick
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.run.directory import open_run
from polyclinic.run.progress import Progress
from polyclinic.run.start import is_unused


def test_refuses_a_second_start_without_resume(config: Config, tmp_path: Path):
    open_run(tmp_path / "run", config, resume=False).close()
    with pytest.raises(RunError, match=r"already holds a run; continue it with --resume"):
        open_run(tmp_path / "run", config, resume=False)


def test_a_start_that_fails_leaves_an_unused_folder(config: Config, tmp_path: Path):
    with pytest.raises(DataError), open_run(tmp_path / "run", config, resume=False):
        raise DataError("no such site")
    assert is_unused(tmp_path / "run")
    other = dataclasses.replace(config, seeds=(7,))
    open_run(tmp_path / "run", other, resume=False).close()
    # one that was interrupted, or had computed something, is there to be resumed
    with pytest.raises(DataError), open_run(tmp_path / "run", other, resume=True):
        raise DataError("no such site")
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "cut", config, resume=False):
        raise KeyboardInterrupt
    directory = open_run(tmp_path / "half", config, resume=False)
    directory.record({"unit": "a", "kind": "stage"})
    with pytest.raises(DataError), directory:
        raise DataError("the disk is full")
    for name in ("run", "cut", "half"):
        assert (tmp_path / name / "config.json").exists(), name


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


def test_resuming_a_quick_run_mentions_the_option(config: Config, tmp_path: Path):
    open_run(tmp_path / "fast", quick(config), resume=False).close()
    with pytest.raises(ConfigError, match=r"fast: the run .* started with --quick; add it"):
        open_run(tmp_path / "fast", config, resume=True)
    open_run(tmp_path / "slow", config, resume=False).close()
    with pytest.raises(ConfigError, match=r"slow: .* started without --quick; leave it out"):
        open_run(tmp_path / "slow", quick(config), resume=True)


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


def test_what_is_told_is_kept_in_the_log(config: Config, tmp_path: Path):
    heard: list[Progress] = []
    told = [Progress("paint", 0.5), Progress("paint", 0.6, message="a word")]
    with open_run(tmp_path / "run", config, resume=False) as directory:
        for tell in (
            directory.telling(heard.append),
            directory.telling(heard.append, lambda progress: f"at {progress.done}"),
        ):
            for progress in told:
                tell(progress)
    assert heard == told * 2
    lines = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["a word", "at 0.5", "at 0.6"]


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


def test_a_run_from_before_a_table_of_settings_existed_is_resumed_with_its_defaults(
    config: Config, tmp_path: Path
):
    open_run(tmp_path / "run", config, resume=False).close()
    stored = tmp_path / "run" / "config.json"
    older = json.loads(stored.read_text())
    del older["federation"]
    stored.write_text(json.dumps(older))
    other = dataclasses.replace(config, federation=FederationConfig(wire="int8"))
    with pytest.raises(ConfigError, match="another `federation`: wire was 'float32', is 'int8'"):
        open_run(tmp_path / "run", other, resume=True)
    open_run(tmp_path / "run", config, resume=True).close()
