"""`polyclinic audit`, without attacking anything."""

import json
from pathlib import Path

import pytest

from polyclinic.cli import engine, main

ROW = {
    "site": "north",
    "attack": "labels",
    "setting": "a batch of 8",
    "kind": "as the run trains",
    "attacker": "the encoder's change",
    "measure": "share found",
    "value": 0.5,
    "low": 0.25,
    "high": 0.75,
    "baseline": 0.5,
    "verdict": "fails",
    "details": {},
}
LEAK = {
    **ROW,
    "setting": "no noise",
    "attack": "canary",
    "kind": "made to leak",
    "low": None,
    "high": None,
    "baseline": None,
    "verdict": "caught",
}
RESULTS = {"quick": False, "missed": [], "sites": [{"name": "north"}], "rows": [LEAK, ROW]}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("north").mkdir()
    calls = []

    def audit_run(*arguments, tell, **options):
        assert callable(tell)
        calls.append((arguments, options))
        return RESULTS

    monkeypatch.setattr(engine, "audit_run", audit_run)
    return calls


def test_it_prints_a_table_and_writes_beside_the_run(asked, capsys):
    options = ["--data", "north", "--attacks", "labels, canary,labels", "--seed", "3"]
    assert main(["audit", "run", *options]) == 0
    assert capsys.readouterr().out == (
        "attack  setting       result                           baseline or claim  verdict\n"
        "canary  no noise      share found: 0.5                                 -  caught\n"
        "labels  a batch of 8  share found: 0.5 (0.25 to 0.75)                0.5  fails\n"
        "\n"
        "written: run/audit.json\n"
    )
    assert json.loads(Path("run/audit.json").read_text()) == RESULTS
    ((run, folders), options), *_ = asked
    assert (run, folders) == (Path("run"), (Path("north"),))
    assert options["attacks"] == ("canary", "labels")
    assert (options["seed"], options["quick"]) == (3, False)


def test_an_attack_that_failed_where_it_must_succeed_is_named(asked, capsys, monkeypatch):
    missed = {**RESULTS, "quick": True, "missed": ["canary (no noise)"]}
    monkeypatch.setattr(engine, "audit_run", lambda *_, **__: missed)
    assert main(["audit", "run", "--quick", "--out", "elsewhere"]) == 0
    out = capsys.readouterr().out
    assert (
        "warning: failed on a victim that was made to leak: canary (no noise); what it says" in out
    )
    assert "a quick audit" in out
    assert Path("elsewhere/audit.json").is_file()


def test_json_and_quiet(asked, capsys):
    assert main(["audit", "run", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["audit", "run", "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["audit"]) == ("audit", "run/audit.json")
    assert main(["audit", "run", "--json", "--quiet"]) == 2
    assert "--json and --quiet: choose one of the two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["run", "--attacks", "canary,inversoin"], 2, "got 'inversoin'"),
        (["run", "--data", "gone"], 3, "gone: no such folder; expected a site's own data"),
        (["run", "--out", "file"], 5, "file: is a file; expected a folder for audit.json"),
    ],
)
def test_wrong_options_are_one_line(asked, capsys, arguments, code, text):
    Path("file").touch()
    assert main(["audit", *arguments]) == code
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert asked == []


def test_a_run_that_is_not_there_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "gone"]) == 5
    assert capsys.readouterr().err.startswith("polyclinic: error: gone: no such folder; expected")


def test_an_interruption_is_one_line(asked, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "audit_run", interrupted)
    assert main(["audit", "run"]) == 130
    assert capsys.readouterr().err.strip() == "polyclinic: interrupted"
    assert not Path("run/audit.json").exists()
