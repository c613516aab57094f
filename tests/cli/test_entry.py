"""Help, versions, completion, and every way in which a command ends badly."""

import errno
import os
import shlex
import subprocess
import sys

import click
import pytest

import polyclinic
from polyclinic.cli import main
from polyclinic.cli.entry import polyclinic as group
from polyclinic.errors import (
    ConfigError,
    DataError,
    KnowledgeError,
    PolyclinicError,
    RunError,
)

HEAVY = {"torch", "numpy", "scipy", "sklearn", "monai", "flwr", "nibabel", "jinja2", "PIL"}


def fails(capsys, arguments, code) -> str:
    """Run, and return the only line on stderr (click ends the line in which ^C stands)."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    lines = captured.err.lstrip("\n").splitlines()
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.out
    return lines[0]


@pytest.mark.parametrize("command", [[], ["run"], ["inpaint", "edit"], ["server", "start"]])
def test_help_loads_nothing_that_takes_time(command):
    program = (
        "import sys; from polyclinic.cli import main; main([*sys.argv[1:], '--help']); "
        "print('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    called = [sys.executable, "-c", program, *command]
    done = subprocess.run(called, capture_output=True, text=True, check=True)
    shown, _, loaded = done.stdout.partition("loaded:")
    assert "Usage: polyclinic" in shown
    assert HEAVY.isdisjoint(loaded.split())


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: polyclinic")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"polyclinic {polyclinic.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(capsys, shell):
    assert main(["completion", shell]) == 0
    assert "_POLYCLINIC_COMPLETE" in capsys.readouterr().out


def test_completion_answers_the_shell():
    environment = {
        **os.environ,
        "_POLYCLINIC_COMPLETE": "zsh_complete",
        "COMP_WORDS": "polyclinic r",
        "COMP_CWORD": "1",
    }
    command = [sys.executable, "-m", "polyclinic"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert {"run", "report"} <= set(done.stdout.split("\n"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["run"], "Missing argument 'CONFIG'; see `polyclinic run --help`"),
        (["run", "f.toml", "--sed", "1"], "No such option '--sed'"),
        (["run", "f.toml", "--seed", "-1"], "Invalid value for '--seed': -1"),
        (["run", "f.toml", "--jobs", "0"], "Invalid value for '--jobs': 0"),
        (["run", "f.toml", "--method", "magic"], "Invalid value for '--method': 'magic'"),
        (["run", "f.toml", "--json", "--quiet"], "--json and --quiet: choose one"),
        (["demo", "--json", "--quiet"], "--json and --quiet: choose one"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["run", "nowhere.toml"], "nowhere.toml: no such configuration file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(fake, capsys, arguments, text):
    line = fails(capsys, arguments, 2)
    assert line.startswith("polyclinic: error: ")
    assert text in line


def no_space(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/somewhere/weights")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (PolyclinicError("something"), 1, "polyclinic: error: something"),
        (ConfigError("a\n  b"), 2, "polyclinic: error: a b"),
        (DataError("site"), 3, "polyclinic: error: site"),
        (KnowledgeError("labels"), 4, "polyclinic: error: labels"),
        (RunError("run"), 5, "polyclinic: error: run"),
        (no_space(errno.ENOSPC), 5, "/somewhere/weights: no space left on the disk; free some"),
        (OSError(errno.ENOSPC, "full"), 5, "error: the run directory: no space left"),
        (no_space(errno.EACCES), 5, "/somewhere/weights: permission denied; choose another"),
        (no_space(errno.EROFS), 5, "/somewhere/weights: the disk is read-only"),
        (MemoryError(), 1, "out of memory; reduce jobs"),
        (ZeroDivisionError("one\ntwo"), 70, "a bug in Polyclinic"),
        (ValueError(), 70, "(ValueError); please report it"),
        (no_space(errno.EIO), 70, "a bug in Polyclinic"),
    ],
    ids=repr,
)
def test_every_error_is_one_line_and_has_its_exit_code(
    fake, config_file, capsys, monkeypatch, error, code, text
):
    fake.fails = error
    line = fails(capsys, ["run", str(config_file), "--quiet"], code)
    assert text in line


@pytest.mark.parametrize("by_option", [True, False])
def test_debug_shows_the_traceback_as_well(fake, config_file, capsys, monkeypatch, by_option):
    fake.fails = ZeroDivisionError("one")
    if not by_option:
        monkeypatch.setenv("POLYCLINIC_DEBUG", "1")
    option = ["--debug"] if by_option else []
    assert main([*option, "run", str(config_file), "--quiet"]) == 70
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert "ZeroDivisionError: one" in errors


def test_an_interrupted_run_says_how_to_go_on(fake, config_file, capsys):
    fake.fails = KeyboardInterrupt()
    arguments = [str(config_file), "--seed", "3", "--method", "mim", "--jobs", "2", "--quick"]
    line = fails(capsys, ["run", *arguments, "--out", "my run", "--quiet"], 130)
    command = line.removeprefix("polyclinic: interrupted; continue with: polyclinic ")
    assert "'my run'" in command
    fake.fails = None
    first, first_out, _ = fake.runs[0]
    assert main([*shlex.split(command), "--quiet"]) == 0
    assert fake.runs[1] == (first, first_out, True)


def test_an_interrupt_elsewhere_is_one_line(fake, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("polyclinic.cli.engine.write_report", interrupted)
    (tmp_path / "results.json").touch()
    assert fails(capsys, ["report", str(tmp_path)], 130).startswith("polyclinic: interrupted")


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    script = (
        "import sys; from polyclinic.cli import main; sys.stdin.readline();"
        "sys.exit(main(['completion', 'bash']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def all_commands(below=group):
    for name, command in below.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from all_commands(command)


def test_every_command_and_option_has_a_help_text():
    for name, command in all_commands():
        assert command.help, name
        assert command.short_help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)


@pytest.mark.parametrize("group", ["data", "inpaint"])
def test_a_group_alone_shows_its_help(group, capsys):
    assert main([group]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: polyclinic {group}")
    assert len(lines) > 5
