"""The configuration: reading, refusing, and writing it back."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.config import (
    METHODS,
    USUAL_METHODS,
    Config,
    MimConfig,
    SiteConfig,
    config_from_dict,
    config_to_dict,
    config_to_toml,
    load_config,
    quick,
    toml_value,
)
from polyclinic.errors import ConfigError

SMALLEST: dict[str, Any] = {"corpus": "corpus", "sites": [{"name": "a", "path": "a"}]}


def build(**changes: Any) -> Config:
    return config_from_dict({**SMALLEST, **changes}, base=Path("/base"), source="f.toml")


def test_the_smallest_configuration_gets_the_defaults():
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


def test_whole_numbers_are_accepted_where_a_float_is_expected():
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
        ({"corpus": "a"}, "is the site `a`; its images would reach the server"),
        ({"sites": [{"name": "a"}]}, "f.toml: sites[0]: `path` is missing"),
        ({"sites": {"name": "a"}}, "f.toml: sites: expected a list, got {'name': 'a'}"),
        ({"sites": []}, "f.toml: no site; add a [[sites]] table with name and path"),
        ({"sites": SMALLEST["sites"] * 2}, "f.toml: two sites are called `a`; names must differ"),
        ({"sites": [{"name": "a/b", "path": "a"}]}, "f.toml: site name 'a/b': use letters"),
        ({"sites": [{"name": "", "path": "a"}]}, "f.toml: site name '': use letters"),
        ({"name": "../x"}, "f.toml: name '../x': use letters"),
        ({"corpus": 3}, "f.toml: corpus: expected a path in quotes, got 3"),
        ({"corpus": "~no-such-user-here/x"}, "f.toml: corpus: no home folder is known for"),
        ({"jobs": "2"}, "f.toml: jobs: expected int, got '2'"),
        ({"jobs": True}, "f.toml: jobs: expected int, got True"),
        ({"quick": 1}, "f.toml: quick: expected bool, got 1"),
        ({"seeds": [0.5]}, "f.toml: seeds[0]: expected int, got 0.5"),
        ({"seeds": []}, "f.toml: seeds: expected at least one, each once, got []"),
        ({"seeds": [1, 1]}, "f.toml: seeds: expected at least one, each once, got [1, 1]"),
        ({"seeds": [-1]}, "f.toml: seeds: expected 0 or more, got -1"),
        ({"methods": []}, "f.toml: methods: expected at least one, each once"),
        (
            {"methods": ["fedavgg"]},
            "f.toml: methods[0]: expected one of universal, fedavg, fedprox, local, mim, "
            "centralised, fedbn, fedmim, contrastive, scratch; got 'fedavgg'; did you mean "
            "`fedavg`?",
        ),
        ({"preset": "q"}, "f.toml: preset: expected one of small, base; got 'q'"),
        ({"jobs": 0}, "f.toml: jobs: expected 1 or more, got 0"),
        ({"local": {"batch_size": 1}}, "f.toml: local.batch_size: expected 2 or more, got 1"),
        ({"local": {"stages": 0}}, "f.toml: local.stages: expected 1 or more, got 0"),
        ({"mim": {"learning_rate": 0}}, "f.toml: mim.learning_rate: expected above 0, got 0"),
        (
            {"local": {"learning_rate": float("nan")}},
            "f.toml: local.learning_rate: expected above 0, got nan",
        ),
        ({"fedprox": {"mu": float("inf")}}, "f.toml: fedprox.mu: expected 0 or more, got inf"),
        ({"mim": {"mask_ratio": 1.0}}, "mim.mask_ratio: expected above 0 and below 1, got 1.0"),
        ({"universal": {"trim": 0.5}}, "universal.trim: expected 0 to below 0.5, got 0.5"),
        ({"federation": {"norm_factor": 1}}, "norm_factor: expected 0, or above 1, got 1"),
        ({"federation": {"norm_factor": -2}}, "norm_factor: expected 0, or above 1, got -2"),
        ({"federation": {"wire": "int4"}}, "wire: expected one of float32, float16, int8; got"),
        ({"universal": {"teacher_drop": 1}}, "teacher_drop: expected 0 to below 1, got 1"),
        ({"data": {"max_unreadable": 2}}, "data.max_unreadable: expected 0 to 1, got 2"),
        ({"data": {"largest_side": 8}}, "data.largest_side: expected 16 or more, got 8"),
        (
            {"data": {"val_share": 0.5, "test_share": 0.5}},
            "f.toml: data.val_share and data.test_share: expected a sum below 0.9, so that enough "
            "is left to train on; got 1",
        ),
        ({"mim": {"patch": 6}}, "f.toml: mim.patch: expected a multiple of 4 px, got 6"),
        ({"mim": {"patch": 0}}, "f.toml: mim.patch: expected a multiple of 4 px, got 0"),
        (
            {"data": {"image_size": 40}},
            "f.toml: data.image_size: expected a multiple of 16 px and of mim.patch (8), got 40",
        ),
    ],
)
def test_what_is_wrong_is_named(changes, message):
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


def every_field_changed() -> Config:
    """A configuration in which nothing has its default value."""
    config = Config(
        sites=(SiteConfig("a", Path("/a"), "folders", "regression"), SiteConfig("b", Path("/b"))),
        corpus=Path('/c "quoted" \x7f é'),
        name="other",
        seeds=(7, 8),
        methods=("mim", "local"),
        hold_out=("b",),
        preset="base",
        jobs=3,
        quick=True,
    )
    other: dict[type, Any] = {
        int: lambda x: x + 16,
        float: lambda x: x * 0.75,
        bool: lambda x: not x,
    }
    literal = {
        "exchange": "cyclic",
        "weighting": "size",
        "aggregation": "median",
        "server_optimiser": "adam",
        "anchor": "proximal",
    }
    for section in ("data", "mim", "local", "universal", "fedprox", "evaluation"):
        table = getattr(config, section)
        values = {
            f.name: literal.get(f.name)
            or other[type(getattr(table, f.name))](getattr(table, f.name))
            for f in dataclasses.fields(table)
        }
        config = dataclasses.replace(config, **{section: dataclasses.replace(table, **values)})
    return dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=96))


def test_a_configuration_survives_dict_and_toml(tmp_path):
    config = every_field_changed()
    untouched = [
        f.name
        for f in dataclasses.fields(Config)
        if f.default is not dataclasses.MISSING and getattr(config, f.name) == f.default
    ]
    assert untouched == []
    assert config_from_dict(config_to_dict(config), base=Path("/elsewhere")) == config
    path = tmp_path / "f.toml"
    path.write_text(config_to_toml(config), encoding="utf-8")
    assert tomllib.loads(path.read_text(encoding="utf-8")) == config_to_dict(config)
    assert load_config(path) == config


VALUES = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
@settings(max_examples=80, derandomize=True, database=None)
def test_every_value_survives_toml(value):
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


def test_quick_keeps_the_sites_and_remains_valid():
    config = build(
        seeds=[4, 5],
        data={"image_size": 64},
        mim={"patch": 64},
        local={"stages": 2, "max_steps": 5},
    )
    small = quick(config)
    assert small.quick
    assert small.sites == config.sites
    assert small.seeds == (4,)
    assert (small.local.stages, small.local.max_steps) == (2, 5)
    assert config_from_dict(config_to_dict(small), base=Path()) == small
    assert quick(small) == small


def test_quick_raises_no_number_and_switches_nothing_on():
    config = build(data={"image_size": 16}, universal={"distil_every": 0, "distil_epochs": 0})
    small = quick(config)
    assert small.data.image_size == 16
    assert (small.universal.distil_every, small.universal.distil_epochs) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"jobs": 100_000},
            r"^f\.toml: jobs: expected at most 256 \(each is a process of its own\)",
        ),
        (
            {"data": {"image_size": 16_000}},
            r"data\.image_size: expected at most 1024 \(.*got 16000$",
        ),
        ({"data": {"largest_side": 10**6}}, r"data\.largest_side: expected at most 4096"),
        ({"local": {"batch_size": 10**9}}, r"local\.batch_size: expected at most 65536"),
        ({"mim": {"batch_size": 10**9}}, r"mim\.batch_size: expected at most 65536"),
        ({"evaluation": {"bootstrap": 10**9}}, r"evaluation\.bootstrap: expected at most 1000000"),
    ],
)
def test_numbers_that_can_only_be_slips(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)


# Privacy.

OF_SITES = {
    "methods": ["universal"],
    "privacy": {"site_epsilon": 8.0},
    "universal": {"distil_every": 0},
    "federation": {"norm_factor": 0.0},
}


def test_differential_privacy_is_off_unless_asked_for():
    assert (build().privacy.epsilon, build().privacy.site_epsilon) == (0, 0)
    assert build(privacy={"epsilon": 8, "unit": "patient"}).privacy.unit == "patient"


@pytest.mark.parametrize("method", ["fedbn", "fedmim"])
def test_a_method_that_cannot_train_privately_is_refused_with_a_budget(method):
    build(methods=["universal", method])
    with pytest.raises(ConfigError, match=rf"f.toml: privacy.epsilon is set, .* `{method}`"):
        build(methods=["universal", method], privacy={"epsilon": 8.0})


def test_noise_without_a_budget_is_no_privacy():
    with pytest.raises(ConfigError, match=r"privacy.noise is 1, but privacy.epsilon is 0"):
        build(privacy={"noise": 1.0})


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("epsilon", -1.0, r"privacy.epsilon: expected 0 or more"),
        ("epsilon", 1e4, r"privacy.epsilon: expected at most 1000 \(that large, it protects"),
        ("delta", 0.01, r"privacy.delta: expected at most 0.001"),
        ("delta", 0.0, r"privacy.delta: expected above 0"),
        ("clip", 0.0, r"privacy.clip: expected above 0"),
        ("site_clip", 0.0, r"privacy.site_clip: expected above 0"),
        ("patient_images", 0, r"privacy.patient_images: expected 1 or more"),
        ("unit", "image", r"privacy: unit: expected one of record, patient"),
    ],
)
def test_what_no_privacy_can_be_made_of_is_refused(key, value, text):
    with pytest.raises(ConfigError, match=text):
        build(privacy={key: value})


@pytest.mark.parametrize(
    ("table", "value", "text"),
    [
        ("methods", ["universal", "fedavg"], r"equal weight, and `fedavg` weighs them by size"),
        ("methods", ["universal", "fedbn"], r"equal weight, and `fedbn` weighs them by size"),
        ("universal", {"distil_every": 0, "weighting": "size"}, r'universal.weighting = "equal"'),
        ("universal", {"distil_every": 0, "aggregation": "median"}, r'aggregation = "mean"'),
        ("universal", {}, r"universal.distil_every = 0, got 4: distillation learns from each"),
        (
            "universal",
            {"distil_every": 0, "exchange": "cyclic"},
            r'universal.exchange = "parallel", got \'cyclic\': the noise is that of a mean',
        ),
        ("federation", {}, r"federation.norm_factor = 0, got 10.0: by the median"),
    ],
)
def test_whole_sites_are_private_only_where_each_weighs_the_same(table, value, text):
    assert build(**OF_SITES).privacy.site_epsilon == 8
    with pytest.raises(ConfigError, match=rf"f.toml: privacy.site_epsilon needs .*{text}"):
        build(**{**OF_SITES, table: value})
