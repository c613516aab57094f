"""`polyclinic init`, and the configuration that it writes."""

import dataclasses
import errno
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.cli import main
from polyclinic.cli.sites import as_name
from polyclinic.cli.template import EXPLAINED, config_template
from polyclinic.config import Config, SiteConfig, config_from_dict, load_config

from .conftest import make_folders


def test_the_sites_below_a_folder_are_found_and_written(fake, tmp_path, capsys):
    make_folders(tmp_path / "in", "a", "b")
    (tmp_path / "in" / "sites" / "notes").mkdir()
    (tmp_path / "in" / "sites" / ".hidden").mkdir()
    (tmp_path / "in" / "sites" / "file.txt").touch()
    assert main(["init", "in"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "site  format  task          images  classes  patients  findings",
        "a     npz     single-label       3        2         2  1 warning, 1 info",
        "b     npz     single-label       3        2         -  1 warning, 1 info",
        "warning: a/0: is dark; look at it",
        "warning: b/0: is dark; look at it",
        "skipped: in/sites/notes: no format fits",
        "corpus: 1 images in in/corpus",
        "wrote federation.toml; next: polyclinic run federation.toml",
    ]
    config = load_config(Path("federation.toml"))
    assert config == Config(
        name="in",
        corpus=tmp_path / "in/corpus",
        sites=(
            SiteConfig("a", tmp_path / "in/sites/a", "npz", "single-label"),
            SiteConfig("b", tmp_path / "in/sites/b", "npz", "single-label"),
        ),
    )


def test_sites_may_lie_in_the_folder_itself_beside_the_corpus(fake, tmp_path, capsys):
    make_folders(tmp_path / "in", "a b")
    (tmp_path / "in" / "sites" / "a b").rename(tmp_path / "in" / "a b")
    (tmp_path / "in" / "sites").rmdir()
    (tmp_path / "in" / "corpus" / "data").touch()  # looks like a site, and is not taken for one
    assert main(["init", "in", "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert [site["name"] for site in event["sites"]] == ["a-b"]
    assert event["corpus"] == {"path": "in/corpus", "images": 1}
    assert event["sites"][0]["patients"] == 2
    assert event["skipped"] == []


def test_another_corpus_may_be_named(fake, tmp_path):
    make_folders(tmp_path / "in", "a")
    (tmp_path / "in" / "corpus").rename(tmp_path / "public")
    assert main(["init", "in", "--corpus", "public", "--out", "in/f.toml"]) == 0
    config = load_config(Path("in/f.toml"))
    assert config.corpus == tmp_path / "in/../public"
    assert tomllib.loads(Path("in/f.toml").read_text())["sites"][0]["path"] == "sites/a"


def test_names_that_become_the_same_are_told_apart(fake, tmp_path):
    make_folders(tmp_path / "in", "a b", "a.b", "a-b")
    assert main(["init", "in"]) == 0
    names = [site.name for site in load_config(Path("federation.toml")).sites]
    assert names == ["a-b", "a-b-2", "a-b-3"]


def test_a_file_is_overwritten_only_by_force(fake, tmp_path, capsys):
    make_folders(tmp_path / "in", "a")
    Path("federation.toml").write_text("mine")
    assert main(["init", "in"]) == 2
    assert "federation.toml: exists already; use --force" in capsys.readouterr().err
    assert Path("federation.toml").read_text() == "mine"
    assert main(["init", "in", "--force"]) == 0
    assert load_config(Path("federation.toml")).name == "in"


@pytest.mark.parametrize(
    ("folders", "arguments", "code", "text"),
    [
        ([], ["in"], 3, "in: no such folder; expected a folder with a subfolder for each site"),
        (["in/a"], ["in"], 3, "in/corpus: no such folder; expected the corpus of public images"),
        (["in/corpus"], ["in"], 3, "in: none of its subfolders is a site that can be read: it has"),
        (["in/corpus", "in/x"], ["in"], 3, "can be read: in/x: no format fits"),
        (["in/corpus"], ["in", "--out", "no/f.toml"], 2, "no/f.toml: the folder no does not"),
    ],
)
def test_what_is_missing_is_named(fake, capsys, folders, arguments, code, text):
    for folder in folders:
        Path(folder).mkdir(parents=True)
    assert main(["init", *arguments]) == code
    errors = capsys.readouterr().err
    assert text in errors
    assert errors.count("\n") == 1
    assert not Path("federation.toml").exists()


def test_a_file_is_no_folder_of_sites(fake, capsys):
    Path("in.toml").touch()
    assert main(["init", "in.toml"]) == 3
    assert "in.toml: is a file; expected a folder with a subfolder" in capsys.readouterr().err


def test_every_key_is_explained_and_no_other():
    keys = set()
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(field.default_factory):
            keys |= {f"{field.name}.{f.name}" for f in dataclasses.fields(field.default_factory)}
        else:
            keys.add(field.name)
    assert keys - {"sites"} == EXPLAINED.keys()


def test_the_defaults_in_the_comments_are_the_defaults():
    site = SiteConfig("a", Path("/x/a"))
    text = config_template([site], Path("/x/corpus"), name="federation", folder=Path("/x"))
    active = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    table = tomllib.loads(active)
    sections = {key: value for key, value in table.items() if isinstance(value, dict)}
    keys = {f"{name}.{key}" for name, section in sections.items() for key in section}
    assert keys | table.keys() - sections.keys() == EXPLAINED.keys() | {"sites"}
    plain = Config(sites=(site,), corpus=Path("/x/corpus"))
    assert config_from_dict(table, base=Path("/x")) == plain
    assert config_from_dict(tomllib.loads(text), base=Path("/x")) == plain


def test_chosen_values_are_written():
    site = SiteConfig("a", Path("/x/a"))
    text = config_template(
        [site], Path("/c"), name="n", folder=Path("/x"), chosen={"mim.epochs": 3, "quick": True}
    )
    config = config_from_dict(tomllib.loads(text), base=Path("/x"))
    assert (config.mim.epochs, config.quick) == (3, True)


def test_a_path_that_shares_only_the_root_stays_absolute():
    text = config_template([], Path("/c/d"), name="n", folder=Path("/x/y"))
    assert tomllib.loads(text)["corpus"] == "/c/d"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1))
@settings(max_examples=60, derandomize=True, database=None)
def test_any_folder_name_survives_the_configuration(name):
    if name in (".", ".."):
        return
    site = SiteConfig(as_name(name), Path("/x/y") / name)
    text = config_template([site], Path("/x/c"), name=as_name(name), folder=Path("/x"))
    config = config_from_dict(tomllib.loads(text), base=Path("/x"))
    assert config.sites == (site,)


def test_a_configuration_that_cannot_be_written_leaves_nothing(fake, tmp_path, capsys, monkeypatch):
    make_folders(tmp_path / "in", "a", "b")

    def full(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "replace", full)
    out = tmp_path / "f.toml"
    assert main(["init", "in", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "f.toml: cannot be written (No space left on device); free some space" in error
    assert not list(tmp_path.glob("f.toml*"))
