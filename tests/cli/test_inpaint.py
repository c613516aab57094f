"""`polyclinic inpaint train`, `edit` and `replay`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from polyclinic.cli import main
from polyclinic.cli.inpaint import engine
from polyclinic.cli.inpaint.edit import MODES
from polyclinic.cli.inpaint.options import LABELS
from polyclinic.cli.inpaint.train import OBJECTIVES, SIZES
from polyclinic.inpaint.cases import Order
from polyclinic.inpaint.network import PainterSize
from polyclinic.inpaint.objectives import ObjectiveName
from polyclinic.inpaint.painting import Mode
from polyclinic.run.progress import Progress

REGION = ["--region", "box:1,2,3,4", "--as", "oedema"]


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What the engine was asked, in order; it answers with a made-up result."""
    monkeypatch.chdir(tmp_path)
    asked = []
    record = SimpleNamespace(
        warnings=("careful",),
        pixels={"oedema": 4},
        sequence="t2f",
        settings=SimpleNamespace(seed=7),
    )
    written = SimpleNamespace(
        image=Path("o/a.png"),
        mask=Path("o/a.mask.png"),
        sidecar=Path("o/a.json"),
        provenance=record,
    )

    def answer(name, result):
        def call(*arguments, **options):
            asked.append((name, arguments, options))
            return result

        return call

    monkeypatch.setattr(engine, "train_painter", answer("train", Path("r/painter.safetensors")))
    monkeypatch.setattr(engine, "edit_file", answer("edit", [written]))
    monkeypatch.setattr(engine, "replay_edit", answer("replay", written))
    return asked


def test_choices_are_those_of_the_library():
    assert get_args(PainterSize) == SIZES
    assert get_args(ObjectiveName) == OBJECTIVES
    assert get_args(Order) == LABELS
    assert get_args(Mode) == MODES


def test_an_edit_prints_what_and_where_and_warns_on_stderr(calls, capsys):
    options = ["--slices", "3:9", "--box", "--steps", "2", "--samples", "3", "--mode", "mean"]
    assert main(["inpaint", "edit", "a.png", *REGION, *options, "--out", "o"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "painted: 4 px oedema into t2f, seed 7",
        "image: o/a.png",
        "mask: o/a.mask.png",
        "sidecar: o/a.json",
    ]
    assert captured.err == "polyclinic: warning: careful\n"
    ((_, arguments, passed),) = calls
    assert arguments == (Path("a.png"), [("box:1,2,3,4", "oedema")], Path("o"))
    passed.pop("tell")(Progress("edit", 0.5))
    assert capsys.readouterr().err == "[ 50%] painting\n"
    assert passed == {
        "boxed": True,
        "slices": (3, 9),
        "sequence": None,
        "steps": 2,
        "guidance": 1.5,
        "seed": 0,
        "mode": "mean",
        "samples": 3,
        "painter": None,
        "force": False,
    }


def test_a_drawing_needs_no_component(calls):
    assert main(["inpaint", "edit", "a.png", "--region", "d.png", "--out", "o", "--quiet"]) == 0
    assert calls[0][1][1] == [("d.png", None)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--region", "b.png", *REGION], "--as: 1 for 2 regions; expected one for each --region"),
        ([*REGION, "--slices", "4"], "expected two whole numbers such as 40:45, got 4"),
        ([*REGION, "--json", "--quiet"], "--json and --quiet: choose one of the two"),
        ([], "Missing option '--region'"),
    ],
)
def test_wrong_options_end_in_one_line(calls, capsys, options, expected):
    assert main(["inpaint", "edit", "a.png", "--out", "o", *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert calls == []


def test_a_replay_can_print_json(calls, capsys):
    assert main(["inpaint", "replay", "a.json", "--input", "b.png", "--out", "o", "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    calls[0][2].pop("tell")(Progress("edit", 0.25))
    assert json.loads(capsys.readouterr().out)["done"] == 0.25
    assert (event["event"], event["image"], event["seed"]) == ("replay", "o/a.png", 7)
    assert calls[0][1:] == (
        (Path("a.json"), Path("o")),
        {"path": Path("b.png"), "painter": None, "force": False},
    )


def test_training_takes_folders_and_says_where_the_painter_is(calls, capsys):
    options = ["--out", "r", "--objective", "ddpm", "--labels", "msd", "--steps", "9"]
    assert main(["inpaint", "train", "a", "b", *options]) == 0
    assert capsys.readouterr().out == "painter: r/painter.safetensors\n"
    ((_, arguments, passed),) = calls
    assert arguments == ((Path("a"), Path("b")), Path("r"))
    del passed["tell"]
    assert passed == {
        "size": "small",
        "objective": "ddpm",
        "steps": 9,
        "batch_size": 16,
        "seed": 0,
        "labels": "msd",
        "sequence": None,
        "phantoms": 0,
        "leave_out": (),
        "patient_pattern": None,
        "start_from": None,
        "resume": False,
    }


def test_training_may_start_from_a_painter(calls):
    assert main(["inpaint", "train", "a", "--start-from", "small", "--out", "r"]) == 0
    assert calls[0][2]["start_from"] == "small"


def test_training_on_phantoms_alone_and_on_nothing(calls, capsys):
    assert main(["inpaint", "train", "--phantoms", "24", "--leave-out", "A_*", "--out", "r"]) == 0
    assert calls[0][1][0] == ()
    assert (calls[0][2]["phantoms"], calls[0][2]["leave_out"]) == (24, ("A_*",))
    assert main(["inpaint", "train", "--out", "r"]) == 2
    assert "nothing to train on: name a folder of brain MRI" in capsys.readouterr().err


def test_a_training_does_not_begin_in_a_used_folder(calls, capsys, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.json").touch()
    assert main(["inpaint", "train", "a", "--out", "r"]) == 5
    assert "r: exists already; add --resume to continue it" in capsys.readouterr().err
    assert main(["inpaint", "train", "a", "--out", "r", "--resume"]) == 0
    assert calls[0][2]["resume"] is True


def test_resume_finds_the_newest_training(calls, capsys, tmp_path):
    assert main(["inpaint", "train", "a", "--resume"]) == 5
    assert "no run of `painter` in this folder to resume" in capsys.readouterr().err
    for date in ("20250101-000000", "20250301-000000"):
        (tmp_path / "runs" / f"painter-{date}").mkdir(parents=True)
    assert main(["inpaint", "train", "a", "--resume"]) == 0
    assert calls[0][1][1] == Path("runs/painter-20250301-000000")


def test_an_interrupted_training_says_how_to_go_on(calls, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "train_painter", stop)
    assert main(["inpaint", "train", "a", "--out", "r", "--seed", "3"]) == 130
    error = capsys.readouterr().err
    assert "polyclinic inpaint train a --out r --resume --size small" in error
    assert "--seed 3" in error
    assert main(["inpaint", "train", "a", "--out", "q", "--patient-pattern", "(A)_"]) == 130
    assert "--patient-pattern '(A)_'" in capsys.readouterr().err
