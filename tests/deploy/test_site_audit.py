"""A site audits itself from its own folder, on what it was asked for and agreed to."""

import json

import pytest

from polyclinic.cli import main
from polyclinic.deploy.coordinator import coordinate
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.site_audit import audit_site
from polyclinic.errors import RunError
from polyclinic.federation.plans import plan_of
from polyclinic.models.state import load_state
from polyclinic.run.auditing import audit as auditing
from polyclinic.run.auditing.rows import AuditPlan, row


@pytest.fixture
def attacked(monkeypatch):
    """What is attacked, by an attack that takes no time."""
    subjects = []

    def attack(subject, plan, told):
        subjects.append(subject)
        told("a setting", 0.5)
        yield row("a setting", "made to leak", "all", "hits", 1.0, None, None, "succeeds")

    monkeypatch.setitem(auditing.ROWS, "labels", attack)
    return subjects


def test_what_is_attacked_is_what_the_site_was_asked_for(letters, deployment, tmp_path, attacked):
    config = deployment.config
    sites = RemoteSites(letters, config, quorum=2, deadline=30.0, tell=lambda _: None)
    coordinate(config, tmp_path / "run", sites)
    folder = letters.sites["south"].folder
    assert main(["audit", str(folder), "--attacks", "labels", "--quick", "--quiet"]) == 0
    results = json.loads((folder / "audit.json").read_text())
    assert results["run"] == {"name": "tiny", "method": "universal", "seed": 0}
    assert [site["name"] for site in results["sites"]] == ["south"]
    (subject,) = attacked
    assert subject.train == plan_of(config, "universal")
    assert len(subject.config.sites) == 3
    assert subject.weighting == config.universal.weighting
    final = load_state(tmp_path / "run/seed-0/universal/encoders/encoder.safetensors")
    assert all((subject.received[name] == value).all() for name, value in final.items())


def test_before_the_end_there_is_nothing_to_audit(letters):
    folder = letters.sites["north"].folder
    with pytest.raises(RunError, match=r"no encoder of method 'universal' with seed 0 there"):
        audit_site(folder, [], AuditPlan(), ["labels"])
