"""Invitations, keys, and the one door: good once, for the right key, and for nothing else."""

import http.client
import json
import socket
import ssl
import stat
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from polyclinic.cli import main
from polyclinic.deploy import gateway as door_module
from polyclinic.deploy import site as site_module
from polyclinic.deploy.agreement import Agreement, agreement_of
from polyclinic.deploy.gateway import HEALTH, JOIN, ROSTER, Door, gateway
from polyclinic.deploy.invites import Register, read_invite
from polyclinic.deploy.keys import ensure_certificates, ensure_site_key, is_public_key
from polyclinic.deploy.roster import check_roster, ensure_identity
from polyclinic.deploy.server import invite_again
from polyclinic.deploy.site import join, request
from polyclinic.errors import ConfigError, KnowledgeError, LedgerError, RunError

from .conftest import Superlink, invited, serving

pytest.importorskip("flwr")


def post(keys, port, path, body=b"", headers=None):
    context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    link = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    link.request("POST", path, body, headers or {})
    reply = link.getresponse()
    content = reply.read()
    link.close()
    return reply.status, content


def test_private_keys_are_for_their_owner_alone(keys, tmp_path):
    ensure_site_key(tmp_path / "site.key")
    for path in (keys / "ca.key", keys / "server.key", tmp_path / "site.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_certificates_are_kept_and_made_again_for_another_address(tmp_path):
    ensure_certificates(tmp_path, "one.example")
    ca, server = ((tmp_path / n).read_bytes() for n in ("ca.crt", "server.crt"))
    ensure_certificates(tmp_path, "one.example")
    assert (tmp_path / "server.crt").read_bytes() == server
    ensure_certificates(tmp_path, "two.example")
    assert (tmp_path / "ca.crt").read_bytes() == ca
    assert (tmp_path / "server.crt").read_bytes() != server


def test_a_key_is_made_once_and_only_its_public_half_is_given(tmp_path):
    public = ensure_site_key(tmp_path / "site.key")
    assert ensure_site_key(tmp_path / "site.key") == public
    assert is_public_key(public)
    assert not is_public_key((tmp_path / "site.key").read_text())
    assert not is_public_key("ssh-rsa AAAA")


def test_an_invitation_is_good_once_and_for_one_key(tmp_path, keys):
    register, invite = invited(tmp_path, keys)
    enrolled = []

    def enrol(site, key):
        enrolled.append((site, key))
        return 2**63 + 5

    with pytest.raises(KnowledgeError, match=r"not known"):
        register.join("north", "guessed", "key", "id", enrol)
    with pytest.raises(KnowledgeError, match=r"not known"):
        register.join("nobody", invite.code, "key", "id", enrol)
    with pytest.raises(KnowledgeError, match=r"not known"):
        register.join("south", invite.code, "key", "id", enrol)
    assert register.join("north", invite.code, "key", "id", enrol) == 2**63 + 5
    assert (
        register.join("north", invite.code, "key", "id", enrol) == 2**63 + 5
    )  # its answer got lost
    for keys_of_a_thief in (("another", "id"), ("key", "another")):
        with pytest.raises(KnowledgeError, match=r"has been used, by another key"):
            register.join("north", invite.code, *keys_of_a_thief, enrol)
    assert register.roster() == {"north": "id"}
    assert enrolled == [("north", "key")]
    assert register.nodes() == {"north": 2**63 + 5}
    assert not (tmp_path / "invites" / "north.invite").exists()


def test_the_server_keeps_no_code(tmp_path, keys):
    _, invite = invited(tmp_path, keys)
    assert invite.code not in (tmp_path / "sites.json").read_text()


def test_an_invitation_expires_and_is_renewed(tmp_path, keys):
    now = [1000.0]
    register, invite = invited(tmp_path, keys, clock=lambda: now[0])
    now[0] += 8 * 86400
    with pytest.raises(KnowledgeError, match=r"has expired"):
        register.join("north", invite.code, "key", "id", lambda *_: 1)
    _, renewed = invited(tmp_path, keys, clock=lambda: now[0])
    assert renewed.code != invite.code
    _, same = invited(tmp_path, keys, clock=lambda: now[0])
    assert same == renewed


@pytest.fixture
def federation(tmp_path, hospitals, deployment):
    """(the federation's file, its server's folder), with three sites that are invited."""
    file, folder = tmp_path / "federation.toml", tmp_path / "server"
    file.write_text((hospitals / "federation.toml").read_text())
    ensure_certificates(folder / "keys", "127.0.0.1")
    agreed = agreement_of(deployment.config)
    ca = (folder / "keys" / "ca.crt").read_text()
    Register(folder).invite(deployment.names, "tiny", "127.0.0.1", 8443, ca, 7, agreed)
    return file, folder


def test_a_site_that_lost_its_folder_is_invited_again(federation, capsys):
    file, folder = federation
    register = Register(folder)
    first = read_invite(folder / "invites" / "north.invite")
    others = (folder / "invites" / "south.invite").read_text()
    register.join("north", first.code, "key", "id", lambda *_: 1)
    assert main(["server", "invite", str(file), "north", "--state", str(folder)]) == 0
    said = capsys.readouterr()
    assert f"invitation for north: {folder}/invites/north.invite" in said.out
    assert "north had joined: its old keys count no more" in said.err
    assert register.nodes() == {}
    second = read_invite(folder / "invites" / "north.invite")
    assert second.agreement == first.agreement
    with pytest.raises(KnowledgeError, match=r"not known"):
        register.join("north", first.code, "key", "id", lambda *_: 1)
    assert register.join("north", second.code, "new", "other", lambda *_: 2) == 2
    assert (register.nodes(), register.roster()) == ({"north": 2}, {"north": "other"})
    assert (folder / "invites" / "south.invite").read_text() == others


def test_a_lost_invitation_is_replaced(federation, capsys):
    file, folder = federation
    first = read_invite(folder / "invites" / "west.invite")
    assert main(["server", "invite", str(file), "west", "--state", str(folder)]) == 0
    assert capsys.readouterr().err == ""
    assert read_invite(folder / "invites" / "west.invite").code != first.code


def test_whom_nobody_can_invite_again(federation, tmp_path, capsys):
    file, folder = federation
    for site, state, text in (
        ("nort", folder, "no site is called 'nort'; did you mean `north`?"),
        ("x", folder, "no site is called 'x'; sites: north, south, west"),
        ("north", tmp_path / "nowhere", "no server was started there"),
    ):
        assert main(["server", "invite", str(file), site, "--state", str(state)]) != 0
        assert text in capsys.readouterr().err
    compared = file.read_text().replace("[mim]", "[federation]\necho = 2\n\n[mim]")
    file.write_text(compared)
    invite = read_invite(folder / "invites" / "north.invite")
    Register(folder).join("north", invite.code, "key", "id", lambda *_: 1)
    assert main(["server", "invite", str(file), "north", "--state", str(folder)]) == 2
    assert "north cannot be replaced: the other sites know it by the key" in capsys.readouterr().err
    assert Register(folder).nodes() == {"north": 1}


def test_a_folder_of_an_earlier_invitation_is_refused(federation, tmp_path, monkeypatch):
    file, folder = federation
    invite = folder / "invites" / "north.invite"
    monkeypatch.setattr(site_module, "request", lambda *_: (200, {"node": "1"}))
    (tmp_path / "data").mkdir()
    options = {"data": tmp_path / "data", "format": "auto", "task": "auto", "tells_scores": True}
    assert join(invite, tmp_path / "site", **options) == "north"
    assert join(invite, tmp_path / "site", **options) == "north"
    invite_again(file, folder, "north")
    with pytest.raises(ConfigError, match=r"joined from here by an earlier invitation.*--state"):
        join(invite, tmp_path / "site", **options)
    assert join(invite, tmp_path / "new", **options) == "north"


def test_a_file_that_is_no_invitation_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file; expected the invitation"):
        read_invite(tmp_path / "gone.invite")
    (tmp_path / "odd.invite").write_text("{")
    with pytest.raises(ConfigError, match=r"odd\.invite: not an invitation"):
        read_invite(tmp_path / "odd.invite")


def test_a_site_joins_through_the_door(tmp_path, keys):
    register, _ = invited(tmp_path, keys)
    with serving(keys, lambda *asked: register.join(*asked, lambda *_: 77)) as port:
        register, _ = invited(tmp_path, keys, port)  # now with the port that it got
        (tmp_path / "data").mkdir()
        path = tmp_path / "invites" / "north.invite"
        options = {"format": "auto", "task": "auto", "tells_scores": True}
        kept = tmp_path / "kept.invite"
        kept.write_bytes(path.read_bytes())
        assert join(kept, tmp_path / "site", data=tmp_path / "data", **options) == "north"
        record = json.loads((tmp_path / "site" / "site.json").read_text())
        assert record["node"] == "77"
        assert join(kept, tmp_path / "site", data=tmp_path / "data", **options) == "north"
        with pytest.raises(RunError, match=r"does not let `north` in: .*by another key"):
            join(kept, tmp_path / "thief", data=tmp_path / "data", **options)
        ledger = tmp_path / "site" / "ledger.jsonl"
        assert ledger.read_bytes() == b""
        ledger.unlink()
        assert join(kept, tmp_path / "site", data=tmp_path / "data", **options) == "north"
        with pytest.raises(LedgerError, match=r"ledger\.jsonl: the site's ledger is gone"):
            site_module.work(tmp_path / "site", print)
        assert not ledger.exists()


@pytest.mark.parametrize("path", ["/v1/control/start-run", "/v1/control/register-node", "/", "/x"])
def test_what_sites_do_not_need_is_not_there(keys, path):
    with serving(keys) as port:
        assert post(keys, port, path, b"x")[0] == 404
        # a path that begins as one that is passed on
        assert post(keys, port, "/v1/fleet/pull-messages/../../control/start-run")[0] == 404


def test_what_a_node_needs_is_passed_on_with_its_signature(keys):
    with serving(keys) as port:
        status, content = post(
            keys, port, "/v1/fleet/pull-messages", b"\0body", {"flwr-signature": "s"}
        )
    assert (status, content) == (207, b"/v1/fleet/pull-messages s \0body")


def test_while_the_superlink_starts_again_the_door_says_so(keys):
    with gateway(Door("127.0.0.1", 0, keys, lambda: 1, lambda *_: 1, dict)) as port:
        assert post(keys, port, "/v1/fleet/pull-messages", b"x")[0] == 503


def test_too_much_and_too_odd_is_refused(keys, monkeypatch):
    monkeypatch.setattr(door_module, "LONGEST_REQUEST", 10)
    monkeypatch.setattr(door_module, "LONGEST_ANSWER", 20)
    with serving(keys) as port:
        assert post(keys, port, "/v1/fleet/pull-messages", b"x" * 11)[0] == 413
        assert post(keys, port, "/v1/fleet/push-object", b"x" * 21)[0] == 413
        assert post(keys, port, JOIN, b"x" * 17000)[0] == 413
        for body in (b"{", b"[]", b"{}", b'{"site": 1, "code": "", "key": ""}'):
            assert post(keys, port, JOIN, body)[0] == 400


def test_who_only_holds_connections_gets_so_many_and_no_more(keys, monkeypatch):
    monkeypatch.setattr(door_module, "MOST_CONNECTIONS", 2)
    with serving(keys) as port:
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        time.sleep(0.5)  # until they are taken
        with pytest.raises(OSError, match=r"."):
            post(keys, port, "/v1/fleet/pull-messages", b"x")
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError):
                assert post(keys, port, "/v1/fleet/pull-messages", b"x")[0] == 207
                break
        else:
            pytest.fail("connections that ended are still counted")


def test_a_server_with_another_certificate_is_not_trusted(tmp_path, keys):
    ensure_certificates(tmp_path / "other", "127.0.0.1")
    _, invite = invited(tmp_path, tmp_path / "other", 1)
    with serving(keys) as port, pytest.raises(RunError, match=r"not the server of this invitation"):
        request(replace(invite, port=port), "GET", HEALTH)


def test_a_server_that_is_not_there_is_one_line(tmp_path, keys):
    _, invite = invited(tmp_path, keys, 1)
    with pytest.raises(RunError, match=r"port 1: the server cannot be reached .*firewall"):
        request(invite, "GET", HEALTH)


@pytest.mark.parametrize("content", [b"[1]", b"hello"])
def test_an_answer_that_no_server_of_ours_gives_is_one_line(tmp_path, keys, monkeypatch, content):
    def answer(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    monkeypatch.setattr(Superlink, "do_POST", answer)
    _, invite = invited(tmp_path, keys, 1)
    with (
        serving(keys) as port,
        pytest.raises(RunError, match=r"the server cannot be reached \(.+\)"),
    ):
        request(replace(invite, port=port), "POST", "/v1/fleet/get-run", b"x")


def test_who_talks_no_tls_disturbs_nobody(keys, capfd):
    with serving(keys) as port:
        with socket.create_connection(("127.0.0.1", port), 10) as plain, suppress(OSError):
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.recv(100)
        assert post(keys, port, "/v1/fleet/get-run", b"x")[0] == 207
    assert capfd.readouterr().err == ""


def test_without_flower_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"install polyclinic\[deploy\]"):
        site_module.work(tmp_path, print)


def test_an_invitation_to_something_else_is_written_anew(tmp_path, keys):
    _, first = invited(tmp_path, keys)
    agreed = Agreement(("north", "south"), ("universal",), (0, 1))
    _, second = invited(tmp_path, keys, agreed=agreed)
    assert second.agreement == agreed != first.agreement
    assert second.code != first.code


def test_sites_are_told_the_keys_of_all_and_confirm_what_they_compared(tmp_path, keys):
    (tmp_path / "data").mkdir()
    told = {}
    with serving(keys, lambda *a: register.join(*a, lambda *_: 7), lambda: told) as port:
        register, _ = invited(tmp_path, keys, port)
        options = {"format": "auto", "task": "auto", "tells_scores": True}
        for name in ("north", "south"):
            invite = tmp_path / "invites" / f"{name}.invite"
            join(invite, tmp_path / name, data=tmp_path / "data", **options)
            told.update(register.roster())
            if name == "north":
                with pytest.raises(RunError, match=r"south have not joined yet"):
                    site_module.roster(tmp_path / "north")
        real, stranger = dict(told), "ab" * 32
        found, mark, confirmed = site_module.roster(tmp_path / "north")
        assert (found, confirmed) == (real, False)
        assert site_module.roster(tmp_path / "south")[1] == mark
        # the server shows north a key of its own for south: north cannot know, south's mark differs
        told["south"] = stranger
        assert site_module.roster(tmp_path / "north")[1] != mark
        with pytest.raises(KnowledgeError, match=r"has the fingerprint .*, and not"):
            site_module.roster(tmp_path / "north", mark)
        # and for north itself
        told.update(real | {"north": stranger})
        with pytest.raises(RunError, match=r"not a site of this federation"):
            site_module.roster(tmp_path / "north")
        told.update(real)
        assert site_module.roster(tmp_path / "north", mark.upper().replace("-", " "))[2]
        told["south"] = stranger  # later: it is fixed
        assert site_module.roster(tmp_path / "north") == (real, mark, True)
        with pytest.raises(KnowledgeError, match=r"and not"):
            site_module.roster(tmp_path / "north", mark)
        assert post(keys, port, ROSTER, b'{"site": "north", "signature": "00"}')[0] == 403
        assert post(keys, port, ROSTER, b"[]")[0] == 403


def test_a_roster_with_another_key_for_the_site_itself_is_refused(tmp_path):
    own = ensure_identity(tmp_path)
    names = ("north", "south")
    check_roster(tmp_path, "north", names, {"north": own, "south": "ab" * 32})
    for roster, text in (
        ({"north": "cd" * 32, "south": "ab" * 32}, r"another key for 'north' than this site's own"),
        ({"north": own, "south": own}, r"one key for two sites"),
        ({"north": own}, r"expected a key for each of north, south"),
        ({"north": own, "south": "zz"}, r"expected a key for each"),
        (["north", "south"], r"not a table of sites and keys, got \['north', 'south'\]; ask"),
        ({"north": own, 2: "ab" * 32}, r"not a table of sites and keys"),
        ({"north": own, "south": ["a"] * 64}, r"not a table of sites and keys"),
        (None, r"not a table of sites and keys, got None"),
    ):
        with pytest.raises(KnowledgeError, match=text):
            check_roster(tmp_path, "north", names, roster)
