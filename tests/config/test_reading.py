"""A configuration is read from TOML; what is no setting, or of another type, is named."""

from pathlib import Path

import pytest

from polyclinic.config import (
    METHODS,
    USUAL_METHODS,
    Config,
    MimConfig,
    SiteConfig,
    config_from_dict,
    load_config,
)
from polyclinic.errors import ConfigError


def test_the_smallest_configuration_gets_the_defaults(build):
    config = build()
    assert config == Config(sites=(SiteConfig("a", Path("/base/a")),), corpus=Path("/base/corpus"))
    assert config.methods == USUAL_METHODS == METHODS[:6]


def test_paths_are_relative_to_the_file_and_may_be_absolute_or_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    path = tmp_path / "f.toml"
    path.write_text('corpus = "~/c"\n[[sites]]\nname="x"\npath="x"\n[[sites]]\nname="y"\npath="/y"')
    config = load_config(path)
    assert config.corpus == Path("/home/someone/c")
    assert [site.path for site in config.sites] == [tmp_path / "x", Path("/y")]


def test_whole_numbers_are_accepted_where_a_float_is_expected(build):
    config = build(mim={"weight_decay": 0})
    assert config.mim == MimConfig(weight_decay=0.0)
    assert type(config.mim.weight_decay) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methdos": ["local"]}, "f.toml: unknown key `methdos`; did you mean `methods`?"),
        ({"mim": {"epoch": 3}}, "f.toml: mim: unknown key `epoch`; did you mean `epochs`?"),
        ({"zzz": 1}, "f.toml: unknown key `zzz`; known: sites, corpus, name"),
        ({"mim": 3}, "f.toml: mim: expected a table, got 3"),
        (
            {"sites": [{"name": "a", "path": "x"}, {"name": "b", "path": "y/../x"}]},
            "`a` and `b` are the same folder",
        ),
        ({"sites": [{"name": "a"}]}, "f.toml: sites[0]: `path` is missing"),
        ({"sites": {"name": "a"}}, "f.toml: sites: expected a list, got {'name': 'a'}"),
        ({"corpus": 3}, "f.toml: corpus: expected a path in quotes, got 3"),
        ({"corpus": "~no-such-user-here/x"}, "f.toml: corpus: no home folder is known for"),
        ({"jobs": "2"}, "f.toml: jobs: expected int, got '2'"),
        ({"jobs": True}, "f.toml: jobs: expected int, got True"),
        ({"quick": 1}, "f.toml: quick: expected bool, got 1"),
        ({"seeds": [0.5]}, "f.toml: seeds[0]: expected int, got 0.5"),
        ({"methods": []}, "f.toml: methods: expected at least one, each once"),
        (
            {"methods": ["fedavgg"]},
            "f.toml: methods[0]: expected one of universal, fedavg, fedprox, local, mim, "
            "centralised, fedbn, fedmim, contrastive, scratch; got 'fedavgg'; did you mean "
            "`fedavg`?",
        ),
        ({"preset": "q"}, "f.toml: preset: expected one of small, base; got 'q'"),
        ({"federation": {"wire": "int4"}}, "wire: expected one of float32, float16, int8; got"),
    ],
)
def test_what_is_wrong_is_named(build, changes, message):
    with pytest.raises(ConfigError) as caught:
        build(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_corpus_is_named():
    with pytest.raises(ConfigError, match=r"^config: `corpus` is missing$"):
        config_from_dict({"sites": []}, base=Path())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such configuration file; `polyclinic init FOLDER` writes one"),
        (b"corpus = ", "not valid TOML"),
        (b"corpus = '\xff'", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, content, message):
    path = tmp_path / "f.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_folder_instead_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
