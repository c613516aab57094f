"""What a run's results say of privacy."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from polyclinic.config import Config, FederationConfig, PrivacyConfig
from polyclinic.errors import ConfigError
from polyclinic.federation.privacy import accounting, clients
from polyclinic.federation.privacy.accounting import Steps, epsilon_of
from polyclinic.report import results_schema, write_report
from polyclinic.run.experiment import run_experiment


@pytest.fixture
def private(config: Config) -> Config:
    """One stage of one method, which spends some of what each image and each site may."""
    return replace(
        config,
        methods=("universal", "local"),
        local=replace(config.local, stages=1),
        universal=replace(config.universal, distil_every=0),
        federation=FederationConfig(norm_factor=0.0),
        privacy=PrivacyConfig(epsilon=80.0, noise=1.0, site_epsilon=400.0),
    )


def test_results_say_what_was_spent_and_of_what(
    private: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(clients, "noise_for", lambda *_: 1.0)
    content = json.loads(run_experiment(private, tmp_path / "run").read_text())
    jsonschema.validate(content, results_schema())
    page = write_report(tmp_path / "run").read_text()
    assert "Differential privacy" in page
    assert "Sampling: Poisson: each unit takes part in each step by itself" in page
    assert "neighbours are data with and without all that one site sends" in page
    for site in content["sites"]:
        (row,) = site["privacy"]
        assert (row["method"], row["seed"], row["unit"]) == ("universal", 0, "record")
        (steps,) = row["steps"]
        assert steps["noise"] == 1
        spent = epsilon_of((Steps(1.0, steps["rate"], steps["number"]),), row["delta"])
        assert row["epsilon"] == pytest.approx(spent)
        assert row["neighbours"] == "with and without one image of the training split"
        assert row["sampling"].startswith("Poisson")
    (row,) = content["site_privacy"]
    assert (row["unit"], row["steps"]) == ("site", [{"noise": 1, "rate": 1, "number": 1}])
    losses = {(c["method"], c["site"]): c["loss"] for c in content["curves"]}
    assert {v for (method, _), v in losses.items() if method == "universal"} == {None}
    assert all(v for (method, _), v in losses.items() if method == "local")


def test_results_without_a_budget_say_nothing(finished_run: Path):
    content = json.loads((finished_run / "results.json").read_text())
    assert "site_privacy" not in content
    assert not any("privacy" in site for site in content["sites"])


def test_without_opacus_nothing_begins(
    private: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(accounting.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs the extra `privacy`; install it with `pip"):
        run_experiment(private, tmp_path / "run")
    assert not (tmp_path / "run").exists()
