"""Flower's programs: how they are called, and that a key which is known is no end of joining."""

import subprocess
import warnings
from pathlib import Path

import pytest

from polyclinic.deploy import flower, site
from polyclinic.deploy.folders import LEDGER, write_record
from polyclinic.deploy.invites import Register
from polyclinic.deploy.keys import ensure_site_key
from polyclinic.errors import KnowledgeError, RunError

from .conftest import invited

pytest.importorskip("flwr")


class Killed(BaseException):
    """The server ends here."""


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """(folder of a SuperLink, its state): a database as the installed Flower makes it."""
    from flwr.server.superlink.linkstate.linkstate_factory import LinkStateFactory
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.superlink.federation import NoOpFederationManager

    folder = tmp_path_factory.mktemp("superlink")
    database = folder / flower.DATABASE
    database.parent.mkdir()
    stores = ObjectStoreFactory(str(database))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Flower builds upon
        state = LinkStateFactory(str(database), NoOpFederationManager(), stores).state()
    return folder, state


def node_of(state, key):
    """What Flower's `supernode register` does."""
    from cryptography.hazmat.primitives import serialization

    pem = serialization.load_ssh_public_key(key.encode()).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return state.create_node("us", "us", pem, 30.0)


@pytest.fixture
def server(known, tmp_path, keys, monkeypatch):
    """(register, invitation of north, enrol, numbers that Flower gave), with a fake `flwr`."""
    folder, state = known
    register, invite = invited(tmp_path, keys)
    given = []

    def flwr(arguments, environment):
        assert arguments[:2] == ["supernode", "register"]
        try:
            given.append(node_of(state, Path(arguments[2]).read_text()))
        except ValueError as error:
            raise RunError(f"Flower refused `supernode register`: {error}") from None
        return {"node-id": str(given[-1])}

    monkeypatch.setattr(flower, "_flwr", flwr)
    return register, invite, lambda site, key: flower.register(folder, site, key, {}), given


def test_a_server_killed_after_flower_knew_the_key_lets_the_site_in(server, tmp_path):
    register, invite, enrol, given = server
    key = ensure_site_key(tmp_path / "site.key")

    def killed(site, key):
        enrol(site, key)
        raise Killed

    with pytest.raises(Killed):
        register.join("north", invite.code, key, "id", killed)
    assert register.nodes() == {}
    again = Register(tmp_path)
    assert again.join("north", invite.code, key, "id", enrol) == given[0]
    assert (again.nodes(), len(given)) == ({"north": given[0]}, 1)


def test_a_server_killed_before_or_after_that_lets_the_site_in_too(server, tmp_path):
    register, invite, enrol, given = server
    key = ensure_site_key(tmp_path / "site.key")

    def killed(*_):
        raise Killed

    with pytest.raises(Killed):
        register.join("north", invite.code, key, "id", killed)
    assert register.nodes() == {}
    assert register.join("north", invite.code, key, "id", enrol) == given[0]
    # and killed once the list was written, before the answer was sent
    assert register.join("north", invite.code, key, "id", killed) == given[0]


def test_flower_that_refuses_for_another_reason_is_an_error(server, tmp_path, monkeypatch):
    register, invite, enrol, _ = server

    def refuse(*_):
        raise RunError("Flower refused `supernode register`: no SuperLink")

    monkeypatch.setattr(flower, "_flwr", refuse)
    key = ensure_site_key(tmp_path / "site.key")
    with pytest.raises(RunError, match=r"no SuperLink"):
        register.join("north", invite.code, key, "id", enrol)
    with pytest.raises(RunError, match=r"no SuperLink"):  # no database to look into
        flower.register(tmp_path / "nowhere", "north", key, {})


def test_no_site_joins_by_the_key_of_another(server, tmp_path):
    from polyclinic.deploy.invites import read_invite

    register, invite, enrol, _ = server
    key = ensure_site_key(tmp_path / "site.key")
    register.join("north", invite.code, key, "id", enrol)
    south = read_invite(tmp_path / "invites" / "south.invite")
    with pytest.raises(KnowledgeError, match=r"this key is that of another site"):
        register.join("south", south.code, key, "other", enrol)


def test_flower_that_does_not_answer_is_one_line(monkeypatch):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    said = r"Flower has not answered `run app` within 120 s; .*logs/superlink\.log says more"
    with pytest.raises(RunError, match=said):
        flower._flwr(["run", "app"], {})


@pytest.mark.parametrize("before", [None, "intranet.example"])
def test_flowers_programs_reach_this_machine_without_a_proxy(tmp_path, monkeypatch, before):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    if before:
        monkeypatch.setenv("no_proxy", before)
    found = flower.surroundings(tmp_path, tmp_path)
    expected = "127.0.0.1,localhost,::1"
    expected = f"{before},{expected}" if before else expected
    assert found["NO_PROXY"] == found["no_proxy"] == expected


@pytest.mark.parametrize(
    ("address", "written"), [("::1", "[::1]:8443"), ("one.example", "one.example:8443")]
)
def test_a_node_is_told_where_the_server_is(tmp_path, monkeypatch, address, written):
    agreement = {"sites": ["north"]}
    record = {"name": "north", "address": address, "port": 8443, "ca": "", "agreement": agreement}
    write_record(tmp_path / "site.json", record)
    (tmp_path / LEDGER).touch()

    def start(name, command, *_):
        raise Killed(command())

    monkeypatch.setattr(site, "Kept", start)
    with pytest.raises(Killed) as asked:
        site.work(tmp_path, print)
    (command,) = asked.value.args
    assert command[command.index("--superlink") + 1] == written
