"""A fake engine, so that the command line is tested without training anything."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyclinic.cli import engine
from polyclinic.config import Config, config_to_dict
from polyclinic.data.dataset import Finding, Item, Scan
from polyclinic.errors import DataError
from polyclinic.run.progress import Progress


def results(name: str = "fake") -> dict[str, Any]:
    """As little of a results.json as its layout allows; exact in binary."""
    unknown = {"metric": "auroc", "low": None, "high": None, "seeds": []}
    scores = [
        {
            "method": method,
            "site": site,
            "protocol": protocol,
            "primary": True,
            **unknown,
            "value": value,
        }
        for method, site, protocol, value in [
            ("universal", "a", "linear-probe", 0.75),
            ("universal", "b", "linear-probe", 0.5),
            ("universal", "a", "fine-tune", 0.875),
            ("universal", "b", "fine-tune", 0.625),
            ("local", "a", "linear-probe", 0.5),
            ("local", "b", "linear-probe", 0.25),
        ]
    ]
    scores.append({**scores[0], "primary": False, "value": 99.0})
    gains = [
        {
            "method": "universal",
            "over": "local",
            "site": site,
            "protocol": "linear-probe",
            **unknown,
            "value": value,
            "low": value - 0.125,
            "high": value + 0.125,
        }
        for site, value in (("b", -0.25), ("a", 0.5))
    ]
    return {
        "schema": "polyclinic.results/1",
        "name": name,
        "version": "0.1.0",
        "created": "2025-03-01T09:30:00Z",
        "finished": True,
        "quick": False,
        "seeds": [0],
        "sites": [
            {
                "name": site,
                "task": "single-label",
                "format": "npz",
                "images": 3,
                "patients": None,
                "classes": ["x", "y"],
                "channels": 1,
                "size": [16, 16],
                "split": {"train": 1, "val": 1, "test": 1},
                "metric": "auroc",
                "findings": [],
            }
            for site in ("a", "b")
        ],
        "methods": [
            {"name": "universal", "title": "Universal (ours)", "summary": ""},
            {"name": "local", "title": "Local only", "summary": ""},
        ],
        "scores": scores,
        "gains": gains,
    }


@dataclass
class FakeEngine:
    """What was asked of the engine; `fails` makes the run raise after its first step."""

    runs: list[tuple[Config, Path, bool]] = field(default_factory=list)
    reports: list[Path] = field(default_factory=list)
    phantoms: list[tuple[Path, int]] = field(default_factory=list)
    fails: BaseException | None = None

    def run_experiment(self, config, out, *, resume, tell):
        self.runs.append((config, out, resume))
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(config_to_dict(config)))
        tell(Progress("train", 0.5, method="universal", seed=0, stage=1, stages=2, site="a"))
        tell(Progress("train", 0.5, site="a", message="site a is absent from this stage"))
        if self.fails:
            raise self.fails
        path = out / "results.json"
        path.write_text(json.dumps(results(config.name)))
        return path

    def write_report(self, run):
        self.reports.append(run)
        page = run / "report.html"
        page.write_text("<html>")
        return page

    def write_phantoms(self, folder, *, seed, images_per_site, tell):
        assert images_per_site > 0
        self.phantoms.append((folder, seed))
        make_folders(folder, "a", "b")
        tell("wrote a and b")
        return folder

    @staticmethod
    def scan_site(folder, **_):
        if not (folder / "data").is_file():
            raise DataError(f"{folder}: no format fits")
        return Scan(
            folder=folder,
            format="npz",
            task="single-label",
            classes=("x", "y"),
            items=(Item("0", "p"), Item("1", "p"), Item("2", "q")),
            load=lambda _: pytest.fail("nothing may be decoded"),
            has_patient_ids=folder.name != "b",
            findings=(
                Finding("warning", "0", "is dark", "look at it"),
                Finding("info", "", "is all right"),
            ),
        )

    @staticmethod
    def scan_corpus(folder):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected the corpus of public images")
        return Scan(folder, "corpus", "single-label", (), (Item("0", "0"),), load=lambda _: None)


def make_folders(root: Path, *sites: str) -> Path:
    """A folder with `sites/` and `corpus/` that the fake engine recognises."""
    for name in sites:
        folder = root / "sites" / name
        folder.mkdir(parents=True)
        (folder / "data").touch()
    (root / "corpus").mkdir()
    return root


@pytest.fixture
def fake(monkeypatch, tmp_path) -> FakeEngine:
    """The engine replaced, the working folder and the terminal known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POLYCLINIC_DEBUG", raising=False)
    fake = FakeEngine()
    for name in (
        "run_experiment",
        "write_report",
        "write_phantoms",
        "scan_site",
        "scan_corpus",
    ):
        monkeypatch.setattr(engine, name, getattr(fake, name))
    return fake


@pytest.fixture
def config_file(fake, tmp_path) -> Path:
    """A configuration for two sites."""
    make_folders(tmp_path, "a", "b")
    path = tmp_path / "f.toml"
    sites = "".join(f'[[sites]]\nname="{n}"\npath="sites/{n}"\n' for n in "ab")
    path.write_text(f'corpus="corpus"\nname="fake"\n{sites}')
    return path
