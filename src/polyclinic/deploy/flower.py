"""Flower's programs: how they are called, and in which surroundings.

No telemetry, no search for updates, nothing installed at run time, and a home folder of their own
inside ours.
"""

import contextlib
import json
import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from polyclinic.deploy.folders import write_private
from polyclinic.deploy.link import no_proxy
from polyclinic.errors import ConfigError, RunError

SERVER, SITE = "POLYCLINIC_SERVER", "POLYCLINIC_SITE"
"""Variables that tell the parts of us that run inside Flower which folder is theirs."""
CONNECTION = "polyclinic"
APP = "polyclinic_app"
DATABASE = Path("superlink", "state.db")
PATIENCE = 120.0  # s
_PROGRAM = """#!/bin/sh
exec {python} -c 'import sys
{first}from {module} import {function}
sys.exit({function}())' "$@"
"""
_ALONE = """from polyclinic.deploy.alone import alone
alone(sys.argv.pop(1))
"""
SERVER_PROGRAMS = {
    "flower-superexec": ("flwr.supercore.cli", "flower_superexec"),
    "flwr-serverapp": ("flwr.superlink.cli", "flwr_serverapp"),
}
SITE_PROGRAMS = {
    "flower-superexec": ("flwr.supercore.cli", "flower_superexec"),
    "flwr-clientapp": ("polyclinic.deploy.site_process", "main"),
}
"""What Flower's long-running process may start by name, and what then runs. A site's
`flwr-clientapp` is ours: it runs Polyclinic as installed there, not what the server sent."""


def require() -> None:
    """`ConfigError` where Flower is not installed."""
    import importlib.util

    if importlib.util.find_spec("flwr") is None:
        raise ConfigError(
            "a federation across machines needs Flower, which is not installed; install "
            "polyclinic[deploy]"
        )


def surroundings(home: Path, programs: Path, **ours: str) -> dict[str, str]:
    """The environment of Flower's programs, which find `programs` by name and no others.

    A proxy that it names is not asked for this machine: its ports are nobody else's business.
    """
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), no_proxy())
    where = {"PATH": str(programs), "FLWR_HOME": str(home.absolute())}
    return {**os.environ, **quiet, **direct, **where, **ours}


def superlink(folder: Path, port: int) -> list[str]:
    """The command of a SuperLink on this machine alone."""
    keys = folder / "keys"
    return [
        _program("flower-superlink"),
        *("--ssl-ca-certfile", str(keys / "ca.crt")),
        *("--ssl-certfile", str(keys / "server.crt")),
        *("--ssl-keyfile", str(keys / "server.key")),
        *("--database", str(folder / DATABASE)),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def supernode(folder: Path, server: str, port: int) -> list[str]:
    """The command of a site's SuperNode; `port` is for its own processes, on this machine."""
    keys = folder / "keys"
    return [
        *(sys.executable, "-P", "-m", "polyclinic.deploy.node_process"),
        *("--root-certificates", str(keys / "ca.crt")),
        *("--auth-supernode-private-key", str(keys / "site.key")),
        *("--superlink", server),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
    ]


def write_connection(folder: Path, port: int) -> None:
    """Tell `flwr` where the SuperLink is."""
    text = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{port}"\n'
        f"root-certificates = {json.dumps(str((folder / 'keys' / 'ca.crt').absolute()))}\n"
    )
    write_private(folder / "superlink" / "home" / "config.toml", text.encode())


def write_app(folder: Path) -> Path:
    """The app that Flower asks for. Its client is empty: sites run what they have installed."""
    app = folder / "superlink" / "app"
    project = f"""[project]
name = "polyclinic-federation"
version = "1.0.0"
description = "The server's part of a Polyclinic federation"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "polyclinic"

[tool.flwr.app.components]
serverapp = "{APP}:server"
clientapp = "{APP}:client"
"""
    code = (
        "from flwr.clientapp import ClientApp\n\n"
        "from polyclinic.deploy.server_app import app as server\n\n"
        '__all__ = ["client", "server"]\n'
        "client = ClientApp()\n"
    )
    write_private(app / "pyproject.toml", project.encode())
    write_private(app / f"{APP}.py", code.encode())
    return app


def write_programs(folder: Path, programs: Mapping[str, tuple[str, str]]) -> Path:
    """Write `programs` into `folder`, which becomes the whole of PATH; gives it back, absolute.

    Of those that do the work one runs at a time.
    """
    folder = folder.absolute()
    for name, (module, function) in programs.items():
        working = name.startswith("flwr-")
        text = _PROGRAM.format(
            python=shlex.quote(sys.executable),
            first=_ALONE if working else "",
            module=module,
            function=function,
        )
        if working:
            lock = shlex.quote(str(folder / f"{name}.lock"))
            text = text.replace('"$@"', f'{lock} "$@"')
        write_private(folder / name, text.encode())
        (folder / name).chmod(0o700)
    return folder


def register(folder: Path, site: str, key: str, environment: dict[str, str]) -> int:
    """Make a site's public key known to the SuperLink: its node number.

    The same number again for a key that is known: whoever asked before may have been killed, or
    given up, before the number was noted.
    """
    public = folder / "superlink" / "keys" / f"{site}.pub"
    write_private(public, (key.strip() + "\n").encode())
    options = [str(public), CONNECTION, "--name", site, "--format", "json"]
    try:
        answer = _flwr(["supernode", "register", *options], environment)
    except RunError:
        if (node := registered(folder, key)) is None:
            raise
        return node
    return int(answer["node-id"])


def registered(folder: Path, key: str) -> int | None:
    """The number of the node that the SuperLink knows by a site's public key; None without one.

    Read from its database: `flwr supernode list` tells numbers, and neither keys nor names.
    """
    from cryptography.hazmat.primitives import serialization

    pem = serialization.load_ssh_public_key(key.encode("ascii")).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    database = (folder / DATABASE).absolute().as_uri()
    question = "SELECT node_id FROM node WHERE public_key = ? AND status != 'unregistered'"
    try:
        with contextlib.closing(sqlite3.connect(f"{database}?mode=ro", 10, uri=True)) as link:
            row = link.execute(question, (pem,)).fetchone()
    except sqlite3.Error:
        return None  # the error that made us look says more
    return None if row is None else int(row[0]) % 2**64  # SQLite has signed numbers alone


def submit(app: Path, environment: dict[str, str]) -> int:
    """Start the server's part in the SuperLink: the number that Flower gives the run."""
    return int(_flwr(["run", str(app), CONNECTION, "--format", "json"], environment)["run-id"])


def _flwr(arguments: Sequence[str], environment: dict[str, str]) -> dict[str, str]:
    command = [_program("flwr"), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(
            f"Flower has not answered `{shlex.join(command[1:3])}` within {PATIENCE:.0f} s; try "
            "again when the server's machine has less to do, its logs/superlink.log says more"
        ) from None
    start = done.stdout.find("{")
    try:
        found, _ = json.JSONDecoder().raw_decode(done.stdout[max(start, 0) :])
    except ValueError:
        found = {}
    if done.returncode != 0 or not found.get("success"):
        said = " ".join((done.stdout + done.stderr).split())[-300:]
        raise RunError(f"Flower refused `{shlex.join(command[1:3])}`: {said or done.returncode}")
    return dict(found)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
