"""The documentation says what is there: links, commands, settings and files; its examples run."""

import contextlib
import dataclasses
import io
import re
import shlex
import typing
from pathlib import Path

import click
import pytest

from polyclinic.cli import entry
from polyclinic.config import Config, toml_value

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDERS = ("src/", "tests/", "docs/", "benchmarks/", "scripts/", "examples/")


def name_of(page):
    return str(page.relative_to(ROOT))


def text_of(page):
    return page.read_text(encoding="utf-8")


def prose_of(page):
    return FENCE.sub("", text_of(page))


def blocks_of(page, *languages):
    return [body for language, body in FENCE.findall(text_of(page)) if language in languages]


def anchors_of(page):
    """What `#...` may name in a page, as code hosts derive it from headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def broken_links(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_resolves(page):
    assert broken_links(page) == []


def test_a_broken_link_and_a_missing_heading_are_noticed(tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# Some `code`, and more\n")
    page.write_text("[a](gone.md) [b](other.md#some-code-and-more) [c](other.md#no) [d](#no)\n")
    assert broken_links(page) == ["gone.md", "other.md#no", "#no"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_exists(page):
    named = {
        text
        for text in re.findall(r"`([\w./-]+)`", prose_of(page))
        if text.startswith(FOLDERS) and "*" not in text
    }
    assert [text for text in sorted(named) if not (ROOT / text).exists()] == []


def test_the_index_lists_every_page():
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / t).resolve() for t in re.findall(r"\]\(([^)#\s]+)", text_of(index))}
    pages = set((ROOT / "docs").glob("*.md")) - {index}
    assert pages <= listed


# Examples: run in the order of the page, in an empty folder.


def examples_of(page):
    """Pairs of a `python` block and what a `text` block right after it says that it prints."""
    pattern = r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?"
    return re.findall(pattern, text_of(page), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if examples_of(p)], ids=name_of)
def test_the_examples_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POLYCLINIC_DEVICE", "cpu")
    monkeypatch.setenv("POLYCLINIC_PRECISION", "float32")  # saves the measurement
    names = {"__name__": "example"}
    for code, expected in examples_of(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name_of(page), "exec"), names)
        assert printed.getvalue() == expected


# Commands: each line of a block that calls polyclinic or make.


def calls(program):
    """(page, words) of every call of `program` in a block; `[` and comments are no arguments."""
    found = []
    for page in PAGES:
        for body in blocks_of(page, "", "bash"):
            for line in body.splitlines():
                words = line.split(" #")[0].strip()
                words = re.sub(r"^([A-Z_]+=\S+ )+", "", words)
                if re.match(rf"(\.venv/bin/)?{program} ", words + " "):
                    found.append((name_of(page), shlex.split(words)))
    return found


def test_every_call_of_polyclinic_is_one_that_it_understands():
    assert len(calls("polyclinic")) > 5
    for page, (_, name, *arguments) in calls("polyclinic"):
        assert name in entry.polyclinic.commands, (page, name)
        command = entry.polyclinic.commands[name]
        with click.Context(command) as context:
            command.parse_args(context, list(arguments))  # raises what the user would see


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    called = [(page, word) for page, (_, word, *_) in calls("make")]
    assert len(called) > 3
    assert [(page, target) for page, target in called if target not in targets] == []


# Settings: docs/method.md against the dataclasses.


def settings(kind=Config, prefix=""):
    """Name and default, as TOML, of every setting; sections have dots."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
        if dataclasses.is_dataclass(inner):
            if inner is not hint:
                yield field.name, "required"
            yield from settings(inner, f"{prefix}{field.name}.")
        elif field.default is dataclasses.MISSING:
            yield prefix + field.name, "required"
        else:
            yield prefix + field.name, f"`{toml_value(field.default)}`"


def test_every_setting_is_documented_with_its_default():
    section = text_of(ROOT / "docs" / "method.md").split("## Every setting")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", section, re.MULTILINE)
    assert dict(rows) == dict(settings())
    assert len(rows) == len(dict(rows))


# Trees of files.


def tree_paths(block):
    """The paths of a tree: one a line, indented by two spaces a level, a remark after two more."""
    above = []
    for line in filter(str.strip, block.splitlines()):
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name]
        yield "".join(above)


TREES = [(page, block) for page in PAGES for block in blocks_of(page, "tree")]


@pytest.mark.parametrize(("page", "block"), TREES, ids=lambda x: name_of(x) if x in PAGES else "")
def test_trees_name_what_exists(page, block):
    paths = list(tree_paths(block))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [path for path in paths if (ROOT / path).is_dir() != path.endswith("/")] == []


def test_the_tree_of_the_design_is_complete():
    (block,) = blocks_of(ROOT / "docs" / "design.md", "tree")
    named = set(tree_paths(block))
    package = ROOT / "src" / "polyclinic"
    modules = {p for p in [*package.glob("*.py"), *package.glob("*/*.py")] if p.name[0] != "_"}
    assert {str(p.relative_to(ROOT)) for p in modules} - named == set()


def test_the_tree_of_the_readme_names_every_part_of_the_package():
    (block,) = blocks_of(ROOT / "README.md", "tree")
    named = set(tree_paths(block))
    parts = {p.parent for p in (ROOT / "src" / "polyclinic").glob("*/*.py")}
    assert {f"{p.relative_to(ROOT)}/" for p in parts} <= named
