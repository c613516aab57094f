"""Imports point one way, and the science knows neither network, browser nor command line."""

import ast
from pathlib import Path

import pytest

import polyclinic

ROOT = Path(polyclinic.__file__).parent
LEVELS = {
    "data": 0,
    "models": 0,
    "federation": 1,
    "inpaint": 1,
    "evaluate": 1,
    "run": 2,
    "deploy": 3,
    "report": 4,
    "cli": 5,
}
FLOOR = {"config", "errors", "seeding"}  # imports nothing that stands above it
TOP = {"__init__", "__main__"}  # `__init__` is what a user imports: it may name anything, lazily
SCIENCE = ("data", "models", "federation", "inpaint", "evaluate", "run")
FOREIGN = {"flwr", "gradio", "click", "typer", "jinja2"}
MODULES = sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    """The part of the package that a module belongs to: `data`, `cli`, or a top-level module."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(source: str, package: str) -> set[str]:
    """Every module that `source`, a module in `package`, imports anywhere, in absolute names.

    For `from a import b`, that is `a.b`: `b` may be a module.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join(base) if node.level else ""
            module = ".".join(filter(None, [start, node.module or ""]))
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def imports_of(path: Path) -> set[str]:
    package = ".".join(["polyclinic", *path.relative_to(ROOT).parts[:-1]])
    return imported(path.read_text(encoding="utf-8"), package)


def parts_used(path: Path) -> set[str]:
    names = [name.split(".") for name in imports_of(path)]
    return {name[1] for name in names if name[0] == "polyclinic" and len(name) > 1}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b, c", {"a.b", "a.c"}),
        ("from . import x", {"polyclinic.data.readers.x"}),
        ("from ..shapes import x", {"polyclinic.data.shapes.x"}),
        ("def f():\n    from polyclinic import cli", {"polyclinic.cli"}),
    ],
)
def test_imports_are_found_wherever_they_stand(source, expected):
    assert imported(source, "polyclinic.data.readers") == expected


def test_every_part_of_the_package_has_a_level():
    parts = {part_of(path) for path in MODULES}
    assert parts <= LEVELS.keys() | FLOOR | TOP


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    part, used = part_of(path), parts_used(path)
    known = used & (LEVELS.keys() | FLOOR)
    if part in FLOOR:
        assert known <= FLOOR
    elif part in LEVELS:
        upward = {p for p in known if p in LEVELS and LEVELS[p] > LEVELS[part]}
        assert upward == set(), f"{path.name} is in {part}, which may not import {upward}"


def test_parts_do_not_import_each_other_in_a_circle():
    edges = {part: set() for part in LEVELS}
    for path in MODULES:
        part = part_of(path)
        if part in LEVELS:
            edges[part] |= parts_used(path) & LEVELS.keys() - {part}
    while edges:
        free = {part for part, used in edges.items() if not used & edges.keys()}
        assert free, f"these import each other: {sorted(edges)}"
        edges = {part: used for part, used in edges.items() if part not in free}


def test_flower_is_known_to_the_four_modules_that_run_inside_it_alone():
    using = {p for p in MODULES if any(n.split(".")[0] == "flwr" for n in imports_of(p))}
    deploy = ROOT / "deploy"
    inside = ("client_app", "server_app", "site_process", "node_process")
    assert using == {deploy / f"{name}.py" for name in inside}
    for path in MODULES:
        assert imports_of(path).isdisjoint(f"polyclinic.deploy.{p.stem}" for p in using) or (
            path in using
        ), path


@pytest.mark.parametrize("part", SCIENCE)
def test_the_science_imports_no_network_no_browser_no_command_line(part):
    for path in MODULES:
        if part_of(path) == part:
            tops = {name.split(".")[0] for name in imports_of(path)}
            assert tops.isdisjoint(FOREIGN), path
