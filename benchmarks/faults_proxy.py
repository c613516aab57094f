"""The network between a site and the server: passes on what comes, until it is cut or garbled."""

import contextlib
import random
import socket
import struct
import threading

CHUNK = 2**16  # bytes
UP, DOWN = "up", "down"  # from the site to the server, and back
DIRECTIONS = (UP, DOWN)


class Proxy:
    """Listens on `port` of this machine and passes connections on to the port `target`."""

    def __init__(self, target: int) -> None:
        self.garbled = 0  # chunks in which bytes were flipped
        self._target = target
        self._guard = threading.Lock()
        self._links: set[socket.socket] = set()
        self._flips: dict[str, list[random.Random]] = {UP: [], DOWN: []}
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    def cut(self) -> None:
        """Drop all connections, and let no new ones in."""
        with self._guard:
            listener, self._listener = self._listener, None
            links, self._links = self._links, set()
        if listener is not None:
            _drop(listener)
        for link in links:
            _drop(link)

    def mend(self) -> None:
        """Let connections in, on the same port as ever."""
        with self._guard:
            if self._listener is not None:
                return
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(128)
            self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def garble(self, direction: str, rng: random.Random) -> None:
        """Flip bytes in what passes next in a direction."""
        with self._guard:
            self._flips[direction].append(rng)

    def close(self) -> None:
        """End for good."""
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket()
            try:
                far.connect(("127.0.0.1", self._target))
            except OSError:  # no server there: as a machine answers whose port is closed
                _drop(near)
                far.close()
                continue
            with self._guard:
                if self._listener is not listener:
                    _drop(near)
                    _drop(far)
                    return
                self._links |= {near, far}
            for source, sink, direction in ((near, far, UP), (far, near, DOWN)):
                threading.Thread(
                    target=self._pass_on, args=(source, sink, direction), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(CHUNK):
                sink.sendall(self._maybe_garbled(content, direction))
        for link in (source, sink):  # what ends on one side ends on the other
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        with self._guard:
            self._links.discard(source)
        source.close()  # the other one belongs to the thread of the other direction

    def _maybe_garbled(self, content: bytes, direction: str) -> bytes:
        with self._guard:
            waiting, self._flips[direction] = self._flips[direction], []
            self.garbled += len(waiting)
        for rng in waiting:
            content = garbled(content, rng)
        return content


def garbled(content: bytes, rng: random.Random) -> bytes:
    """`content` of the same length, with 1 to 8 of its bytes changed."""
    changed = bytearray(content)
    for place in rng.sample(range(len(content)), min(len(content), rng.randint(1, 8))):
        changed[place] ^= rng.randint(1, 255)
    return bytes(changed)


def _drop(link: socket.socket) -> None:
    """Close at once, with a reset where there is a connection."""
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()
