"""Three tiny hospitals on disk, a federation of them, and sites that need no network."""

import ssl
import threading
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyclinic.config import Config
from polyclinic.deploy import coordinator
from polyclinic.deploy.agreement import Agreement, agreement_of
from polyclinic.deploy.folders import ACCOUNTS, EXCHANGES, LEDGER, write_private, write_record
from polyclinic.deploy.gateway import Door, gateway
from polyclinic.deploy.invites import Register, read_invite
from polyclinic.deploy.keys import ensure_certificates
from polyclinic.deploy.roster import ensure_identity
from polyclinic.deploy.settings import Deployment, load_deployment
from polyclinic.deploy.site_work import Site, load_site, respond
from polyclinic.deploy.tasks import Task, to_fields
from polyclinic.federation import exchange
from polyclinic.federation.knowledge import Knowledge
from polyclinic.federation.site import Trained

NAMES = ("north", "south", "west")
FEDERATION = """
name = "tiny"
corpus = "corpus"
methods = ["universal"]

[server]
port = PORT
deadline = 600

[data]
image_size = 16
val_share = 0.2
test_share = 0.25

[mim]
epochs = 1
batch_size = 8

[local]
stages = 2
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

[[sites]]
name = "north"

[[sites]]
name = "south"

[[sites]]
name = "west"
"""


def _classes(folder: Path, rng: np.random.Generator) -> None:
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for n in range(16):
            pixels = (rng.integers(0, 100, (16, 16)) + label * 80).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{n:02d}.png")


def _masks(folder: Path, rng: np.random.Generator) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for n in range(20):
        x, y = rng.integers(2, 10, 2)
        mask = np.zeros((16, 16), np.uint8)
        mask[y : y + 5, x : x + 5] = 255
        pixels = (rng.integers(0, 60, (16, 16)) + mask // 2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{n:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{n:02d}.png")


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with north, south (classes), west (masks), and corpus/."""
    folder = tmp_path_factory.mktemp("deployed")
    rng = np.random.default_rng(1)
    _classes(folder / "north", rng)
    _classes(folder / "south", rng)
    _masks(folder / "west", rng)
    (folder / "corpus").mkdir()
    for n in range(12):
        pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "corpus" / f"{n}.png")
    (folder / "federation.toml").write_text(FEDERATION.replace("PORT", "8443"))
    return folder


@pytest.fixture
def deployment(hospitals: Path) -> Deployment:
    return load_deployment(hospitals / "federation.toml")


def in_one_process(config: Config, hospitals: Path) -> Config:
    """The same federation, whose sites are folders here."""
    return replace(
        config, sites=tuple(replace(site, path=hospitals / site.name) for site in config.sites)
    )


@pytest.fixture
def simulated(hospitals: Path, deployment: Deployment) -> Config:
    """The same federation as it runs in one process."""
    return in_one_process(deployment.config, hospitals)


def make_site(folder: Path, name: str, data: Path, agreement: Agreement) -> Site:
    """A site that has joined, without the joining."""
    record = {"name": name, "data": str(data), "format": "auto", "task": "auto"}
    told = {"tells_scores": True, "agreement": asdict(agreement), "federation": "tiny"}
    write_record(folder / "site.json", {**record, **told})
    write_record(folder / ACCOUNTS, {"accounts": {}})
    write_record(folder / EXCHANGES, {"unmasked": {}})
    write_private(folder / LEDGER, b"")
    from polyclinic.federation.signing import create_key

    create_key(folder / "keys" / "ledger.key")
    return load_site(folder)


class Letters:
    """A post without a network: a task is done when its answer is collected."""

    def __init__(self, sites: dict[str, Site]) -> None:
        self.sites, self.away, self.dead = sites, set(), set()
        self.sent: list[tuple[str, Task]] = []
        self.logs: dict[str, list[str]] = {name: [] for name in sites}

    def reachable(self):
        return self.sites.keys() - self.away

    def send(self, site, task):
        self.sent.append((site, task))
        return str(len(self.sent) - 1)

    def collect(self, messages):
        for message in messages:
            name, task = self.sent[int(message)]
            if name in self.dead:
                continue
            fields = to_fields(task)
            yield message, respond(self.sites[name], fields, self.logs[name].append)


@pytest.fixture
def joined(hospitals: Path, tmp_path: Path, exact, monkeypatch):
    """(deployment) -> letters to and from its sites, which have agreed to it."""
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))

    def join(deployment: Deployment) -> Letters:
        agreed, sites = agreement_of(deployment.config), {}
        for name in deployment.names:
            data = hospitals / (name if name in NAMES else "north")
            sites[name] = make_site(tmp_path / f"site-{name}", name, data, agreed)
        letters = Letters(sites)
        letters.roster = {name: ensure_identity(site.folder) for name, site in sites.items()}
        return letters

    return join


@pytest.fixture
def letters(joined, deployment) -> Letters:
    return joined(deployment)


@pytest.fixture
def quick(monkeypatch):
    """Sites change their encoder by a random amount of their own; nobody judges encoders."""

    def stage(site, preset, received, head, plan, *seed):
        gen = torch.Generator().manual_seed(sum(site.name.encode()) + int(seed[2]))
        change = {
            k: 0.01 * torch.randn(v.shape, generator=gen) for k, v in sorted(received.items())
        }
        scalars = {"examples": 8.0, "loss": 0.5, "received_score": 0.5, "trained_score": 0.5}
        return Trained(Knowledge(change, scalars), {"w": torch.zeros(1)})

    monkeypatch.setattr(exchange, "train_stage", stage)
    monkeypatch.setattr(coordinator, "_judge", lambda *_: None)
    return stage


class Superlink(BaseHTTPRequestHandler):
    """What stands behind the gateway: says back what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        content = f"{self.path} {self.headers.get('flwr-signature')} ".encode() + body
        self.send_response(207)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a server's certificates."""
    folder = tmp_path_factory.mktemp("keys")
    ensure_certificates(folder, "127.0.0.1")
    return folder


@contextmanager
def behind(keys: Path):
    """What stands behind the gateway, alone; gives its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Superlink)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.crt", keys / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(keys: Path, join=lambda *_: 1, roster=dict):
    """A gateway with something behind it; gives the gateway's port."""
    with (
        behind(keys) as inside,
        gateway(Door("127.0.0.1", 0, keys, lambda: inside, join, roster)) as port,
    ):
        yield port


def invited(tmp_path, keys, port=1, clock=None, agreed=None):
    register = Register(tmp_path, **({"clock": clock} if clock else {}))
    ca = (keys / "ca.crt").read_text()
    agreed = agreed or Agreement(("north", "south"), ("universal",), (0,))
    register.invite(["north", "south"], "tiny", "127.0.0.1", port, ca, 7, agreed)
    return register, read_invite(tmp_path / "invites" / "north.invite")
