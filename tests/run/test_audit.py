"""An audit of a run: every attack in every setting, and what it refuses."""

import json
import shutil
from dataclasses import replace

import pytest

from polyclinic.config import FederationConfig, PrivacyConfig, UniversalConfig
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.run.auditing.audit import (
    ATTACKS,
    SCHEMA,
    audit_run,
    quick_plan,
)
from polyclinic.run.auditing.rows import AuditPlan
from polyclinic.run.encoder_source import find_encoder
from polyclinic.run.exporting import export_run
from polyclinic.run.model_card import model_card

pytestmark = pytest.mark.usefixtures("exact")
TINY = AuditPlan(
    victims=1, inversion_steps=3, inversion_batch=2, image_size=16, canaries=1000,
    stage_canaries=6, models=4, pool=16, label_victims=3, simulated=4, resamples=20,
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def found(finished_run):
    return find_encoder(finished_run)


def settings(results, attack):
    rows = [r for r in results["rows"] if r["attack"] == attack]
    return {(r["kind"], r["setting"]): r["verdict"] for r in rows}


def test_an_audit_of_a_run_without_protection(found, hospitals, finished_run, tmp_path):
    told = []
    results = audit_run(found, [hospitals / "sites" / "north"], TINY, tell=told.append)
    assert results["schema"] == SCHEMA
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert {row["attack"] for row in results["rows"]} == set(ATTACKS)
    canaries = settings(results, "canary")
    assert canaries["made to leak", "one step, no noise"] == "caught"
    assert canaries["made to leak", "one step, no clipping"] == "caught"
    assert canaries["protected", "one step, noise 4"] == "within the claim"
    kinds = {row["kind"] for row in results["rows"] if row["attack"] == "inversion"}
    assert kinds == {"made to leak", "stronger attacker", "as the run trains"}
    assert results["protection"] == {"epsilon": None, "site_epsilon": None, "secure": False}
    assert [p.done for p in told] == sorted(p.done for p in told)
    # three steps find no image: the audit says that it shows nothing
    assert "inversion (one image, one plain gradient, a head that leaks)" in results["missed"]

    figures = json.loads((finished_run / "results.json").read_text())
    card = model_card(figures, "universal", 0, "d", results)
    assert "## Privacy audit" in card
    assert "Failed where they must succeed: inversion (one image" in card
    assert "## Privacy audit" not in model_card(figures, "local", 0, "d", results)

    run = shutil.copytree(finished_run, tmp_path / "run")
    export_run(run, tmp_path / "before")
    assert "Privacy audit" not in (tmp_path / "before" / "README.md").read_text()
    (run / "audit.json").write_text(json.dumps(results))
    export_run(run, tmp_path / "after")
    assert "## Privacy audit" in (tmp_path / "after" / "README.md").read_text()
    (run / "audit.json").write_text('{"rows": []}')
    with pytest.raises(RunError, match=r"lacks 'run', or its audit.json does"):
        export_run(run, tmp_path / "broken")


def test_an_audit_of_a_run_with_every_protection(found, hospitals):
    config = replace(
        found.config,
        privacy=PrivacyConfig(epsilon=200.0, noise=2.0),
        federation=FederationConfig(secure=True, norm_factor=0.0),
        universal=UniversalConfig(distil_every=0),
    )
    results = audit_run(
        replace(found, config=config),
        [hospitals / "sites" / "north"],
        replace(TINY, pool=8, label_victims=2, simulated=3),
    )
    canaries = settings(results, "canary")
    assert canaries["as the run trains", "one step, the run's noise"] == "within the claim"
    assert canaries["as the run trains", "a stage as the run trains"] == "within the claim"
    assert canaries["made to leak", "two stages, masks that serve twice"] == "caught"
    assert canaries["as the run trains", "two stages, masks of their own"] == "fails"
    inversions = settings(results, "inversion")
    assert inversions["protected", "the same, clipped and with the run's noise"] == "fails"
    assert inversions["protected", "the same, masked by secure aggregation"] == "fails"
    assert ("protected", "the same, the sum of 3 sites with an image each") in inversions


def test_a_site_that_draws_masks_is_audited_without_labels(found, hospitals):
    plan = replace(TINY, pool=8, inversion_steps=2)
    results = audit_run(found, [hospitals / "sites" / "west"], plan)
    assert {row["attack"] for row in results["rows"]} == {"canary", "inversion", "membership"}
    assert results["sites"] == [{"name": "west", "task": "segmentation", "training_images": 11}]


def test_without_a_folder_the_first_site_is_audited_and_it_says_so(found):
    told = []
    results = audit_run(found, [], TINY, ["canary"], told.append)
    assert [site["name"] for site in results["sites"]] == ["north"]
    assert any("audits site 'north' of the run" in p.message for p in told)


def test_what_cannot_be_audited_is_refused(found, hospitals, tmp_path):
    north = hospitals / "sites" / "north"
    with pytest.raises(RunError, match=r"an exported folder has no settings of a federation"):
        audit_run(replace(found, run=None, config=None), [north], TINY)
    with pytest.raises(ConfigError, match=r"--attacks: expected some of canary.*, got 'theft'"):
        audit_run(found, [north], TINY, ["theft"])
    with pytest.raises(ConfigError, match=r"--attacks: expected one or more of"):
        audit_run(found, [north], TINY, [])
    local = replace(found, origin={**found.origin, "method": "local"})
    with pytest.raises(ConfigError, match=r"'local' sends no update of training with labels"):
        audit_run(local, [north], TINY)
    gone = replace(found.config, sites=(replace(found.config.sites[0], path=tmp_path / "gone"),))
    with pytest.raises(DataError, match=r"gone: the folder of site 'north' .* --data PATH"):
        audit_run(replace(found, config=gone), [], TINY)
    with pytest.raises(DataError, match=r"gone"):
        audit_run(found, [tmp_path / "gone"], TINY)


def test_too_few_images_are_refused(found, tmp_path):
    import numpy as np
    from PIL import Image

    for label in "ab":
        (tmp_path / "few" / label).mkdir(parents=True)
        for n in range(8):
            pixels = np.random.default_rng(n).integers(0, 255, (16, 16)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "few" / label / f"{n}.png")
    with pytest.raises(
        DataError, match=r"8 training images and 8 others; expected at least 10 and 5"
    ):
        audit_run(found, [tmp_path / "few"], TINY)


def test_a_quick_plan_raises_nothing_and_stays_quick():
    quick = quick_plan(AuditPlan())
    assert quick.quick
    assert quick_plan(quick) == quick
    assert quick_plan(TINY) == replace(TINY, quick=True)
