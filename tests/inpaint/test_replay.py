"""Edits again from their records: the same bits, or an error that says what differs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyclinic.errors import DataError, RunError
from polyclinic.inpaint import replay as module
from polyclinic.inpaint.edit import Ask, edit_file
from polyclinic.inpaint.network import build_network
from polyclinic.inpaint.objectives import OBJECTIVES, Levels
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.provenance import read_provenance
from polyclinic.inpaint.replay import replay

pytestmark = pytest.mark.usefixtures("exact")
FAST = Settings(steps=1)
BOX = [Ask("box:10,10,18,16", "oedema")]


@pytest.mark.parametrize("kind", ["png", "nifti", "case", "dicom"])
def test_a_replay_is_the_same_to_the_last_byte(
    painter, tmp_path, case, kind, write_png, write_nifti, write_dicom
):
    path, slices = {
        "png": lambda: (write_png(tmp_path / "a.png", 60_000, np.uint16), None),
        "nifti": lambda: (write_nifti(tmp_path / "a.nii"), (0, 2)),
        "case": lambda: (case, (0, 1)),
        "dicom": lambda: (write_dicom(tmp_path / "a.dcm"), None),
    }[kind]()
    (one,) = edit_file(painter, path, BOX, tmp_path / "one", FAST, boxed=True, slices=slices)
    heard: list[float] = []
    again = replay(one.sidecar, painter, tmp_path / "two", report=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1
    first = sorted(p for p in (tmp_path / "one").rglob("*") if p.is_file())
    second = sorted(p for p in (tmp_path / "two").rglob("*") if p.is_file())
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert again.provenance == one.provenance
    assert not Path(one.provenance.input).is_absolute()
    assert (one.sidecar.parent / one.provenance.input).resolve() == path.resolve()


def test_a_replay_does_not_write_over_its_record(painter, tmp_path, write_png):
    (one,) = edit_file(painter, write_png(tmp_path / "a.png"), BOX, tmp_path / "one", FAST)
    with pytest.raises(RunError, match=r"would overwrite .*a\.json, which it is made from; choose"):
        replay(one.sidecar, painter, tmp_path / "one", force=True)


def test_a_replay_refuses_another_input_or_painter(painter, tmp_path, tiny_config, write_png):
    path = write_png(tmp_path / "a.png")
    (one,) = edit_file(painter, path, BOX, tmp_path / "one", FAST)
    other = Painter(build_network(tiny_config, 1), OBJECTIVES["flow"], digest="ef" * 32)
    with pytest.raises(DataError, match=r"made with the painter cdcdcd.*, this is efefef"):
        replay(one.sidecar, other, tmp_path / "two")
    moved = path.rename(tmp_path / "moved.png")
    with pytest.raises(DataError, match=r"is not there; say where with --input"):
        replay(one.sidecar, painter, tmp_path / "two")
    replay(one.sidecar, painter, tmp_path / "three", path=moved)
    write_png(moved, high=201)
    with pytest.raises(DataError, match=r"moved\.png differs from what .* was made from"):
        replay(one.sidecar, painter, tmp_path / "two", path=moved)
    assert not (tmp_path / "two").exists()


def test_a_replay_that_comes_out_otherwise_says_so(painter, tmp_path, write_png):
    path = write_png(tmp_path / "a.png")
    (one,) = edit_file(painter, path, BOX, tmp_path / "one", FAST)
    record = json.loads(one.sidecar.read_text())
    record["outputs"]["unknown"], record["machine"]["torch"] = "0" * 64, "1.0"
    one.sidecar.write_text(json.dumps(record))
    with pytest.raises(
        RunError,
        match=r"a\.png: not as .*a\.json recorded it, but kept.*unknown: torch was 1\.0",
    ):
        replay(one.sidecar, painter, tmp_path / "two")
    again = read_provenance(tmp_path / "two" / "a.json")
    assert "the result differs from that of a.json: unknown: torch was 1.0" in again.warnings
    kept = np.array(Image.open(tmp_path / "two" / "a.png"))
    assert np.array_equal(kept, np.array(Image.open(one.image)))
    record["machine"]["torch"] = again.machine["torch"]
    one.sidecar.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"unknown: nothing that the record knows of the machine"):
        replay(one.sidecar, painter, tmp_path / "two", force=True)


@pytest.mark.parametrize("said", [{}, {"power": 1.5, "lowest": 0.3}])
@pytest.mark.parametrize("mode", ["sample", "mean"])
def test_a_replay_spaces_levels_as_the_edit_did(painter, tmp_path, mode, said, write_png):
    """Whatever the levels of the objective are by then."""
    path, chosen = write_png(tmp_path / "a.png"), Settings(steps=2, mode=mode, **said)
    (one,) = edit_file(painter, path, BOX, tmp_path / "one", chosen)
    stored = json.loads(one.sidecar.read_text())["settings"]
    used = Levels(stored["power"], stored["lowest"])
    assert used == (Levels(**said) if said else painter.objective.levels)
    later = dataclasses.replace(painter.objective, levels=Levels(2 * used.power, used.lowest / 2))
    again = replay(one.sidecar, dataclasses.replace(painter, objective=later), tmp_path / "two")
    assert again.provenance == one.provenance


@pytest.mark.parametrize(("objective", "power"), [("flow", 1.5), ("ddpm", 1.0)])
def test_a_record_without_levels_has_those_of_its_time(
    painter, tmp_path, objective, power, write_png
):
    one = dataclasses.replace(painter, objective=OBJECTIVES[objective])
    path, chosen = write_png(tmp_path / "a.png"), Settings(steps=2, power=power, lowest=0.0)
    (first,) = edit_file(one, path, BOX, tmp_path / "one", chosen)
    record = json.loads(first.sidecar.read_text())
    del record["settings"]["power"], record["settings"]["lowest"]
    record["settings"]["sampler"] = "ddim"
    first.sidecar.write_text(json.dumps(record))
    again = replay(first.sidecar, one, tmp_path / "two")
    assert again.provenance == first.provenance
    record["outputs"]["unknown"] = "0" * 64
    first.sidecar.write_text(json.dumps(record))
    with pytest.raises(
        RunError, match=rf"its power is not .*, {power} was .*; its lowest is not recorded, 0.0"
    ):
        replay(first.sidecar, one, tmp_path / "three")


def test_a_record_without_the_lowest_level_alone(painter, tmp_path, write_png):
    path, chosen = write_png(tmp_path / "a.png"), Settings(steps=2, power=3.0, lowest=0.0)
    (first,) = edit_file(painter, path, BOX, tmp_path / "one", chosen)
    record = json.loads(first.sidecar.read_text())
    del record["settings"]["lowest"]
    first.sidecar.write_text(json.dumps(record))
    assert replay(first.sidecar, painter, tmp_path / "two").provenance == first.provenance


def test_a_replay_has_as_many_threads_as_the_edit_had(painter, tmp_path, monkeypatch, write_nifti):
    path, used = write_nifti(tmp_path / "a.nii"), []

    def watched(*arguments, **options):
        used.append(torch.get_num_threads())
        return original(*arguments, **options)

    original = module.edit
    torch.set_num_threads(2)
    (one,) = edit_file(painter, path, BOX, tmp_path / "one", FAST, slices=(0, 1))
    torch.set_num_threads(1)
    monkeypatch.setattr(module, "edit", watched)
    again = replay(one.sidecar, painter, tmp_path / "two")
    assert used == [one.provenance.machine["threads"]] == [2]
    assert torch.get_num_threads() == 1
    assert again.provenance.outputs == one.provenance.outputs
    record = json.loads(one.sidecar.read_text())
    record["machine"]["threads"] = 0
    one.sidecar.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"a\.json: machine: threads 0; expected 1 to 1024"):
        replay(one.sidecar, painter, tmp_path / "three")
