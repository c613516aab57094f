"""`polyclinic inpaint evaluate`."""

import json
from pathlib import Path
from typing import get_args

import pytest

from polyclinic.cli import main
from polyclinic.cli.inpaint import engine
from polyclinic.cli.inpaint.evaluate import SPLITS
from polyclinic.run.painter_evaluation.inputs import HeldOut


def entry(variant, kind, measure, value, by="all", group="all"):
    return {
        "variant": variant,
        "kind": kind,
        "by": by,
        "group": group,
        "measure": measure,
        "value": value,
    }


RESULTS = {
    "variants": [{"name": "flow"}, {"name": "telea"}],
    "tables": {
        "infill": [
            entry("flow", "infill", "psnr", 21.5),
            entry("telea", "infill", "psnr", 17.25),
        ],
        "seams": [entry("flow", "infill", "ring_auc", None)],
        "features": [],
        "time": [entry("flow", "all", "seconds", 0.125)],
        "components": [
            entry("flow", "tumour", measure, value, "component", "oedema, exact")
            for measure, value in (("dice", 0.5), ("dice_real", 0.625), ("dice_ratio", 0.8))
        ],
    },
}


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What the engine was asked; it answers with made-up results."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def answer(*arguments, **options):
        asked.append((arguments, options))
        Path("results.json").write_text(json.dumps(RESULTS))
        return Path("results.json"), Path("report.html")

    monkeypatch.setattr(engine, "evaluate_painter", answer)
    return asked


def test_choices_are_those_of_the_library():
    assert set(get_args(HeldOut)) == set(SPLITS)


def test_it_prints_the_few_numbers_that_count(calls, capsys):
    assert main(["inpaint", "evaluate", "run", "--out", "o"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "tumour-free infill"
    assert lines[1].split() == ["flow", "21.500", "-", "-", "-", "0.125"]
    assert lines[2].split() == ["telea", "17.250", "-", "-", "-", "-"]
    assert lines[4].split() == ["oedema,", "exact", "flow", "0.500", "0.625", "0.800"]
    assert lines[5:] == ["results: results.json", "report: report.html"]
    (((painter, data, out), options),) = calls
    assert (painter, data, out) == (Path("run"), (), Path("o"))
    del options["tell"]
    assert options == {
        "phantoms": False,
        "split": "test",
        "labels": "auto",
        "steps": 4,
        "segmenter": None,
        "max_slices": 60,
        "samples": 4,
        "seed": 0,
        "resume": False,
    }


def test_json_and_quiet(calls, capsys):
    options = ["a", "b", "--out", "o", "--split", "val", "--segmenter", "s"]
    assert main(["inpaint", "evaluate", "w.safetensors", *options, "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["report"]) == ("evaluation", "report.html")
    assert event["summary"]["variants"]["flow"]["PSNR, dB"] == 21.5
    assert event["summary"]["components"][0]["dice_ratio"] == 0.8
    assert calls[0][0][1] == (Path("a"), Path("b"))
    assert (calls[0][1]["split"], calls[0][1]["segmenter"]) == ("val", Path("s"))
    assert main(["inpaint", "evaluate", "run", "--out", "o", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_a_used_folder_needs_resume(calls, capsys, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "config.json").touch()
    assert main(["inpaint", "evaluate", "run", "--out", "o"]) == 5
    assert "o: exists already; add --resume to continue it" in capsys.readouterr().err
    assert main(["inpaint", "evaluate", "run", "--out", "o", "--resume"]) == 0
    assert calls[0][1]["resume"] is True


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["run"], "Missing option '--out'"),
        (["run", "--out", "o", "--max-slices", "0"], "0 is not in the range x>=1"),
        (["run", "--out", "o", "--json", "--quiet"], "--json and --quiet: choose one"),
    ],
)
def test_wrong_options_end_in_one_line(calls, capsys, options, expected):
    assert main(["inpaint", "evaluate", *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert calls == []


def test_an_interrupted_evaluation_says_how_to_go_on(calls, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "evaluate_painter", stop)
    assert main(["inpaint", "evaluate", "run", "a", "--out", "o", "--segmenter", "s"]) == 130
    error = capsys.readouterr().err
    assert "polyclinic inpaint evaluate run a --out o --resume --split test" in error
    assert "--segmenter s --max-slices 60 --samples 4 --seed 0" in error
