"""The files for systemd and for a container call commands that exist, with all that they need."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from polyclinic.cli import entry

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "examples" / "service"
COMMANDS = {
    path.name: re.findall(r"^ExecStart=\S+/polyclinic (.*)$", path.read_text(), re.MULTILINE)
    for path in sorted(SERVICE.glob("*.service"))
}


def understood(words):
    """Raises what the user would see."""
    group, name, *arguments = words
    command = entry.polyclinic.commands[group].commands[name]
    with click.Context(command) as context:
        command.parse_args(context, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_service_calls_a_command_that_exists(name):
    (command,) = COMMANDS[name]
    understood(shlex.split(command))


def test_the_container_has_what_a_federation_may_ask_for():
    extras = re.search(r"/build\[([a-z,]+)\]", (SERVICE / "Containerfile").read_text())[1]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"deploy", "dicom", "privacy"} == set(extras.split(",")) <= known.keys()


def test_what_the_page_runs_in_a_container_exists():
    page = (ROOT / "docs" / "deploy.md").read_text().split("## In a container")[1].split("\n## ")[0]
    calls = re.findall(r"^podman run .*$", page.replace("\\\n", ""), re.MULTILINE)
    ours = [words for words in map(shlex.split, calls) if "--entrypoint" not in words]
    for words in ours:
        understood(words[words.index("polyclinic") + 1 :])
    assert [words[words.index("polyclinic") + 1 :][:2] for words in ours] == [
        *(["site", "check"], ["site", "join"], ["server", "start"])
    ]
