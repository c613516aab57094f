import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

from polyclinic.config import Config, config_to_toml
from polyclinic.errors import DataError, RunError
from polyclinic.models.encoder import build_encoder
from polyclinic.report import results_schema
from polyclinic.run import training
from polyclinic.run.directory import RunDirectory
from polyclinic.run.experiment import run_experiment
from polyclinic.run.progress import Progress
from polyclinic.seeding import derive

UNREPEATABLE = ("created", "timing", "environment")


def without_time(results: Path) -> dict:
    content = json.loads(results.read_text())
    return {key: value for key, value in content.items() if key not in UNREPEATABLE}


def encoders(run: Path) -> dict[str, bytes]:
    found = sorted(run.glob("seed-*/*/encoders/*.safetensors"))
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def test_a_run_leaves_everything_that_the_docs_promise(config: Config, tmp_path: Path):
    told: list[Progress] = []
    results = run_experiment(config, tmp_path / "run", tell=told.append)
    run = tmp_path / "run"
    content = json.loads(results.read_text())
    jsonschema.validate(content, results_schema())
    assert content["finished"]
    cells = {(s["method"], s["site"], s["protocol"]) for s in content["scores"] if s["primary"]}
    assert len(cells) == 3 * 3 * 2
    assert {g["over"] for g in content["gains"]} == {"local", "mim"}
    assert [g["value"] for g in content["gains"][:3]] == sorted(
        g["value"] for g in content["gains"][:3]
    )
    for name in ("config.json", "environment.json", "metrics.jsonl", "log.txt"):
        assert (run / name).exists(), name
    assert {e["site"] for e in content["examples"]} == {"north", "south", "west"}
    encoder = load_file(run / "seed-0/mim/encoders/encoder.safetensors")
    assert encoder["stem.weight"].shape == (16, 3, 4, 4)
    assert told[-1].done == pytest.approx(1.0)
    assert all(a.done <= b.done for a, b in itertools.pairwise(told))
    passed = [p for p in told if p.bytes_up is not None]
    sent = [c for c in content["communication"] if c["method"] == "universal"]
    assert {p.method for p in passed} == {"universal"}  # the others send nothing
    assert sum(p.bytes_up for p in passed) == sum(c["bytes_up"] for c in sent)
    assert sum(p.bytes_down for p in passed) == sum(c["bytes_down"] for c in sent)
    assert re.fullmatch(r"universal, seed 0, stage 1: [\d.]+ MB up, .* MB down", passed[0].message)
    assert passed[0].message in (run / "log.txt").read_text()


def test_alone_nothing_travels_together_the_encoder_does(config: Config, whole_run: Path):
    content = json.loads((whole_run / "results.json").read_text())
    sent = {(c["method"], c["site"]): c["bytes_up"] for c in content["communication"]}
    assert sent["local", "north"] == 0
    parameters = content["encoder"]["parameters"]
    stages = config.local.stages
    assert stages * 4 * parameters < sent["universal", "north"] < stages * 4.1 * parameters


def test_a_method_may_have_a_start_of_its_own(config: Config, tmp_path: Path):
    methods = ("mim", "contrastive", "local", "scratch")
    config = dataclasses.replace(config, methods=methods)
    results = json.loads(run_experiment(config, tmp_path / "run").read_text())
    first, *others = (load_file(p) for p in sorted((tmp_path / "run").glob("seed-0/*/start.*")))
    assert len(others) == 1  # contrastive and mim
    assert not torch.equal(first["stem.weight"], others[0]["stem.weight"])
    random = build_encoder(config.preset, derive(0, "scratch")).state_dict()["stem.weight"]
    alone, scratch = (
        load_file(tmp_path / f"run/seed-0/{method}/encoders/north.safetensors")["stem.weight"]
        for method in ("local", "scratch")
    )
    assert (scratch - random).norm() < (alone - random).norm()
    trained = {t["method"]: t["train_seconds"] for t in results["timing"]}
    assert all(trained[method] > 0 for method in methods)
    again = run_experiment(config, tmp_path / "run", resume=True)
    assert json.loads(again.read_text())["scores"] == results["scores"]


def test_a_baseline_may_be_trained_for_longer_than_the_start(config: Config, tmp_path: Path):
    mim = dataclasses.replace(config.mim, epochs=1, baseline_epochs=2)
    config = dataclasses.replace(config, methods=("mim", "contrastive", "local"), mim=mim)
    run_experiment(config, tmp_path / "run")
    longer = dataclasses.replace(config, mim=dataclasses.replace(mim, epochs=2))
    run_experiment(longer, tmp_path / "long")
    own, start, long = (
        load_file(path)["stem.weight"]
        for path in (
            tmp_path / "run/seed-0/mim/encoders/encoder.safetensors",
            tmp_path / "run/seed-0/mim/start.safetensors",
            tmp_path / "long/seed-0/mim/start.safetensors",
        )
    )
    assert torch.equal(own, long)
    assert not torch.equal(own, start)
    journal = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    units = [json.loads(line)["unit"] for line in journal]
    assert sum("/contrastive/baseline-epoch-" in unit for unit in units) == 2
    assert sum("/mim/epoch-" in unit for unit in units) == 1


@pytest.mark.parametrize("after", [1, 4, 9, 20])
def test_interrupted_anywhere_and_resumed_ends_with_the_same_bits(
    config: Config, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
):
    record, calls = RunDirectory.record, []

    def interrupted(self, entry):
        calls.append(entry)
        if len(calls) > after:
            raise KeyboardInterrupt
        record(self, entry)

    monkeypatch.setattr(RunDirectory, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, tmp_path / "cut")
    monkeypatch.setattr(RunDirectory, "record", record)
    told: list[Progress] = []
    resumed = run_experiment(config, tmp_path / "cut", resume=True, tell=told.append)
    assert without_time(resumed) == without_time(whole_run / "results.json")
    assert encoders(tmp_path / "cut") == encoders(whole_run)
    assert told[-1].done == pytest.approx(1.0)  # what the first run did counts as well


def test_killed_and_resumed_ends_with_the_same_bits(
    config: Config, whole_run: Path, tmp_path: Path
):
    file = tmp_path / "federation.toml"
    file.write_text(config_to_toml(config))
    command = [sys.executable, "-m", "polyclinic", "run", str(file), "--out", str(tmp_path / "cut")]
    process = subprocess.Popen([*command, "--quiet"], stderr=subprocess.PIPE)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 4):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "cut" / "results.json").exists()
    with metrics.open("a") as file:
        file.write('{"unit": "seed-0/torn')  # a line that the kill cut short
    resumed = run_experiment(config, tmp_path / "cut", resume=True)
    assert without_time(resumed) == without_time(whole_run / "results.json")
    assert encoders(tmp_path / "cut") == encoders(whole_run)


def test_a_finished_run_resumes_to_the_same_results_without_training(
    config: Config, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(whole_run, tmp_path / "run")
    first = without_time(whole_run / "results.json")
    monkeypatch.setattr(training, "pretrain", None)
    monkeypatch.setattr(training, "METHODS", {})
    assert without_time(run_experiment(config, tmp_path / "run", resume=True)) == first


def test_a_resumed_run_may_add_methods(config: Config, tmp_path: Path):
    fewer = dataclasses.replace(config, methods=("mim",))
    run_experiment(fewer, tmp_path / "run")
    more = run_experiment(config, tmp_path / "run", resume=True)
    assert {s["method"] for s in json.loads(more.read_text())["scores"]} == set(config.methods)


def test_a_full_disk_stops_the_run_and_loses_nothing(
    config: Config, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from polyclinic.models import state

    save, saved = state.save_file, []

    def full(tensors, path, metadata):
        saved.append(path)
        if len(saved) > 6:
            raise OSError(28, "No space left on device", str(path))
        save(tensors, path, metadata)

    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(RunError, match=r"disk is full; free some space, then .*--resume"):
        run_experiment(config, tmp_path / "cut")
    monkeypatch.setattr(state, "save_file", save)
    resumed = run_experiment(config, tmp_path / "cut", resume=True)
    assert without_time(resumed) == without_time(whole_run / "results.json")


def test_errors_name_the_site(config: Config, tmp_path: Path):
    gone = dataclasses.replace(config.sites[1], path=tmp_path / "nowhere")
    broken = dataclasses.replace(config, sites=(config.sites[0], gone))
    with pytest.raises(DataError, match=r"site 'south': .*nowhere"):
        run_experiment(broken, tmp_path / "run")
