"""`federation.secure` in a configuration: what it needs, and what it is refused with."""

from pathlib import Path

import pytest

from polyclinic.cli import main
from polyclinic.config import Config, config_from_dict, quick, secure_threshold
from polyclinic.deploy.settings import load_deployment
from polyclinic.errors import ConfigError

SECURE = {"secure": True, "norm_factor": 0}


def build(sites=4, federation=SECURE, **changes) -> Config:
    names = [f"s{i}" for i in range(sites)]
    table = {
        "corpus": "corpus",
        "sites": [{"name": name, "path": name} for name in names],
        "federation": federation,
        "universal": {"distil_every": 0},
        **changes,
    }
    return config_from_dict(table, base=Path("/base"), source="f.toml")


def test_what_it_needs_is_enough():
    config = build()
    assert config.federation.secure
    assert secure_threshold(config) == 3
    assert quick(config).universal.distil_every == 0
    build(universal={"distil_every": 4}, methods=["fedavg", "fedprox", "local", "mim"])


@pytest.mark.parametrize(
    ("sites", "threshold"), [(3, 3), (4, 3), (5, 4), (6, 5), (8, 6), (9, 7), (30, 21)]
)
def test_the_threshold_is_more_than_two_thirds(sites, threshold):
    assert secure_threshold(build(sites)) == threshold
    assert 3 * threshold > 2 * sites


def test_sites_that_are_held_out_do_not_count():
    assert secure_threshold(build(5, hold_out=["s4"])) == 3
    with pytest.raises(ConfigError, match=r"expected 3 sites or more that train, got 2"):
        build(3, hold_out=["s0"])


@pytest.mark.parametrize(
    ("federation", "changes", "text"),
    [
        (
            {},
            {"universal": {"exchange": "cyclic", "distil_every": 0}},
            r'universal.exchange = "parallel", got \'cyclic\' \(in turn',
        ),
        ({}, {"universal": {"distil_every": 2}}, r"universal.distil_every = 0, got 2 \(distillat"),
        (
            {},
            {"universal": {"distil_every": 0, "aggregation": "median"}},
            r'universal.aggregation = "mean", got \'median\' \(any other compares single changes',
        ),
        (
            {},
            {"universal": {"distil_every": 0, "aggregation": "trimmed-mean"}},
            r"got 'trimmed-mean'",
        ),
        ({}, {"universal": {"distil_every": 0, "aggregation": "krum"}}, r"got 'krum'"),
        ({"norm_factor": 10.0}, {}, r"federation.norm_factor = 0.0, got 10.0 \(nobody can meas"),
        ({"wire": "int8"}, {}, r"federation.wire = \"float32\", got 'int8'"),
        ({"compress": "zlib"}, {}, r"federation.compress = \"none\", got 'zlib'"),
        ({"rank": 4}, {}, r"federation.rank = 0, got 4 \(factors of changes do not add up"),
        ({"secure_threshold": 2}, {}, r"secure_threshold: expected 3 to 4 .*got 2"),
        ({"secure_threshold": 5}, {}, r"secure_threshold: expected 3 to 4 .*or 0; got 5"),
        ({"secure_threshold": -1}, {}, r"secure_threshold: expected 0 or more, got -1"),
        ({"secure_clip": 0.0}, {}, r"secure_clip: expected above 0, got 0"),
        ({"secure_clip": 1e6}, {}, r"secure_clip: expected at most 1000 \(no weight moves"),
    ],
)
def test_what_needs_single_changes_is_refused_with_the_reason(federation, changes, text):
    with pytest.raises(ConfigError, match=rf"f\.toml: federation\.{'.*' if federation else ''}"):
        build(federation={**SECURE, **federation}, **changes)
    with pytest.raises(ConfigError, match=text):
        build(federation={**SECURE, **federation}, **changes)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(
        ConfigError,
        match=r"sum of the changes alone, which needs federation.norm_factor = 0.0, got 10.0 .*; "
        r"universal.distil_every = 0, got 4 \(distillation \(`teachers` mode\)",
    ):
        build(federation={"secure": True}, universal={})


def test_noise_that_is_added_to_single_changes_is_refused():
    with pytest.raises(ConfigError, match=r"privacy.site_epsilon = 0.0, got 4.0 \(the server can"):
        build(methods=["universal"], privacy={"site_epsilon": 4.0})


def test_two_sites_are_too_few():
    with pytest.raises(
        ConfigError, match=r"3 sites or more .*got 2; of two, each learns the other"
    ):
        build(2)


def test_a_method_on_the_command_line_is_refused_as_well(tmp_path, capsys):
    (tmp_path / "f.toml").write_text(
        'corpus = "corpus"\nmethods = ["fedavg"]\n[federation]\nsecure = true\nnorm_factor = 0.0\n'
        + "".join(f'[[sites]]\nname = "{name}"\npath = "{name}"\n' for name in "abc")
    )
    assert main(["run", str(tmp_path / "f.toml"), "--method", "universal", "--dry-run"]) == 2
    assert "--method: federation.secure: " in capsys.readouterr().err


def test_across_machines_it_needs_the_same(tmp_path):
    text = (
        'corpus = "corpus"\nmethods = ["fedavg"]\n[federation]\nsecure = true\nnorm_factor = 0.0\n'
        + "".join(f'[[sites]]\nname = "{name}"\n' for name in "abc")
    )
    (tmp_path / "f.toml").write_text(text)
    assert load_deployment(tmp_path / "f.toml").config.federation.secure
    (tmp_path / "f.toml").write_text(text.replace('"fedavg"', '"universal"'))
    with pytest.raises(ConfigError, match=r"federation.secure: .*distil_every = 0, got 4"):
        load_deployment(tmp_path / "f.toml")


@pytest.mark.parametrize(
    ("federation", "text"),
    [
        ({"echo": 1}, r"f\.toml: federation.echo: expected 3 to 4 \(more than half .*; got 1"),
        ({"echo": 2}, r"expected 3 to 4 \(more than half of the sites that train.*, or 0; got 2"),
        ({"echo": 5}, r"expected 3 to 4 .*got 5"),
        ({"echo": -1}, r"federation.echo: expected 0 or more, got -1"),
        ({**SECURE, "echo": 3}, r"federation.echo: under federation.secure sites compare .*leave"),
    ],
)
def test_so_few_signatures_that_two_groups_could_have_them_are_refused(federation, text):
    with pytest.raises(ConfigError, match=text):
        build(federation=federation)


def test_in_turn_there_is_nothing_to_compare():
    universal = {"distil_every": 0, "exchange": "cyclic"}
    with pytest.raises(ConfigError, match=r"federation.echo: .* is sent an encoder of its own"):
        build(federation={"echo": 3}, universal=universal)
    build(federation={"echo": 3}, universal=universal, methods=["fedavg"])


def test_more_than_half_of_the_sites_may_compare():
    assert build(federation={"echo": 3}).federation.echo == 3
    assert build(5, hold_out=["s4"], federation={"echo": 3}).federation.echo == 3
