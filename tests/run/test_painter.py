"""Training a painter as a run: what it leaves, and that an interruption changes nothing."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polyclinic.data.dataset import Item
from polyclinic.data.phantoms import brain
from polyclinic.data.splits import split_items
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint import cases as cases_module
from polyclinic.inpaint import network
from polyclinic.inpaint.components import COMPONENTS
from polyclinic.inpaint.network import NetworkConfig
from polyclinic.inpaint.painter import load_painter, splits_beside
from polyclinic.inpaint.training import PaintPlan, Trainer
from polyclinic.models.state import load_state
from polyclinic.run import painter as module
from polyclinic.run.painter import PainterRun, train_painter
from polyclinic.run.progress import silent

pytestmark = pytest.mark.usefixtures("exact")


TINY = NetworkConfig((16, 16), (False, False), blocks=1, patch=2, crop=16, head_px=28)
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from polyclinic.inpaint import network
from polyclinic.inpaint.network import NetworkConfig
from polyclinic.inpaint.training import PaintPlan, Trainer
from polyclinic.models import state
from polyclinic.run import painter as module

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(tensors, path, metadata):
    path.write_bytes(b"half of it")
    kill()

def showing(*of):
    return kill() if (where, len(shown)) == ("preview", 1) else shown.append(1) or preview(*of)

def saving(self, path):
    if (where, self.step) == ("while saving", 4):
        state.save_file = half
    save(self, path)

where, data, out = sys.argv[1:]
save, preview, shown = Trainer.save, module.preview, []
Trainer.save, module.preview = saving, showing
torch.set_num_threads(1)
network.SIZES["small"] = TINY
module.VALIDATION_BATCHES = 1
plan = PaintPlan(steps=5, batch_size=2, warm_up=1)
module.train_painter(module.PainterRun((Path(data),), every=2, plan=plan), Path(out))
""".replace("TINY", repr(TINY))
"""A program that trains as the fixture `config` says, and kills itself after step 4 of 5."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six made-up patients."""
    path = tmp_path_factory.mktemp("brains")
    brain.write_cases(path, brain.generate(6, size=32, slices=3))
    return path


@pytest.fixture
def config(folder, monkeypatch):
    monkeypatch.setitem(network.SIZES, "small", TINY)
    monkeypatch.setattr(module, "VALIDATION_BATCHES", 1)
    return PainterRun((folder,), every=2, plan=PaintPlan(steps=5, batch_size=2, warm_up=1))


def test_what_a_run_leaves(config, tmp_path):
    told = []
    path = train_painter(config, tmp_path / "run", tell=told.append)
    run = tmp_path / "run"
    assert path == run / "painter.safetensors"
    painter = load_painter(path)
    assert painter.card["steps"] == 5
    splits = json.loads((run / "splits.json").read_text())
    assert {name: len(keys) for name, keys in splits.items()} == painter.card["patients"]
    assert len({key for keys in splits.values() for key in keys}) == 6
    assert all(splits.values())
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 5]
    assert all(record["validation_loss"] > 0 for record in records)
    assert [p.name for p in sorted((run / "previews").iterdir())] == [
        f"step-00000{step}.png" for step in (2, 4, 5)
    ]
    messages = [progress.message for progress in told if progress.message]
    assert messages[0].endswith("6 cases, laid out as brats, labels in brats order")
    assert messages[-1].startswith("step 5: loss ")


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
def test_an_interrupted_run_ends_with_the_same_weights(config, tmp_path, monkeypatch, steps):
    whole = load_state(train_painter(config, tmp_path / "whole"))
    step, calls = Trainer._step, []

    def stopping(self, batch):
        if len(calls) == steps:
            raise StoppedError
        calls.append(1)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "_step", stopping)
    with pytest.raises(StoppedError):
        train_painter(config, tmp_path / "cut")
    monkeypatch.setattr(Trainer, "_step", step)
    cut = load_state(train_painter(config, tmp_path / "cut", resume=True))
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())
    one, two = ((tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "cut"))
    kept = [
        [json.loads(line)["validation_loss"] for line in text.splitlines()] for text in (one, two)
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("where", ["preview", "while saving"])
def test_a_killed_run_goes_on_and_leaves_what_a_whole_one_leaves(config, tmp_path, where):
    whole = load_state(train_painter(config, tmp_path / "whole"))
    program = [sys.executable, "-c", KILLED, where, str(config.data[0]), str(tmp_path / "cut")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "cut" / "painter.safetensors").exists()
    cut = load_state(train_painter(config, tmp_path / "cut", resume=True))
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())
    one, two = (tmp_path / name for name in ("whole", "cut"))
    assert (one / "metrics.jsonl").read_text() == (two / "metrics.jsonl").read_text()
    for picture in (one / "previews").iterdir():
        assert picture.read_bytes() == (two / "previews" / picture.name).read_bytes()


def test_another_plan_cannot_go_on(config, tmp_path):
    train_painter(config, tmp_path / "run")
    other = replace(config, plan=replace(config.plan, steps=9))
    with pytest.raises(ConfigError, match=r"another `plan`: steps was 5, is 9"):
        train_painter(other, tmp_path / "run", resume=True)


@pytest.mark.parametrize("change", ["added", "removed", "unreadable"])
def test_a_run_that_goes_on_keeps_its_splits(config, folder, tmp_path, change):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(folder, data)
    config = replace(config, data=(data,))
    train_painter(config, run)
    before = (run / "splits.json").read_bytes()
    trained = json.loads(before)["train"][0]
    if change == "added":
        shutil.copytree(folder / trained, data / "PHANTOM_AA_0000")
        named = r"PHANTOM_AA_0000 was not there, is (train|val|test)"
    elif change == "removed":
        shutil.rmtree(data / trained)
        named = f"{trained} was train, is not there"
    else:
        next((data / trained).glob("*t1c.nii.gz")).write_bytes(b"not a volume")
        named = f"{trained} was train, is not there"
    with pytest.raises(DataError, match=rf"splits\.json: .*{named}.*; restore the data, or train"):
        train_painter(config, run, resume=True)
    assert (run / "splits.json").read_bytes() == before


def test_too_few_patients(config, tmp_path):
    brain.write_cases(tmp_path / "two", brain.generate(2, size=32, slices=3))
    with pytest.raises(DataError, match=r"two: 2 usable cases of 2 patients; expected at least 3"):
        train_painter(replace(config, data=(tmp_path / "two",)), tmp_path / "run")


@pytest.fixture
def other_patients(tmp_path) -> Path:
    """Four more, whose names differ from those of `folder`."""
    path = tmp_path / "others"
    brain.write_cases(path, brain.generate(4, size=32, slices=3))
    for case in sorted(path.iterdir()):
        for file in sorted(case.iterdir()):
            file.rename(case / file.name.replace("PHANTOM", "OTHER"))
        case.rename(path / case.name.replace("PHANTOM", "OTHER"))
    return path


def test_a_training_starts_from_a_painter(config, other_patients, tmp_path):
    first = train_painter(config, tmp_path / "first")
    later = replace(
        config,
        data=(other_patients,),
        start_from=first,
        plan=replace(config.plan, steps=1, learning_rate=1e-9),
    )
    second = train_painter(later, tmp_path / "second")
    before, after = load_state(first), load_state(second)
    assert all(torch.allclose(value, after[name], atol=1e-3) for name, value in before.items())
    assert load_painter(second).card["started_from"] == load_painter(first).digest
    assert load_painter(first).card["started_from"] is None


def test_a_training_that_started_from_a_painter_goes_on_from_its_own_checkpoint(
    config, other_patients, tmp_path, monkeypatch
):
    first = train_painter(config, tmp_path / "first")
    later = replace(config, data=(other_patients,), start_from=first)
    whole = load_state(train_painter(later, tmp_path / "whole"))
    monkeypatch.setattr(module, "save_painter", _stopped)
    with pytest.raises(StoppedError):
        train_painter(later, tmp_path / "cut")
    monkeypatch.undo()
    monkeypatch.setitem(network.SIZES, "small", load_painter(first).network.config)
    cut = load_state(train_painter(later, tmp_path / "cut", resume=True))
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def _stopped(*_: object) -> None:
    raise StoppedError


def test_who_was_trained_on_before_is_not_held_out(config, folder, tmp_path):
    first = train_painter(config, tmp_path / "first")
    other_split = replace(config, start_from=first, split_seed=1)
    with pytest.raises(DataError, match=r"trained on patients who are held out here \(PHANTOM_"):
        train_painter(other_split, tmp_path / "second")
    train_painter(replace(other_split, split_seed=0), tmp_path / "second")  # the same split


def test_another_scan_of_who_was_trained_on_before_is_not_held_out(config, tmp_path):
    """Patients count, not the names of cases."""
    weights, splits = tmp_path / "w.safetensors", {"val": [], "test": []}
    began = replace(config, start_from=weights)
    (tmp_path / "splits.json").write_text(
        json.dumps({"train": ["a/BraTS-GLI-00007-000", "X_1_painted-00003"], "val": [], "test": []})
    )
    for held_out, who in (("BraTS-GLI-00007-001", "BraTS-GLI-00007"), ("X_1", "X_1")):
        with pytest.raises(DataError, match=rf"held out here \({who}\); leave out all"):
            module._nobody_seen_before(began, splits | {"test": [held_out]}, silent)
    module._nobody_seen_before(began, splits | {"test": ["BraTS-GLI-00008-000"]}, silent)


def test_a_painter_that_does_not_say_whom_it_was_trained_on(config, tmp_path):
    told = []
    began = replace(config, start_from=tmp_path / "w.safetensors")
    module._nobody_seen_before(began, {"val": ["X_1"], "test": []}, told.append)
    assert "no splits.json beside it" in told[0].message


def test_a_painter_of_another_size_is_no_start(config, tmp_path, monkeypatch):
    first = train_painter(config, tmp_path / "first")
    wider = NetworkConfig((16, 32), (False, False), blocks=1, patch=2, crop=16, head_px=28)
    monkeypatch.setitem(network.SIZES, "small", wider)
    with pytest.raises(ConfigError, match=r"start from is not of the size small; choose another"):
        train_painter(replace(config, start_from=first), tmp_path / "second")


def test_what_start_from_names(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"--start-from .*run: no such painter; expected"):
        module.weights_of(str(tmp_path / "run"))
    weights = tmp_path / "run" / "painter.safetensors"
    weights.write_bytes(b"")
    assert module.weights_of(str(tmp_path / "run")) == weights
    assert module.weights_of(str(weights)) == weights
    assert module.weights_of("small").name == "small.safetensors"


def test_a_patient_in_two_folders(config, folder):
    with pytest.raises(DataError, match=r"case PHANTOM_AL_0001: in two of the folders"):
        module.load_cases((folder, folder), "auto", silent)


def test_a_case_that_cannot_be_read_is_named_and_left_out(config, tmp_path):
    brain.write_cases(tmp_path / "data", brain.generate(4, size=32, slices=3))
    broken = next((tmp_path / "data" / "PHANTOM_BE_0002").glob("*t1c.nii.gz"))
    broken.write_bytes(b"not a volume")
    told = []
    cases = module.load_cases((tmp_path / "data",), "auto", told.append)
    assert len(cases) == 3
    (message,) = [p.message for p in told if "left out" in p.message]
    assert message.startswith("PHANTOM_BE_0002: ")
    assert "not a readable NIfTI file" in message


def test_cases_that_are_left_out_are_not_read(config, folder, tmp_path):
    told = []
    cases = module.load_cases((folder,), "auto", told.append, leave_out=("PHANTOM_A*", "*_0003"))
    assert [case.key for case in cases] == [
        "PHANTOM_BE_0002", "PHANTOM_BE_0005", "PHANTOM_GA_0006",
    ]  # fmt: skip
    assert any(p.message == f"{folder}: 3 cases left out" for p in told)
    with pytest.raises(ConfigError, match=r"--leave-out TCGA_\*: fits none of the cases"):
        module.load_cases((folder,), "auto", silent, leave_out=("PHANTOM_A*", "TCGA_*"))


def test_made_up_heads_are_trained_on_with_no_folder_at_all(config, monkeypatch, tmp_path):
    monkeypatch.setattr(cases_module, "PHANTOM_SIDE", 32)
    monkeypatch.setattr(cases_module, "PHANTOM_SLICES", 3)
    path = train_painter(replace(config, data=(), phantoms=5), tmp_path / "run")
    card = load_painter(path).card
    assert (card["data"], card["phantoms"]) == ([], 5)
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert sum(map(len, splits.values())) == 5


@pytest.mark.parametrize(("objective", "has_mean"), [("ddpm", False), ("regression", True)])
def test_what_it_is_compared_with_is_trained_alike(config, tmp_path, objective, has_mean):
    plan = replace(config.plan, objective=objective)
    path = train_painter(replace(config, plan=plan), tmp_path / "run")
    assert load_painter(path).objective.name == objective
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert "validation_loss" in record
    assert ("validation_psnr_mean" in record) == has_mean


def timepoints(folder: Path) -> Path:
    """Four made-up patients as cases of BraTS 2023, the first three times."""
    brain.write_cases(folder, brain.generate(6, size=32, slices=3))
    names = [*(f"00000-00{n}" for n in range(3)), *(f"0000{n}-000" for n in range(1, 4))]
    for case, name in zip(sorted(folder.iterdir()), names, strict=True):
        case.rename(folder / f"BraTS-GLI-{name}")
    return folder


def test_timepoints_of_a_patient_are_in_one_split(config, tmp_path):
    data = timepoints(tmp_path / "data")
    for seed in range(5):
        cases = module.load_cases((data,), "auto", silent)
        rows = module.split_cases(cases, replace(config, split_seed=seed))
        assert all(map(len, rows.values()))
        sides = {name for name, r in rows.items() for n in r if "00000" in cases[n].patient}
        assert len(sides) == 1
    path = train_painter(replace(config, data=(data,)), tmp_path / "run")
    assert sum(load_painter(path).card["patients"].values()) == 4
    splits = splits_beside(path)
    assert splits is not None
    assert sum(map(len, splits.values())) == 6


def test_cases_are_named_beside_the_weights_and_not_in_them(config, tmp_path):
    path = train_painter(config, tmp_path / "run")
    splits = splits_beside(path)
    assert splits == json.loads((tmp_path / "run" / "splits.json").read_text())
    content = path.read_bytes()
    assert not any(key.encode() in content for keys in splits.values() for key in keys)


def test_cases_that_are_a_patient_each_are_split_as_ever(config, folder):
    """The painter of the package was trained and is judged by this split."""
    cases = module.load_cases((folder,), "auto", silent)
    rows = module.split_cases(cases, config)
    presence = np.array([[(c.components == n).any() for n in range(1, 5)] for c in cases])
    alone = split_items(
        [Item(case.key, patient=case.key) for case in cases],
        COMPONENTS[1:],
        seed=0,
        val_share=0.15,
        test_share=0.2,
        presence=presence,
    )
    assert all(np.array_equal(rows[name], alone[name]) for name in rows)


def test_three_cases_of_one_patient_are_too_few(config, tmp_path):
    data = timepoints(tmp_path / "data")
    with pytest.raises(DataError, match=r"data: 3 usable cases of 1 patients; expected at least 3"):
        module.load_cases((data,), "auto", silent, leave_out=("*-0000[123]-000",))
