"""`polyclinic demo`."""

import errno
import shutil
from pathlib import Path

import pytest

from polyclinic.cli import main
from polyclinic.config import load_config, quick


def test_the_demo_makes_images_a_configuration_and_a_report(fake, capsys):
    assert main(["demo", "--seed", "3"]) == 0
    captured = capsys.readouterr()
    assert "Universal (ours)" in captured.out
    assert "report: demo/run/report.html" in captured.out
    assert "wrote a and b" in captured.err
    assert fake.phantoms == [(Path("demo/data"), 3)]
    config, out, resume = fake.runs[0]
    assert config == quick(load_config(Path("demo/federation.toml")))
    assert (config.seeds, config.quick, [s.name for s in config.sites]) == ((3,), True, ["a", "b"])
    assert (out, resume) == (Path("demo/run"), False)


def test_a_complete_demo_is_shown_and_not_repeated(fake, capsys):
    assert main(["demo", "--quiet"]) == 0
    assert main(["demo"]) == 0
    assert "demo: this demo is complete; remove the folder" in capsys.readouterr().out
    assert len(fake.runs) == 1


def test_an_interrupted_demo_goes_on(fake, capsys):
    fake.fails = KeyboardInterrupt()
    assert main(["demo", "--out", "d", "--quiet"]) == 130
    assert "continue with: polyclinic demo --out d --seed 0" in capsys.readouterr().err
    fake.fails = None
    assert main(["demo", "--out", "d", "--quiet"]) == 0
    assert [resume for _, _, resume in fake.runs] == [False, True]
    assert len(fake.phantoms) == 1


def test_a_demo_interrupted_before_its_configuration_writes_it_then(fake):
    assert main(["demo", "--quiet"]) == 0
    for path in ("run/results.json", "federation.toml"):
        (Path("demo") / path).unlink()
    assert main(["demo", "--quiet"]) == 0
    assert len(fake.phantoms) == 1
    assert load_config(Path("demo/federation.toml")).quick


@pytest.mark.parametrize("left", [".lock", "config.json.part"])
def test_a_demo_whose_run_failed_early_starts_it_again(fake, left):
    assert main(["demo", "--quiet"]) == 0
    run = Path("demo/run")
    shutil.rmtree(run)
    run.mkdir()
    (run / left).touch()
    assert main(["demo", "--quiet"]) == 0
    assert fake.runs[-1][1:] == (run, False)


def test_a_demo_that_found_the_disk_full_at_once_can_be_repeated(fake, capsys, monkeypatch):
    def full(path, text, **options):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert main(["demo", "--quiet"]) == 5
    assert "no space left on the disk" in capsys.readouterr().err
    assert main(["demo", "--quiet"]) == 0


@pytest.mark.parametrize("content", ["{", "[]", '{"finished": false}'])
def test_results_that_are_not_finished_are_no_complete_demo(fake, content):
    assert main(["demo", "--quiet"]) == 0
    Path("demo/run/results.json").write_text(content)
    assert main(["demo", "--quiet"]) == 0
    assert len(fake.runs) == 2


def test_a_folder_of_something_else_is_left_alone(fake, capsys):
    Path("demo").mkdir()
    Path("demo/thesis.tex").write_text("mine")
    assert main(["demo"]) == 5
    assert "demo: exists and is not a demo; choose another folder" in capsys.readouterr().err
    assert [p.name for p in Path("demo").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("marker", "text"),
    [(None, "seed 1, got 0; remove demo or"), ("{", "seed 1, got None; remove demo or")],
)
def test_a_demo_of_another_seed_is_left_alone(fake, capsys, marker, text):
    assert main(["demo", "--quiet"]) == 0
    if marker:
        Path("demo/demo.json").write_text(marker)
    assert main(["demo", "--seed", "1"]) == 5
    assert text in capsys.readouterr().err
