"""The whole, as real processes on this machine: TLS, Flower, three sites, and kills.

The example always runs; what takes minutes where POLYCLINIC_LOOPBACK is set (`make loopback`).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from polyclinic.data.phantoms import write_phantoms
from polyclinic.deploy.folders import running
from polyclinic.deploy.settings import load_deployment
from polyclinic.run.experiment import run_experiment

pytest.importorskip("flwr")
takes_minutes = pytest.mark.skipif(
    not os.environ.get("POLYCLINIC_LOOPBACK"), reason="takes minutes; `make loopback` runs it"
)
NAMES = ("north", "south", "west")
PATIENCE = 900.0  # s
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Federation:
    """A server and three sites, started by the commands that a user gives.

    `text` is that of federation.toml, `data` holds a folder a site, `names` are theirs.
    """

    def __init__(self, folder: Path, text: str, data: Path, names: Sequence[str]) -> None:
        self.folder, self.data, self.names = folder, data, names
        (folder / "federation.toml").write_text(text.replace("8443", str(free_port())))

    def call(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "polyclinic", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr + self.logs()
        return done.stdout

    def start(self) -> None:
        self.call("server", "start", "federation.toml", "--background")

    def join(self, name: str) -> None:
        invite = self.folder / "server" / "invites" / f"{name}.invite"
        if invite.exists():
            shutil.copy(invite, self.folder)
        data = str(self.data / name)
        self.call("site", "join", f"{name}.invite", "--data", data, "--background")

    def pid(self, name: str) -> int:
        found = running(self.folder / name)
        assert found is not None
        return found

    def result(self) -> dict:
        self.call("status", "server", "--wait")
        return json.loads((self.folder / "server" / "run" / "federation.json").read_text())

    def encoder(self) -> bytes:
        return next(
            self.folder.glob("server/run/seed-0/*/encoders/encoder.safetensors")
        ).read_bytes()

    def logs(self) -> str:
        return "".join(path.read_text()[-3000:] for path in self.folder.glob("*/logs/*.log"))

    def processes(self) -> list[str]:
        """Every process that has to do with this federation."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if str(self.folder).encode() in path.read_bytes():
                    found.append((path.parent / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def stop(self) -> None:
        self.call("server", "stop")
        for name in self.names:
            if (self.folder / f"site-{name}").exists():
                self.call("site", "stop", f"site-{name}")


@pytest.fixture
def started(tmp_path, monkeypatch):
    """(text, data, names) -> a federation in `tmp_path`, which ends with the test."""
    for key, value in {
        "POLYCLINIC_CACHE": str(tmp_path / "cache"),
        "POLYCLINIC_DEVICE": "cpu",
        "POLYCLINIC_PRECISION": "float32",
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(key, value)
    made = []

    def make(text: str, data: Path, names: Sequence[str]) -> Federation:
        made.append(Federation(tmp_path, text, data, names))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def federation(started, hospitals):
    """(settings of the server) -> the federation of the test hospitals."""

    def make(**settings: object) -> Federation:
        text = (hospitals / "federation.toml").read_text()
        text = text.replace('"corpus"', json.dumps(str(hospitals / "corpus")))
        for key, value in settings.items():
            text = text.replace("deadline = 600", f"{key} = {value}\ndeadline = 600")
        return started(text, hospitals, NAMES)

    return make


def until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_the_example_ends_with_the_encoder_of_one_process(started, tmp_path, exact):
    """The commands of docs/deploy.md, over fewer images than the example makes up."""
    example = ROOT / "examples" / "three_sites" / "federation.toml"
    write_phantoms(tmp_path / "data", seed=0, images_per_site=24, corpus_images=16, image_size=32)
    f = started(example.read_text(), tmp_path / "data" / "sites", ("chest", "skin", "blood"))
    config = load_deployment(f.folder / "federation.toml").config
    f.start()
    for name in f.names:
        f.join(name)
    sites = tuple(replace(site, path=f.data / site.name) for site in config.sites)
    run_experiment(replace(config, sites=sites), tmp_path / "here")
    here = tmp_path / "here" / "seed-0" / "universal" / "encoders" / "encoder.safetensors"
    result = f.result()
    assert [stage["who"] for stage in result["runs"][0]["stages"]] == ["3 of 3", "3 of 3"]
    assert f.encoder() == here.read_bytes()
    f.stop()
    until(lambda: f.processes() == [], "processes were left behind")


@takes_minutes
def test_killed_and_started_again_it_ends_with_the_encoder_of_one_process(
    federation, simulated, tmp_path, exact
):
    run_experiment(simulated, tmp_path / "here")
    here = tmp_path / "here" / "seed-0" / "universal" / "encoders" / "encoder.safetensors"
    f = federation(quorum=3)
    f.start()
    for name in NAMES:
        f.join(name)
    metrics = f.folder / "server" / "run" / "metrics.jsonl"
    until(
        lambda: metrics.exists() and "universal/stage-001" in metrics.read_text(),
        "no stage was finished",
    )
    os.kill(f.pid("server"), signal.SIGKILL)
    until(
        lambda: not any("flower-superlink" in p or "serverapp" in p for p in f.processes()),
        "orphans",
    )
    f.start()
    result = f.result()
    assert [s["who"] for s in result["runs"][0]["stages"]] == ["3 of 3", "3 of 3"]
    assert f.encoder() == here.read_bytes()
    assert all(judged["absent"] is None for judged in result["runs"][0]["judged"])
    f.stop()
    until(lambda: f.processes() == [], "processes were left behind")


@takes_minutes
def test_without_a_site_that_was_killed_the_run_goes_on(federation):
    f = federation(quorum=2)
    text = (f.folder / "federation.toml").read_text()
    (f.folder / "federation.toml").write_text(text.replace("deadline = 600", "deadline = 60"))
    f.start()
    for name in NAMES:
        f.join(name)
    work = f.folder / "site-west" / "work-status.json"
    until(work.exists, "west was never asked")
    os.kill(f.pid("site-west"), signal.SIGKILL)
    stages = f.result()["runs"][0]["stages"]
    assert stages[-1]["who"] == "2 of 3: west absent"
    assert stages[-1]["absent"][0]["reason"]


@takes_minutes
def test_with_budgets_and_masks_a_killed_federation_goes_on(federation):
    """Differential privacy and secure aggregation together, with a site and the server killed."""
    f = federation(quorum=3)
    path = f.folder / "federation.toml"
    tables = "[privacy]\nepsilon = 50.0\n\n[federation]\nsecure = true\nnorm_factor = 0.0\n"
    text = path.read_text().replace("distil_every = 2", "distil_every = 0")
    path.write_text(text.replace("[data]", f"{tables}\n[data]"))
    f.start()
    for name in NAMES:
        f.join(name)
    shown = {name: f.call("site", "roster", f"site-{name}") for name in NAMES}
    (mark,) = {text.split("fingerprint: ")[1].split()[0] for text in shown.values()}
    for name in NAMES:
        assert "confirmed: no other" in f.call("site", "roster", f"site-{name}", "--confirm", mark)
    account = f.folder / "site-north" / "privacy" / "account.json"
    until(lambda: "statement" in account.read_text(), "north has spent nothing")
    os.kill(f.pid("server"), signal.SIGKILL)
    os.kill(f.pid("site-north"), signal.SIGKILL)
    left = ("flower-superlink", "serverapp", "site-north")
    until(lambda: not any(name in p for p in f.processes() for name in left), "orphans")
    f.join("north")
    f.start()
    stages = f.result()["runs"][0]["stages"]
    assert [stage["who"] for stage in stages] == ["3 of 3", "3 of 3"]
    (entry,) = json.loads(account.read_text())["accounts"].values()
    assert 0 < entry["statement"]["epsilon"] <= 50
    (step,) = entry["statement"]["steps"]
    assert step["number"] == 4  # two in each of two stages, though one was asked for twice
