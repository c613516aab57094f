"""`polyclinic data check`: what it prints, writes and exits with."""

import json

import pytest

from polyclinic.cli import main
from polyclinic.data.phantoms import breast


@pytest.fixture
def site(tmp_path):
    breast.write(tmp_path / "site", seed=0, images=48, image_size=32)
    return tmp_path / "site"


def spoil(site):
    path = min(site.rglob("*.png"))
    path.write_bytes(path.read_bytes()[:90])


def test_a_clean_site_exits_with_0(site, capsys):
    assert main(["data", "check", str(site)]) == 0
    out = capsys.readouterr().out
    assert "class-folders, single-label, 48 images" in out
    assert "0 errors, 0 warnings" in out


def test_warnings_exit_with_6_and_say_what_to_do(site, capsys):
    spoil(site)
    assert main(["data", "check", str(site), "--jobs", "1"]) == 6
    assert "warning: reading: " in (out := capsys.readouterr().out)
    assert "; repair or remove it" in out


def test_errors_exit_with_7(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.txt").write_text("x")
    assert main(["data", "check", str(tmp_path / "x")]) == 7
    assert "error: reading: cannot be used as a site" in capsys.readouterr().out


def test_quiet_prints_nothing(site, capsys):
    spoil(site)
    assert main(["data", "check", str(site), "--quiet"]) == 6
    assert capsys.readouterr() == ("", "")


def test_json_lines(site, tmp_path, capsys):
    spoil(site)
    sheet, shared = tmp_path / "s.html", tmp_path / "s.json"
    options = ["--json", "--html", str(sheet), "--share", str(shared)]
    assert main(["data", "check", str(site), *options]) == 6
    *steps, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert {step["event"] for step in steps} == {"progress"}
    assert last["event"] == "check"
    assert (last["html"], last["share"]) == (str(sheet), str(shared))
    assert last["counts"]["warning"] == 1
    assert sheet.read_text().startswith("<!doctype html>")
    assert json.loads(shared.read_text())["min_count"] == 10


def test_without_being_asked_nothing_is_written(site, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    main(["data", "check", str(site)])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_small_site_shares_nothing_and_says_why(site, tmp_path, capsys):
    for path in sorted(site.rglob("*.png"))[5:]:
        path.unlink()
    shared, sheet = tmp_path / "s.json", tmp_path / "s.html"
    options = ["--share", str(shared), "--html", str(sheet), "--quiet"]
    assert main(["data", "check", str(site), *options]) == 3
    assert "aggregates may leave from 10 on; leave out --share" in capsys.readouterr().err
    assert not shared.exists()
    assert not sheet.exists()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["gone"], 3, "gone: no such folder"),
        (["gone", "--json", "--quiet"], 2, "--json and --quiet: choose one"),
        (["gone", "--html", "no/x.html"], 2, "the folder no does not exist; create it first"),
        (["gone", "--jobs", "0"], 2, "Invalid value for '--jobs'"),
        (["gone", "--jobs", "9999"], 2, "Invalid value for '--jobs'"),
    ],
)
def test_wrong_usage_is_one_line(options, code, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", *options]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.mark.parametrize("option", ["--html", "--share"])
def test_nothing_that_is_there_is_written_over_and_nothing_in_the_site(site, option, capsys):
    labels = next(path for path in sorted(site.rglob("*")) if path.is_file())
    before = labels.read_bytes()
    assert main(["data", "check", str(site), option, str(labels), "--force"]) == 2
    assert "where nothing is changed; name another" in capsys.readouterr().err
    assert labels.read_bytes() == before
    other = site.parent / "there.txt"
    other.write_text("mine")
    assert main(["data", "check", str(site), option, str(other)]) == 2
    assert "exists already; use --force to overwrite it" in capsys.readouterr().err
    assert other.read_text() == "mine"
    assert main(["data", "check", str(site), option, str(site.parent)]) == 2
    assert "a folder; expected the name of a file to write" in capsys.readouterr().err


def test_a_folder_without_a_format_has_no_task(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    assert main(["data", "check", str(tmp_path / "x")]) == 7
    assert f"{tmp_path / 'x'}: no known format, 0 images" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "x"), "--json"]) == 7
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["format"], last["task"]) == ("unrecognised", None)
