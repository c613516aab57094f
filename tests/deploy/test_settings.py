"""A federation's file: what is taken, what is refused, and that it survives being kept."""

import pytest

from polyclinic.deploy.settings import keep_deployment, kept_deployment, load_deployment
from polyclinic.errors import ConfigError


def test_names_alone_make_a_site(deployment):
    assert deployment.names == ("north", "south", "west")
    assert deployment.quorum == 2
    assert deployment.server.address == "127.0.0.1"
    assert deployment.config.seeds == (0,)


def test_what_is_kept_is_what_is_read(deployment, tmp_path):
    keep_deployment(tmp_path / "deployment.json", deployment)
    assert kept_deployment(tmp_path / "deployment.json") == deployment


def test_without_methods_it_is_universal(hospitals, tmp_path):
    text = (hospitals / "federation.toml").read_text().replace('methods = ["universal"]\n', "")
    (tmp_path / "f.toml").write_text(text)
    assert load_deployment(tmp_path / "f.toml").config.methods == ("universal",)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('["universal"]', '["universal", "local"]', r"methods: expected some of .*got `local`"),
        ('["universal"]', '["centralised"]', r"got `centralised`, which needs all data in one"),
        ("deadline = 600", "quorum = 4", r"quorum: expected 0 to 3, the number of sites, got 4"),
        ("deadline = 600", "deadline = 0.0", r"deadline: expected above 0"),
        ("deadline = 600", "deadline = 40000.0", r"deadline: expected 39600 at most, got 40000"),
        ("deadline = 600", "dedline = 1.0", r"server: unknown key `dedline`; did you mean"),
        ("port = 8443", "port = 70000", r"port: expected 1 to 65535"),
        ("deadline = 600", 'address = "a b"', r"address: expected a name or an IP address"),
        ('name = "west"', 'name = "west"\npath = "/data"', r"`path` is the site's own business"),
        (
            "[mim]",
            "[privacy]\nsite_epsilon = 8.0\n[mim]",
            r"site_epsilon needs .*distil_ev",
        ),
        ('corpus = "corpus"', 'corpus = "corpus"\nhold_out = ["west"]', r"hold_out: expected none"),
    ],
)
def test_what_cannot_be_deployed_is_refused(hospitals, tmp_path, old, new, text):
    source = (hospitals / "federation.toml").read_text()
    assert source.count(old) >= 1
    (tmp_path / "f.toml").write_text(source.replace(old, new, 1))
    with pytest.raises(ConfigError, match=text):
        load_deployment(tmp_path / "f.toml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml: no such configuration file"):
        load_deployment(tmp_path / "gone.toml")
