"""A small federation of real processes on this machine, kept up as systemd would keep it up.

The server and three sites are `polyclinic server start` and `polyclinic site join`, with TLS and
Flower between them. Each site reaches the server through a proxy of its own, which is the network
between the two.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faults_proxy import Proxy
from faults_unit import Unit

SERVER = "server"
SITES = ("blood", "chest", "skin")
DISK = 96  # MiB; the size of the disks that become full
SAME_BITS = {
    "POLYCLINIC_DEVICE": "cpu",
    "POLYCLINIC_PRECISION": "float32",
    "OMP_NUM_THREADS": "1",
}
SETTINGS = """
name = "faults"
corpus = "{data}/corpus"
methods = ["universal"]

[server]
port = {port}
deadline = 600.0

[data]
image_size = 16

[mim]
epochs = 1
batch_size = 8

[local]
stages = {stages}
min_steps = 1
max_steps = 2
dense_head_epochs = 1
batch_size = 8

[universal]
distil_every = 2
distil_epochs = 1

[evaluation]
fine_tune_epochs = 1
fine_tune_max_steps = 2
bootstrap = 20
"""


class Federation:
    """Three sites and a server in `folder`; use as a context manager, it ends them all.

    `surroundings(who)` gives variables of the environment for the server or one site. Afterwards
    `left_behind` has the commands that did not end with those that were ended.
    """

    def __init__(
        self,
        folder: Path,
        data: Path,
        stages: int,
        surroundings: Callable[[str], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self.folder, self.data, self.stages = folder, data, stages
        self.port = free_port()
        self.left_behind: list[str] = []
        self.proxies = {name: Proxy(self.port) for name in SITES}
        text = settings(data, self.port, stages)
        (folder / "federation.toml").write_text(text, encoding="utf-8")
        (folder / "logs").mkdir()
        start = ("server", "start", "federation.toml", "--state", SERVER)
        self.units = {SERVER: self._unit(SERVER, start, "failure", surroundings)}
        for name in SITES:
            join = ("site", "join", f"{name}.invite", "--data", str(data / "sites" / name))
            join += ("--state", f"site-{name}")
            self.units[name] = self._unit(name, join, "always", surroundings)

    def _unit(
        self, who: str, words: tuple[str, ...], on: str,
        surroundings: Callable[[str], Mapping[str, str]],
    ) -> Unit:  # fmt: skip
        environment = {
            **os.environ, **SAME_BITS, **surroundings(who),
            "POLYCLINIC_CACHE": str(self.folder / "cache"), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "polyclinic", *words]
        return Unit(command, self.folder, self.folder / "logs" / f"{who}.log", environment, on)

    def state(self, who: str) -> Path:
        """The folder of the server or of a site."""
        return self.folder / (SERVER if who == SERVER else f"site-{who}")

    @property
    def result(self) -> dict[str, Any]:
        """What `federation.json` says; empty while there is none."""
        try:
            text = (self.state(SERVER) / "run" / "federation.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        return dict(json.loads(text))

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, and the server has noticed."""
        return self.units[SERVER].succeeded and bool(self.result.get("finished"))

    @property
    def progress(self) -> float:
        """The share of the stages and the judging that is in the server's journal."""
        path = self.state(SERVER) / "run" / "metrics.jsonl"
        done = path.read_text(encoding="utf-8").count('"kind": "stage"') if path.exists() else 0
        return done / (self.stages + 1)

    def look(self) -> None:
        """Keep all units up; a site is started when its invitation has come."""
        for who, unit in self.units.items():
            invite = self.folder / f"{who}.invite"
            if who != SERVER and not invite.exists() and not self._invited(who, invite):
                continue
            unit.look()

    def _invited(self, site: str, invite: Path) -> bool:
        """Carry the invitation to the site, whose way to the server is the proxy."""
        made = self.state(SERVER) / "invites" / invite.name
        if not (self.state(SERVER) / "ready").exists() or not made.exists():
            return False
        said = json.loads(made.read_text(encoding="utf-8"))
        invite.write_text(json.dumps(said | {"port": self.proxies[site].port}), encoding="utf-8")
        return True

    @property
    def joined(self) -> bool:
        """Whether all sites have joined."""
        return all((self.state(name) / "site.json").exists() for name in SITES)

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End everything."""
        for unit in reversed(self.units.values()):
            unit.end()
        deadline = time.monotonic() + 30.0
        while (found := self._own_processes()) and time.monotonic() < deadline:
            time.sleep(0.5)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for proxy in self.proxies.values():
            proxy.close()
        self.left_behind = list(found.values())

    def _own_processes(self) -> dict[int, str]:
        """Every process whose surroundings name the folder, with its command."""
        found = {}
        mark = str(self.folder).encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes() and int(path.parent.name) != os.getpid():
                    words = (path.parent / "cmdline").read_bytes().split(b"\0")
                    found[int(path.parent.name)] = b" ".join(words).decode(errors="replace")
        return found


def settings(data: Path, port: int, stages: int) -> str:
    """The text of the server's `federation.toml`."""
    sites = "".join(f'\n[[sites]]\nname = "{name}"\n' for name in SITES)
    return SETTINGS.format(data=data, port=port, stages=stages) + sites


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_mount() -> bool:
    """Whether this user may have small disks of its own, in a namespace of mounts."""
    if not (shutil.which("unshare") and shutil.which("mount")):
        return False
    tried = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def mount_disk(folder: Path) -> None:
    """A disk of `DISK` MiB at `folder`, seen by this process and those that it starts."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "faults", str(folder)], check=True
    )


def unmount_disk(folder: Path) -> None:
    """Take away what `mount_disk` made."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False)
