"""Files that somebody has broken, or written to do harm, end as one line and never as a bug."""

import json
from dataclasses import replace

import pytest

from polyclinic.cli import main
from polyclinic.deploy.invites import read_invite
from polyclinic.deploy.keys import ensure_certificates
from polyclinic.deploy.settings import keep_deployment, load_deployment
from polyclinic.deploy.site import request
from polyclinic.deploy.status import states, states_in
from polyclinic.errors import ConfigError, RunError

from .conftest import invited

pytest.importorskip("flwr")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ca": "-----BEGIN CERTIFICATE-----\nAAAA\n"}, r"the server's authority is broken \("),
        ({"ca": ""}, r"the server's authority is broken \("),  # or it would trust everybody's
        ({"ca": "ü"}, r"the server's authority is broken \("),
        ({"address": "bad host"}, r"address: expected a name or an IP address, got 'bad host'"),
        ({"address": "a" * 70}, r"address: expected a name or an IP address, got 'aaa"),
        ({"address": "x." * 150 + "x"}, r"address: expected a name or an IP address, got 'x\.x"),
        ({"address": "256.1.1.1"}, r"expected a name or an IP address, got '256\.1\.1\.1'"),
        ({"address": "münchen.example"}, r"expected a name in ASCII.* write xn--mnchen-3ya\.examp"),
        ({"port": 0}, r"port: expected 1 to 65535, got 0"),
        ({"site": "../../evil"}, r"site: expected letters, digits, - and _, got '\.\./\.\./evil'"),
        ({"site": "else"}, r"site: expected one of north, south, got 'else'"),
        ({"expires": float("inf")}, r"expires: expected seconds since 1970, got inf"),
        ({"expires": float("nan")}, r"expires: expected seconds since 1970, got nan"),
        (
            {"agreement": {"sites": ["north"], "methods": ["\033[2J"], "seeds": [0]}},
            r"methods: expected some of universal, .*, got '\\x1b\[2J'",
        ),
        ({"agreement": 3}, r"agreement: expected a table, got 3"),
    ],
)
def test_a_broken_invitation_is_refused(tmp_path, keys, capsys, change, said):
    invited(tmp_path, keys)
    path = tmp_path / "invites" / "north.invite"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=rf"north\.invite: .*{said}|north\.invite: {said}"):
        read_invite(path)
    options = ["--data", str(tmp_path), "--state", str(tmp_path / "site")]
    assert main(["site", "join", str(path), *options]) == 2
    assert main(["site", "check", str(path), *options]) == 3
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("address", ["bad host", "a" * 70, "b" * 300])
def test_an_address_that_was_noted_before_is_one_line(tmp_path, keys, address):
    _, invite = invited(tmp_path, keys)
    with pytest.raises(RunError, match=r"the server cannot be reached"):
        request(replace(invite, address=address), "GET", "/")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('address = "klinik-münchen.de"', r"address: expected a name in ASCII.*write xn--klinik"),
        ('address = "-a"', r"address: expected a name or an IP address, got '-a'"),
        ('listen = ""', r"listen: expected a name or an IP address, got ''"),
        (f'listen = "{"a" * 70}"', r"listen: expected a name or an IP address, got 'aaa"),
    ],
)
def test_an_address_that_is_none_is_refused(hospitals, tmp_path, line, said):
    text = (hospitals / "federation.toml").read_text().replace("deadline = 600", line)
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_deployment(tmp_path / "f.toml")


def test_a_broken_authority_is_named_and_a_broken_certificate_made_again(tmp_path):
    ensure_certificates(tmp_path, "one.example")
    for name in ("server.crt", "server.key"):
        (tmp_path / name).write_text("broken")
        ensure_certificates(tmp_path, "one.example")
        assert "broken" not in (tmp_path / name).read_text()
    kept = {name: (tmp_path / name).read_bytes() for name in ("ca.key", "ca.crt")}
    for name in kept:
        (tmp_path / name).write_text("broken")
        with pytest.raises(RunError, match=rf"{name}: cannot be read \(.*restore it from a backup"):
            ensure_certificates(tmp_path, "one.example")
        (tmp_path / name).write_bytes(kept[name])
    ensure_certificates(tmp_path / "other", "one.example")
    (tmp_path / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(RunError, match=r"ca\.key: not the key of ca\.crt; restore both"):
        ensure_certificates(tmp_path, "one.example")


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {},
        {"digest": 1, "expires": 2},
        {"digest": "a", "expires": "b"},
        {"digest": "a", "expires": 1, "node": "x", "key": "k", "identity": "i"},
        {"digest": "a", "expires": 1, "node": "1"},
    ],
)
def test_a_broken_list_of_sites_is_named(tmp_path, keys, entry):
    register, _ = invited(tmp_path, keys)
    register.path.write_text(json.dumps({"north": entry}))
    said = r"sites\.json: expected what is known of each site, got .* for 'north'; restore it"
    for call in (
        register.nodes,
        register.roster,
        lambda: register.join("north", "code", "key", "id", lambda *_: 1),
        lambda: register.forget("north"),
        lambda: invited(tmp_path, keys),
    ):
        with pytest.raises(RunError, match=said):
            call()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deployment.json", {}),
        ("deployment.json", {"config": {"sites": 3}}),
        ("site.json", {"name": "north"}),
        ("site.json", []),
    ],
)
def test_one_broken_folder_hides_no_other(tmp_path, deployment, monkeypatch, capsys, name, content):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / name).write_text(json.dumps(content))
    keep_deployment(tmp_path / "good" / "deployment.json", deployment)
    found = {state.folder.name: state for state in states_in(tmp_path)}
    assert found["good"].lines == ("joined: 0 of 3; not yet: north, south, west",)
    assert found["broken"].kind == "unreadable"
    with pytest.raises(RunError, match=r"not as they were written|expected a JSON object"):
        states([tmp_path / "broken"])
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 0
    assert "unreadable broken: stopped" in capsys.readouterr().out
    assert main(["status", "broken"]) == RunError.exit_code


def test_a_site_that_has_forgotten_half_is_one_line(tmp_path, capsys):
    (tmp_path / "site.json").write_text('{"name": "north", "address": "a"}')
    for command in (
        ["site", "roster", str(tmp_path)],
        ["site", "join", "gone", "--data", str(tmp_path), "--state", str(tmp_path)],
    ):
        assert main(command) == RunError.exit_code
        assert "site.json: `port` is missing or of another kind" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--background"]])
def test_a_file_in_place_of_a_folder_is_one_line(tmp_path, hospitals, keys, capsys, options):
    invited(tmp_path, keys)
    (tmp_path / "file").write_text("")
    federation, invite = hospitals / "federation.toml", tmp_path / "invites" / "north.invite"
    for state in ("file", "file/below"):
        where = ["--state", str(tmp_path / state), *options]
        for command in (
            ["server", "start", str(federation), *where],
            ["site", "join", str(invite), "--data", str(tmp_path), *where],
        ):
            assert main(command) == RunError.exit_code
            said = capsys.readouterr().err
            assert "no folder can be made there (" in said or "cannot be read (" in said
