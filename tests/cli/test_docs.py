"""docs/commands.md says what the command line does, no more and no less."""

import re
from pathlib import Path

import click
import pytest

from polyclinic.cli import entry
from polyclinic.config import METHODS

TEXT = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = {
    " ".join(re.findall(r"(?<= )[a-z]+", title)): body
    for title, body in re.findall(r"^## (polyclinic \w+.*)\n((?:(?!## ).*\n)*)", TEXT, re.MULTILINE)
}


def commands(group=entry.polyclinic, name=""):
    """Every command by its words, those of groups too."""
    found = {}
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{name}{word} ")
        else:
            found[f"{name}{word}"] = command
    return found


@pytest.mark.parametrize("name", commands())
def test_the_options_of_every_command_are_documented(name):
    command = commands()[name]
    options = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }
    rows = re.findall(r"^\| `(--[a-z-]+)", SECTIONS[name], re.MULTILINE)
    assert set(rows) == options
    assert len(rows) == len(options)


def test_no_command_is_documented_that_does_not_exist():
    assert SECTIONS.keys() == commands().keys()


def test_the_methods_are_named():
    assert ", ".join(METHODS) in SECTIONS["run"]


def test_the_exit_codes_are_those_of_the_code():
    def codes(text):
        return re.findall(r"^\| (\d+) \|", text, re.MULTILINE)

    documented = codes(TEXT.split("## Exit codes")[1])
    assert documented == codes(entry.__doc__)
    assert documented == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "70", "130"]
