"""One precision for the whole of a run, whatever the clock and the environment say later."""

import json
from pathlib import Path

import pytest
import torch

from polyclinic.config import Config
from polyclinic.errors import ConfigError, RunError
from polyclinic.models import device
from polyclinic.run import experiment
from polyclinic.run.directory import RunDirectory, open_run
from polyclinic.run.environment import settle
from polyclinic.run.experiment import run_experiment
from polyclinic.run.progress import Progress, silent


@pytest.fixture
def directory(exact, config: Config, tmp_path: Path):
    with open_run(tmp_path / "run", config, resume=False) as opened:
        yield opened


def recorded(directory: RunDirectory) -> dict:
    return json.loads((directory.path / "environment.json").read_text())


def test_the_precision_of_the_start_is_kept(directory, monkeypatch):
    monkeypatch.delenv("POLYCLINIC_PRECISION")
    monkeypatch.setattr(device, "_fastest", lambda _: torch.bfloat16)
    assert settle(directory, silent) == torch.bfloat16
    monkeypatch.setattr(device, "_fastest", lambda _: torch.float32)
    assert settle(directory, silent) == torch.bfloat16
    assert recorded(directory)["precision"] == "bfloat16"


def test_another_precision_is_refused(directory, monkeypatch):
    assert settle(directory, silent) == torch.float32
    monkeypatch.setenv("POLYCLINIC_PRECISION", "bfloat16")
    with pytest.raises(
        ConfigError,
        match=r"POLYCLINIC_PRECISION: expected float32, in which .*run was started, got bfloat16",
    ):
        settle(directory, silent)


def test_what_has_changed_is_told_and_the_record_stays(directory, monkeypatch):
    told: list[Progress] = []
    settle(directory, told.append)
    settle(directory, told.append)
    assert told == []
    first = recorded(directory)
    directory.write_json("environment.json", {**first, "threads": 64, "python": "3.0"})
    settle(directory, told.append)
    assert [p.message for p in told] == [
        "since the run was started: threads was 64, is 1; the last bits may differ"
    ]
    assert recorded(directory) == {**first, "threads": 64, "python": "3.0"}


@pytest.mark.parametrize("content", [{}, {"precision": "float7"}, {"precision": ["float32"]}])
def test_a_record_without_a_precision_is_named(directory, content):
    directory.write_json("environment.json", content)
    with pytest.raises(RunError, match=r"environment\.json: precision: expected one of float32"):
        settle(directory, silent)


def test_a_resumed_run_measures_nothing_and_says_the_same_in_its_results(
    exact, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    prepare = experiment.prepare
    monkeypatch.delenv("POLYCLINIC_PRECISION")
    monkeypatch.setattr(device, "_fastest", lambda _: torch.float32)
    monkeypatch.setattr(experiment, "prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, tmp_path / "run")
    monkeypatch.setattr(experiment, "prepare", prepare)
    monkeypatch.setattr(device, "_fastest", None)
    results = run_experiment(config, tmp_path / "run", resume=True)
    assert json.loads(results.read_text())["environment"]["precision"] == "float32"


def test_nonsense_in_the_environment_leaves_no_run_behind(
    exact, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLYCLINIC_PRECISION", "float7")
    with pytest.raises(ConfigError, match="POLYCLINIC_PRECISION"):
        run_experiment(config, tmp_path / "run")
    monkeypatch.setenv("POLYCLINIC_DEVICE", "cuda:4096")
    with pytest.raises(ConfigError, match="POLYCLINIC_DEVICE"):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
