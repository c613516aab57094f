"""The choices that `make setup` makes, without installing anything."""

import importlib.util
import itertools
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup(monkeypatch, tmp_path) -> ModuleType:
    """The script as a module, in a project of its own; `commands` records what it would run."""
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "scripts" / "setup_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "scripts").mkdir()
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup_env.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").mkdir()
    for name, value in {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "STAMP": tmp_path / ".venv" / "stamp",
        "commands": [],
        "call": lambda command, **_: module.commands.append(command) or 0,
        "works": lambda: True,
        "installed": lambda _: "",
        "has_gpu": lambda: False,
        "pip_would_pull_cuda": lambda _: True,
        "uv": lambda required: ["uv", "pip"] if required else [],
    }.items():
        monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.delenv("POLYCLINIC_TORCH", raising=False)
    return module


def torch_command(setup: ModuleType) -> list[str]:
    return next(c for c in setup.commands if c[-1].startswith("torch=="))


@pytest.mark.parametrize(
    ("gpu", "cuda", "choice", "cpu_build"),
    [
        (False, True, "", True),
        (False, False, "", False),  # pip's own choice is good enough
        (True, True, "", False),
        (True, True, "cpu", True),
        (True, False, "cpu", False),
        (False, True, "gpu", False),
    ],
)
def test_the_build_of_torch_fits_the_machine(setup, monkeypatch, gpu, cuda, choice, cpu_build):
    monkeypatch.setattr(setup, "has_gpu", lambda: gpu)
    monkeypatch.setattr(setup, "pip_would_pull_cuda", lambda _: cuda)
    monkeypatch.setenv("POLYCLINIC_TORCH", choice)
    setup.main()
    assert ("--torch-backend=cpu" in torch_command(setup)) is cpu_build
    assert torch_command(setup)[-1] == f"torch=={setup.pinned('torch')}"


@pytest.mark.parametrize(
    ("have", "choice", "kept"),
    [
        ("{}", "", True),
        ("{}+cpu", "", True),
        ("{}+cpu", "cpu", True),
        ("{}+cpu", "gpu", False),
        ("{}", "gpu", True),
        ("{}", "cpu", False),
        ("1.0", "", False),
        ("1.0", "skip", True),
    ],
)
def test_a_torch_that_fits_is_kept(setup, monkeypatch, have, choice, kept):
    monkeypatch.setattr(setup, "installed", lambda _: have.format(setup.pinned("torch")))
    monkeypatch.setenv("POLYCLINIC_TORCH", choice)
    setup.main()
    installs = [c for c in setup.commands if c[-1].startswith("torch==")]
    assert (installs == []) is kept


def test_a_second_call_does_nothing_until_something_changes(setup, tmp_path, monkeypatch):
    def work() -> int:
        setup.commands.clear()
        setup.main()
        return len(setup.commands)

    assert work() == 2
    assert work() == 0
    monkeypatch.setenv("POLYCLINIC_TORCH", "gpu")
    assert work() == 2
    monkeypatch.delenv("POLYCLINIC_TORCH")
    assert work() == 0  # the choice is remembered
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert work() == 2


def test_an_interrupted_setup_is_taken_up_again(setup, monkeypatch):
    setup.main()
    monkeypatch.setattr(setup, "install_rest", lambda _: sys.exit("the network is gone"))
    monkeypatch.setenv("POLYCLINIC_TORCH", "gpu")
    with pytest.raises(SystemExit, match="the network is gone"):
        setup.main()
    assert not setup.STAMP.exists()


def test_the_constraints_hold_the_torch_that_is_there(setup, monkeypatch):
    seen = []

    def call(command, **_):
        seen.extend(Path(command[command.index("--constraint") + 1]).read_text().splitlines())
        return 0

    monkeypatch.setattr(setup, "call", call)
    setup.install_rest("torch==2.0+rocm")
    assert [line for line in seen if line.startswith("torch")] == ["torch==2.0+rocm"]
    assert "ruff" in "\n".join(seen)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ("tpu", "POLYCLINIC_TORCH: expected cpu, gpu or skip, got 'tpu'"),
        ("skip", "POLYCLINIC_TORCH=skip, but .venv has no PyTorch"),
    ],
)
def test_what_cannot_be_done_is_one_line(setup, monkeypatch, choice, text):
    monkeypatch.setenv("POLYCLINIC_TORCH", choice)
    with pytest.raises(SystemExit) as caught:
        setup.main()
    assert str(caught.value).startswith(f"setup: error: {text}")
    assert "\n" not in str(caught.value)


def test_an_old_python_is_named(setup, monkeypatch):
    monkeypatch.setattr(setup, "OLDEST", (9, 9))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed, this is 3\."):
        setup.main()


def test_the_parts_of_cuda_are_known(setup):
    report = {"install": [{"metadata": {"name": n}} for n in ("torch", "nvidia-cudnn-cu13")]}
    names = setup.names_in_report(json.dumps(report))
    assert [setup.is_cuda(name) for name in names] == [False, True]
    assert setup.is_cuda("triton")


def test_every_direct_dependency_is_constrained_and_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = itertools.chain(project["dependencies"], *extras)
    names = {re.split("[>=]=", line)[0] for line in wanted if not line.startswith("polyclinic[")}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in lines if not line.startswith("#")} == names
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    assert [name for name in sorted(names) if f"| {name} |" not in explained] == []
