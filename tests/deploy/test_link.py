"""The way to the server: through a proxy where one is named, by IPv6, and never by a proxy here."""

import base64
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from polyclinic.deploy import server as server_module
from polyclinic.deploy.gateway import HEALTH, Door, gateway
from polyclinic.deploy.keys import ensure_certificates
from polyclinic.deploy.preflight import preflight
from polyclinic.deploy.site import request
from polyclinic.errors import ConfigError

from .conftest import Superlink, behind, invited, serving

pytest.importorskip("flwr")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Certificates of a server that has a name nobody but the proxy knows."""
    folder = tmp_path_factory.mktemp("elsewhere")
    ensure_certificates(folder, "server.invalid")
    return folder


@contextmanager
def proxy(port):
    """A proxy that takes every CONNECT to `port` of this machine: (its port, what it was asked)."""
    asked = []
    listening = socket.create_server(("127.0.0.1", 0))

    def pump(one, other):
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def serve():
        with suppress(OSError):
            while True:
                inside, _ = listening.accept()
                head = b""
                while b"\r\n\r\n" not in head:
                    head += inside.recv(1)
                asked.append(head.decode())
                outside = socket.create_connection(("127.0.0.1", port))
                inside.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                for pair in ((inside, outside), (outside, inside)):
                    thread = threading.Thread(target=pump, args=pair)
                    thread.start()
                    open_.append((thread, pair[0]))

    open_ = []
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1], asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for pumping, end in open_:
            pumping.join()
            end.close()


def test_a_site_joins_through_a_proxy(tmp_path, elsewhere, monkeypatch):
    _, invite = invited(tmp_path, elsewhere)
    with serving(elsewhere) as port, proxy(port) as (gate, asked):
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{gate}")
        found = request(replace(invite, address="server.invalid", port=port), "GET", HEALTH)
    assert found == (200, {"polyclinic": "server"})
    assert asked[0].startswith(f"CONNECT server.invalid:{port} HTTP/1.")
    credentials = base64.b64encode(b"me:p@ss").decode()
    assert f"Proxy-Authorization: Basic {credentials}\r\n" in asked[0]


def test_what_needs_no_proxy_is_reached_without(tmp_path, keys, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # nobody is there
    _, invite = invited(tmp_path, keys)
    with serving(keys) as port:
        assert request(replace(invite, port=port), "GET", HEALTH)[0] == 200


@pytest.mark.parametrize(
    "named", ["socks5://me:secret@127.0.0.1:1", "http://:3128", "http://a:b:c", "http://[::"]
)
@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_used_is_named(tmp_path, keys, monkeypatch, variable, named):
    monkeypatch.setenv(variable, named)
    _, invite = invited(tmp_path, keys)
    elsewhere = replace(invite, address="server.invalid")
    with pytest.raises(
        ConfigError, match=r"https_proxy: expected http://HOST:PORT, got .*no_prox"
    ) as found:
        request(elsewhere, "GET", HEALTH)
    assert "secret" not in str(found.value)


def test_a_proxy_that_is_away_is_one_line(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setenv("https_proxy", "127.0.0.1:1")
    register, invite = invited(tmp_path, elsewhere)
    register.invite(["north"], "tiny", "server.invalid", 8443, invite.ca, 7, invite.agreement)
    found = {c.what: c for c in preflight(tmp_path / "invites" / "north.invite", tmp_path / "site")}
    assert found["server"].mark == "wrong"
    assert "server.invalid, port 8443: cannot be reached (" in found["server"].text


def test_the_server_asks_after_its_own_health_without_a_proxy(tmp_path, keys, monkeypatch):
    def healthy(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    monkeypatch.setattr(Superlink, "do_GET", healthy, raising=False)
    for name in ("https_proxy", "all_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / "keys").symlink_to(keys)
    with behind(keys) as port:
        assert server_module._healthy(tmp_path, port)
    assert not server_module._healthy(tmp_path, port)


def test_a_server_listens_on_ipv6(tmp_path):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    ensure_certificates(tmp_path / "keys", "::1")
    _, invite = invited(tmp_path, tmp_path / "keys")
    with gateway(Door("::1", 0, tmp_path / "keys", lambda: 1, lambda *_: 1, dict)) as port:
        assert request(replace(invite, address="::1", port=port), "GET", HEALTH)[0] == 200
