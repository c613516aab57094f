"""`polyclinic inpaint augment`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from polyclinic.cli import main
from polyclinic.cli.inpaint import engine
from polyclinic.cli.inpaint.augment import BALANCES
from polyclinic.inpaint.augment import Balance

ASK = ["inpaint", "augment", "data", "--out", "r", "--add", "3"]


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What the engine was asked; it answers with a made-up result."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def call(*arguments, **options):
        del options["tell"]
        asked.append((arguments, options))
        return SimpleNamespace(
            cases=Path("r/cases"),
            manifest=Path("r/manifest.csv"),
            sheet=Path("r/contact-sheet.png"),
            count=3,
            voxels={"core": 5, "oedema": 70},
        )

    monkeypatch.setattr(engine, "augment", call)
    return asked


def test_choices_are_those_of_the_library():
    assert {*get_args(Balance)} == {*BALANCES}


def test_it_prints_what_and_where(calls, capsys):
    options = ["--component", "core", "--component", "oedema", "--balance", "site", "--sites"]
    options += [
        "^(..)",
        "--patients",
        "p.txt",
        "--patient-pattern",
        "^(A.)",
        "--remove-tumours",
        "--labels",
        "msd",
        "--sequence",
        "t2f",
        "--seed",
        "4",
    ]
    assert main([*ASK, *options, "--painter", "p", "--steps", "2", "--guidance", "1.5"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "painted: 3 cases, 5 voxels core, 70 voxels oedema",
        "cases: r/cases",
        "manifest: r/manifest.csv",
        "contact sheet: r/contact-sheet.png",
    ]
    ((arguments, passed),) = calls
    assert arguments == (Path("data"), Path("r"))
    assert passed == {
        "count": 3,
        "components": ("core", "oedema"),
        "balance": "site",
        "remove_tumours": True,
        "sites": "^(..)",
        "patients": Path("p.txt"),
        "patient_pattern": "^(A.)",
        "labels": "msd",
        "sequence": "t2f",
        "painter": Path("p"),
        "steps": 2,
        "guidance": 1.5,
        "seed": 4,
        "resume": False,
    }


def test_cases_without_a_tumour_have_no_voxels_to_count(calls, capsys, monkeypatch):
    answer = engine.augment

    def none_added(*arguments, **options):
        made = answer(*arguments, **options)
        made.voxels = {}
        return made

    monkeypatch.setattr(engine, "augment", none_added)
    assert main([*ASK, "--component", "tumour-free"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "painted: 3 cases"
    assert calls[0][1]["components"] == ("tumour-free",)


def test_it_prints_json_or_nothing(calls, capsys):
    assert main([*ASK, "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert event == {
        "event": "augment",
        "run": "r",
        "cases": "r/cases",
        "manifest": "r/manifest.csv",
        "contact_sheet": "r/contact-sheet.png",
        "added": 3,
        "voxels": {"core": 5, "oedema": 70},
    }
    assert main([*ASK, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_it_begins_in_no_used_folder_and_resumes_no_unused_one(calls, capsys, tmp_path):
    assert main([*ASK, "--resume"]) == 5
    assert "r: nothing to resume in it; leave --resume out" in capsys.readouterr().err
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.json").touch()
    assert main(ASK) == 5
    assert "r: exists already; add --resume to continue it" in capsys.readouterr().err
    assert calls == []
    assert main([*ASK, "--resume"]) == 0
    assert calls[0][1]["resume"] is True


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--add", "0"], "Invalid value for '--add'"),
        (["--balance", "sise"], "Invalid value for '--balance'"),
        (["--json", "--quiet"], "--json and --quiet: choose one of the two"),
    ],
)
def test_wrong_options_end_in_one_line(calls, capsys, options, expected):
    assert main([*ASK, *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert calls == []


def test_an_interruption_says_how_to_go_on(calls, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "augment", stop)
    options = ["--sites", "^(..)", "--component", "core", "--remove-tumours", "--painter", "p"]
    assert main([*ASK, *options, "--patients", "use.txt"]) == 130
    error = capsys.readouterr().err
    assert (
        "polyclinic inpaint augment data --out r --resume --add 3 --component core --balance none "
        "--remove-tumours --sites '^(..)' --patients use.txt --labels auto --painter p --steps 4"
    ) in error
