"""What is written is read back as it was."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.config import (
    Config,
    SiteConfig,
    config_from_dict,
    config_to_dict,
    config_to_toml,
    load_config,
    toml_value,
)


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
