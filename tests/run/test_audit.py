"""An audit of a run: every attack in every setting, and what it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from polyclinic.config import FederationConfig, PrivacyConfig, UniversalConfig
from polyclinic.errors import ConfigError, DataError, PrivacyError, RunError
from polyclinic.federation.audit.updates import narrowed
from polyclinic.federation.plans import plan_of
from polyclinic.federation.privacy.stage import UNTOLD
from polyclinic.run.auditing import audit as auditing
from polyclinic.run.auditing.audit import (
    ATTACKS,
    SCHEMA,
    audit_run,
    quick_plan,
)
from polyclinic.run.auditing.label_rows import balanced, label_rows
from polyclinic.run.auditing.rows import AuditPlan, Subject
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
    assert "## Privacy audit" not in model_card(figures, "universal", 1, "d", results)
    table = card.split("## Privacy audit")[1].split("## Limits")[0]
    assert "| membership | a stage as the run trains, as the run trains |" in table
    assert ", made to leak |" not in table
    assert ", protected |" not in table
    canaries_alone = [row for row in results["rows"] if row["attack"] == "canary"]
    nothing = {**results, "rows": canaries_alone}
    assert "## Privacy audit" not in model_card(figures, "universal", 0, "d", nothing)

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


def test_more_secure_sites_than_training_images_are_audited(found, hospitals):
    site = found.config.sites[0]
    config = replace(
        found.config,
        sites=tuple(replace(site, name=f"site-{n}") for n in range(20)),
        hold_out=(),
        federation=FederationConfig(secure=True, norm_factor=0.0),
        universal=UniversalConfig(distil_every=0),
    )
    results = audit_run(
        replace(found, config=config),
        [hospitals / "sites" / "west"],  # with 11 training images
        replace(TINY, inversion_steps=1),
        ["inversion"],
    )
    assert ("protected", "the same, the sum of 20 sites with an image each") in settings(
        results, "inversion"
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_site_that_cannot_have_the_guarantee_is_refused_before_it_is_attacked(
    found, hospitals, make_site, monkeypatch, attack
):
    site = make_site("regression", n=48)
    monkeypatch.setattr(auditing, "prepared_site", lambda *_: site)
    private = replace(found.config, privacy=PrivacyConfig(epsilon=8.0))
    north = [hospitals / "sites" / "north"]
    with pytest.raises(PrivacyError, match=r"site 'a': regression scales its targets by the mean"):
        audit_run(replace(found, config=private), north, TINY, [attack])
    likely = replace(found.config, privacy=PrivacyConfig(epsilon=8.0, delta=0.1))
    monkeypatch.setattr(auditing, "prepared_site", lambda *_: make_site(n=48))
    with pytest.raises(PrivacyError, match=r"privacy.delta is 0.1, and it has 24 units"):
        audit_run(replace(found, config=likely), north, TINY, [attack])


@pytest.mark.parametrize(("most", "few"), [(8, 2), (19, 1)])
def test_a_perfect_attack_succeeds_where_most_images_are_of_one_class(found, make_site, most, few):
    site = make_site(n=80)
    train = site.split["train"]
    of = [train[site.targets[train] == label] for label in range(2)]
    rows = np.sort(np.concatenate([of[0][:most], of[1][:few]]))
    plan = plan_of(found.config, "universal")
    subject = Subject(narrowed(site, rows), found.preset, found.state, found.config, plan, "equal")
    first = next(iter(label_rows(subject, quick_plan(AuditPlan()), lambda *_: None)))
    assert (first["value"], first["baseline"], first["verdict"]) == (1.0, 0.5, "succeeds")
    assert first["details"]["victims"] == 20
    one = replace(subject, site=narrowed(site, of[0]))
    assert list(label_rows(one, TINY, lambda *_: None)) == []


def test_a_private_site_does_not_say_how_large_it_is(found, make_site):
    plan = plan_of(found.config, "fedavg")
    subject = Subject(make_site(), found.preset, found.state, found.config, plan, "size")
    assert subject.examples == 16
    private = replace(plan, privacy=PrivacyConfig(epsilon=1.0))
    assert replace(subject, train=private).examples == UNTOLD["examples"]


def test_single_images_are_drawn_with_as_many_of_each_class():
    targets = np.array([0, 0, 0, 0, 0, 2, 1, 2])
    drawn = balanced(targets, np.arange(7), 20, np.random.default_rng(0))
    assert np.bincount(targets[drawn]).tolist() == [7, 7, 7]
    assert 7 not in drawn


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
