"""The coordinator's server: keys, invitations, the gateway, Flower's SuperLink, and the run.

Everything ends with this process, and everything goes on when it is started again.
"""

import contextlib
import http.client
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from polyclinic.deploy import flower, folders
from polyclinic.deploy.agreement import agreement_of
from polyclinic.deploy.folders import STATUS, read_record, running, working_in
from polyclinic.deploy.gateway import Door, gateway
from polyclinic.deploy.invites import Register
from polyclinic.deploy.keys import ensure_certificates
from polyclinic.deploy.settings import Deployment, keep_deployment, load_deployment
from polyclinic.deploy.supervise import Kept
from polyclinic.errors import ConfigError, RunError, did_you_mean
from polyclinic.federation.privacy.accounting import need

DEPLOYMENT = "deployment.json"
RUN, RESULT = "run", "federation.json"
READY = "ready"
COORDINATOR, FAILURE = "coordinator", "failure.json"
STARTING = 300.0  # s that the run may take to begin after it was submitted
TRIES = 5  # times that the run may end without getting on
PAUSE = 0.5  # s
Say = Callable[[str], None]


def serve(file: Path, folder: Path, say: Say) -> Path:
    """Run the federation of `file` in `folder` to its end; the path of the result.

    Raises `ConfigError`, `RunError`, and `DataError` for the corpus; `KeyboardInterrupt` when it is
    asked to stop, after everything it started has ended.
    """
    flower.require()
    deployment = load_deployment(file)
    if deployment.config.privacy.site_epsilon:
        need()
    with working_in(folder), asked_to_stop():
        keep_deployment(folder / DEPLOYMENT, deployment)
        keys, server = folder / "keys", deployment.server
        ensure_certificates(keys, server.address)
        register = Register(folder)
        _invite(deployment, register, keys, say)
        for left in (FAILURE, READY, f"waiting-{STATUS}", f"progress-{STATUS}"):
            (folder / left).unlink(missing_ok=True)
        home = folder / "superlink" / "home"
        programs = flower.write_programs(folder / "superlink" / "programs", flower.SERVER_PROGRAMS)
        environment = flower.surroundings(home, programs, **{flower.SERVER: str(folder.absolute())})
        port = free_port()
        flower.write_connection(folder, port)
        app = flower.write_app(folder)
        enrolling = threading.Lock()

        def enrol(site: str, key: str) -> int:
            with enrolling:
                _until_healthy(folder, port)
                node = flower.register(folder, site, key, environment)
            say(f"{site} has joined")
            return node

        door = Door(
            server.listen,
            server.port,
            keys,
            lambda: port,
            lambda site, code, key, identity: register.join(site, code, key, identity, enrol),
            register.roster,
        )
        superlink = Kept(
            "superlink",
            lambda: flower.superlink(folder, port),
            environment,
            folder / "logs" / "superlink.log",
        )
        with superlink, gateway(door), _announced(folder):
            say(f"sites reach the server at {server.address}, port {server.port}")
            return _until_finished(folder, app, port, superlink, environment, say)


def invite_again(file: Path, folder: Path, site: str) -> tuple[Path, bool]:
    """Write a new invitation for a site that has lost its folder or its invitation.

    What it had, keys included, counts no more. Returns where the invitation is, and whether the
    site had joined. Works beside a running server. Raises `ConfigError` and `RunError`.
    """
    deployment, register = load_deployment(file), Register(folder)
    if not (folder / "keys" / "ca.crt").exists():
        raise RunError(f"{folder}: no server was started there; use `polyclinic server start`")
    if site not in deployment.names:
        hint = did_you_mean(site, deployment.names, f"; sites: {', '.join(deployment.names)}")
        raise ConfigError(f"{file}: no site is called {site!r}{hint}")
    federation = deployment.config.federation
    if site in register.nodes() and (federation.secure or federation.echo):
        raise ConfigError(
            f"{site} cannot be replaced: the other sites know it by the key in the roster that "
            "they have confirmed; begin anew, with a new --state and new invitations"
        )
    joined = register.forget(site)
    _invite(deployment, register, folder / "keys", lambda _: None)
    return register.invites / f"{site}.invite", joined


def stop(folder: Path) -> bool:
    """Stop the server that works in `folder`; False where it does not work.

    `RunError` where no server was started there.
    """
    if not (folder / DEPLOYMENT).exists():
        raise RunError(f"{folder}: no server was started there; name its folder with --state")
    return folders.stop(folder)


def ready(folder: Path) -> bool:
    """Whether a server works in `folder` and lets sites in, or has finished already."""
    return running(folder) is not None and (folder / READY).exists()


def _until_finished(
    folder: Path, app: Path, port: int, superlink: Kept, environment: dict[str, str], say: Say
) -> Path:
    """Keep the SuperLink up, and the run going in it; the path of its result."""
    result, journal = folder / RUN / RESULT, folder / RUN / "metrics.jsonl"
    submitted: float | None = None
    seen, tries, length, told = False, 0, 0, ("", 0.0)
    while True:
        code = superlink.look()
        if code is not None:
            say(f"the SuperLink ended with code {code}; it is started again, and the run goes on")
            submitted = None
        working = running(folder / COORDINATOR) is not None
        if read_record(result).get("finished"):
            return result
        _raise_failure(folder)
        seen = seen or working
        grown = journal.stat().st_size if journal.exists() else 0
        if grown > length:
            tries, length = 0, grown
        if submitted is None or (not working and (seen or time.monotonic() > submitted + STARTING)):
            if tries >= TRIES:
                raise RunError(
                    f"{folder}: the run ended {TRIES} times without getting on; "
                    f"{folder / 'logs' / 'superlink.log'} says why"
                )
            if superlink.alive and _healthy(folder, port):
                submitted, seen, tries = time.monotonic(), False, tries + 1
                _submit(folder, app, environment, say)
        told = _tell_changes(folder, told, say)
        time.sleep(PAUSE)


def _submit(folder: Path, app: Path, environment: dict[str, str], say: Say) -> None:
    try:
        flower.submit(app, environment)
    except RunError as error:
        say(f"{error}; it is tried again")
        return
    begun = (folder / RUN / "config.json").exists()
    say("the run goes on" if begun else "the run begins")


def _raise_failure(folder: Path) -> None:
    """Raise here what made the run end for good inside Flower."""
    if failure := read_record(folder / FAILURE):
        error = RunError(str(failure["error"]))
        error.exit_code = int(failure["exit_code"])
        raise error


def _tell_changes(folder: Path, told: tuple[str, float], say: Say) -> tuple[str, float]:
    """Say what the server does, when that is something else than before."""
    progress = read_record(folder / f"progress-{STATUS}")
    waiting = read_record(folder / f"waiting-{STATUS}")
    before, latest = told
    noted = float(progress.get("time", 0))
    if progress.get("message") and noted != latest:
        say(str(progress["message"]))
    text = str(waiting.get("about", ""))
    if text and text != before:
        say(text)
    return text, noted


def _invite(deployment: Deployment, register: Register, keys: Path, say: Say) -> None:
    server, ca = deployment.server, (keys / "ca.crt").read_text()
    register.invite(
        deployment.names,
        deployment.config.name,
        server.address,
        server.port,
        ca,
        server.invite_days,
        agreement_of(deployment.config),
    )
    joined = register.nodes()
    for name in deployment.names:
        if name not in joined:
            say(f"invitation for {name}: {register.invites / name}.invite")


def _until_healthy(folder: Path, port: int, seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not _healthy(folder, port):
        if time.monotonic() > deadline:
            raise RunError("the server is starting; try again in a minute")
        time.sleep(PAUSE)


def _healthy(folder: Path, port: int) -> bool:
    context = ssl.create_default_context(cafile=str(folder / "keys" / "ca.crt"))
    # without any proxy: it would not reach a port of this machine
    link = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=5)
    try:
        link.request("GET", "/health")
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _announced(folder: Path) -> Iterator[None]:
    """Show in the block that sites can join."""
    (folder / READY).touch()
    try:
        yield
    finally:
        (folder / READY).unlink(missing_ok=True)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
