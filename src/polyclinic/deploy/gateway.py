"""The one door of a server: TLS, and behind it joining and the part of Flower that sites need.

Flower's SuperLink has one port for everything, and whoever reaches it may start programs on all
sites. So it listens on this machine alone, and the gateway passes on what a site's node needs and
nothing else. Those requests carry the signature of the node's key, which the SuperLink verifies.
"""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from polyclinic.deploy.keys import is_public_key
from polyclinic.deploy.roster import is_identity, may_ask
from polyclinic.errors import KnowledgeError, RunError

JOIN, HEALTH, ROSTER = "/polyclinic/join", "/polyclinic/health", "/polyclinic/roster"
PASSED_ON = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
"""What of Flower's interface a node uses once it has been registered."""

LONGEST_JOIN = 16 * 2**10  # bytes
LONGEST_REQUEST = 2**20  # bytes
LONGEST_ANSWER = 2**30  # bytes; what a site sends, in one piece
ANSWERS = frozenset({"/v1/fleet/push-object", "/v1/fleet/push-messages"})
MOST_CONNECTIONS = 256
DROPPED = 64 * 2**10  # bytes; so much of what is refused is read, and the rest is not
SILENCE = 60.0  # s after which a connection that says nothing is closed
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date"}
)
"""Headers that belong to one connection, and those that are written again."""

Join = Callable[[str, str, str, str], int]
"""(site, code, public key, public key for secure aggregation) -> node number; `KnowledgeError`
where the code is not good."""


@dataclass(frozen=True)
class Door:
    """Where the gateway listens, and what lies behind it."""

    listen: str
    port: int
    keys: Path  # folder with ca.crt, server.crt, server.key
    superlink: Callable[[], int]  # its port on this machine
    join: Join
    roster: Callable[[], dict[str, str]]  # of the sites that have joined


@contextmanager
def gateway(door: Door) -> Iterator[int]:
    """Keep the door open in the block; gives the port. `RunError` where it cannot be opened."""
    inside = ssl.create_default_context(cafile=str(door.keys / "ca.crt"))
    outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outside.minimum_version = ssl.TLSVersion.TLSv1_2
    outside.load_cert_chain(door.keys / "server.crt", door.keys / "server.key")
    handler = type("Handler", (_Handler,), {"door": door, "inside": inside})
    try:
        server = _Server((door.listen, door.port), handler)
    except OSError as error:
        raise RunError(
            f"server.listen {door.listen}, port {door.port}: cannot be opened ({error}); choose "
            "another server.port, or stop what uses it"
        ) from None
    server.tls = outside
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    tls: ssl.SSLContext

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # here, in the connection's own thread: who stays silent keeps nobody else waiting
        request.settimeout(SILENCE)
        with self.tls.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever knocks without TLS, or goes away, is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    door: Door
    inside: ssl.SSLContext
    _link: http.client.HTTPSConnection | None = None

    def do_GET(self) -> None:
        if self.path == HEALTH:
            self._answer(200, {"polyclinic": "server"})
        else:
            self._answer(404, {"error": "there is nothing here"})

    def do_POST(self) -> None:
        length = self._length()
        own = {JOIN: self._join, ROSTER: self._roster}
        longest = LONGEST_ANSWER if self.path in ANSWERS else LONGEST_REQUEST
        longest = LONGEST_JOIN if self.path in own else longest
        known = self.path in own or self.path in PASSED_ON
        if not known or length is None or length > longest:
            self.close_connection = True
            self.rfile.read(min(length or 0, DROPPED))  # a reset would come before the answer
            code = 404 if not known else 411 if length is None else 413
            self._answer(code, {"error": "there is nothing here" if not known else "too long"})
            return
        body = self.rfile.read(length)
        own.get(self.path, self._pass_on)(body)

    def finish(self) -> None:
        """End the connection behind with the one in front."""
        super().finish()
        if self._link is not None:
            self._link.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: Flower's own log names the requests."""

    def _length(self) -> int | None:
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isdecimal() else None

    def _join(self, body: bytes) -> None:
        try:
            asked = json.loads(body)
            names = ("site", "code", "key", "identity")
            site, code, key, identity = (asked[name] for name in names)
            texts = all(isinstance(text, str) for text in (site, code, key, identity))
            good = texts and is_public_key(key) and is_identity(identity)
        except (ValueError, TypeError, KeyError):
            good = False
        if not good:
            self._answer(400, {"error": "expected a site, a code and two public keys"})
            return
        try:
            node = self.door.join(site, code, key, identity)
        except KnowledgeError as error:
            time.sleep(1)  # guessing shall take long
            self._answer(403, {"error": str(error)})
        except RunError as error:
            self._answer(503, {"error": str(error)})
        else:
            self._answer(200, {"node": str(node)})

    def _roster(self, body: bytes) -> None:
        known = self.door.roster()
        try:
            asked = json.loads(body)
            good = may_ask(known, str(asked["site"]), str(asked["signature"]))
        except (ValueError, TypeError, KeyError):
            good = False
        if good:
            self._answer(200, {"sites": known})
        else:
            self._answer(403, {"error": "not a site of this federation"})

    def _pass_on(self, body: bytes) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        try:
            if self._link is None:
                self._link = http.client.HTTPSConnection(
                    "127.0.0.1", self.door.superlink(), context=self.inside, timeout=SILENCE
                )
            self._link.request("POST", self.path, body, headers)
            reply = self._link.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException):
            if self._link is not None:
                self._link.close()
            self._link = None
            self._answer(503, {"error": "the server is starting again"})
            return
        self._send(reply.status, content, dict(reply.getheaders()))

    def _answer(self, code: int, content: Mapping[str, Any]) -> None:
        text = json.dumps(content).encode()
        self._send(code, text, {"Content-Type": "application/json"})

    def _send(self, code: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response_only(code)
        self.send_header("Date", self.date_time_string())
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
