"""A site's stage under differential privacy: what leaves, what stays, what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from polyclinic.config import PrivacyConfig
from polyclinic.errors import PrivacyError
from polyclinic.federation import site as usual
from polyclinic.federation.knowledge import pack, schema_of, unpack
from polyclinic.federation.privacy import account, sgd
from polyclinic.federation.privacy.account import PREFIX, read, without_account
from polyclinic.federation.site import train_stage
from polyclinic.models.training import TrainPlan

PRIVACY = PrivacyConfig(epsilon=50.0, noise=1.0)
PLAN = TrainPlan(16, epochs=1, min_steps=2, max_steps=2, batch_size=4, learning_rate=1e-3,
                 weight_decay=0.0, stages=2, privacy=PRIVACY)  # fmt: skip

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def known(monkeypatch):
    """A site's secret, for tests that compare two runs."""
    monkeypatch.setattr(account, "fresh_secret", lambda: b"s" * 32)


def stage(site, start, kept=None, plan=PLAN, number=0):
    return train_stage(site, "small", start, kept, plan, 3, "fedavg", number, site.name)


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("task", ["single-label", "multi-label", "segmentation"])
def test_a_stage_sends_the_change_and_says_nothing_in_numbers(make_site, start, task):
    site = make_site(task, n=16)
    trained = stage(site, start)
    said = trained.knowledge.scalars
    assert said["examples"] == 1
    assert all(math.isnan(said[k]) for k in ("loss", "received_score", "trained_score"))
    arrived = unpack(pack(trained.knowledge, schema_of(start), "a"), schema_of(start), "a")
    assert equal(arrived.tensors, trained.knowledge.tensors)
    assert read(trained.head).steps == 2
    assert without_account(trained.head)


def test_nothing_of_the_validation_and_test_images_matters(make_site, start, known):
    site = make_site(n=16)
    blank = site.images.copy()
    blank[site.split["val"]] = 0
    blank[site.split["test"]] = 255
    a, b = stage(site, start), stage(replace(site, images=blank), start)
    assert equal(a.knowledge.tensors, b.knowledge.tensors)
    assert equal(a.head, b.head)


def test_the_functions_that_look_at_images_without_noise_are_not_called(
    make_site, start, monkeypatch
):
    for name in ("fit_head", "remeasure", "judge", "train", "build_head"):
        monkeypatch.setattr(usual, name, None)
    stage(make_site(n=16), start, plan=replace(PLAN, head_first=True))


def test_all_that_comes_from_images_passes_the_mechanism(make_site, start, known, monkeypatch):
    """With the sums replaced by zeros, other images of other classes give the same bits."""
    monkeypatch.setattr(
        sgd, "clipped_sum", lambda found, *_: [torch.zeros_like(g[0]) for g in found]
    )
    site = make_site(n=16)
    targets = 1 - site.targets
    other = replace(site, images=255 - site.images, targets=targets)
    plan = replace(PLAN, head_first=True, anchor="feature", anchor_weight=0.1)
    a, b = stage(site, start, plan=plan), stage(other, start, plan=plan)
    assert equal(a.knowledge.tensors, b.knowledge.tensors)
    assert equal(a.head, b.head)


@pytest.mark.parametrize("anchor", ["none", "proximal", "feature"])
def test_a_step_moves_by_no_more_than_the_mechanism_lets_it(
    make_site, start, known, monkeypatch, anchor
):
    """What goes to the noise is, for each step, no longer than units times the clip."""
    lengths = []
    real = sgd.privatised

    def noting(total, *name, **of):
        lengths.append(float(sum(t.double().square().sum() for t in total)) ** 0.5)
        return real(total, *name, **of)

    monkeypatch.setattr(sgd, "privatised", noting)
    plan = replace(PLAN, anchor=anchor, anchor_weight=0.1, privacy=replace(PRIVACY, clip=1e-3))
    stage(make_site(n=16), start, plan=plan)
    assert len(lengths) == 2
    assert max(lengths) <= 8 * 1e-3 * (1 + 1e-5)
    assert max(lengths) > 0


def test_the_proximal_anchor_pulls_back(make_site, start, known):
    def length(**plan):
        change = stage(make_site(n=16), start, plan=replace(PLAN, **plan)).knowledge.tensors
        return sum(float(v.square().sum()) for v in change.values())

    free = length(min_steps=4, max_steps=4)
    held = length(min_steps=4, max_steps=4, anchor="proximal", anchor_weight=1e4)
    assert held < 0.9 * free


def test_a_secret_is_drawn_once_and_decides_the_noise(make_site, start):
    site = make_site(n=16)
    a, b = stage(site, start), stage(site, start)
    assert not equal(a.knowledge.tensors, b.knowledge.tensors)
    after, again = (stage(site, start, a.head, number=1) for _ in range(2))
    assert read(after.head).secret == read(a.head).secret
    assert equal(after.knowledge.tensors, again.knowledge.tensors)
    assert read(after.head).steps == 4


def test_for_another_encoder_or_plan_there_is_other_noise(make_site, start, known, monkeypatch):
    names = []
    real = sgd.privatised
    monkeypatch.setattr(
        sgd, "privatised", lambda total, *name, **of: names.append(name) or real(total, *name, **of)
    )
    site, other = make_site(n=16), {k: v + 1e-3 for k, v in start.items()}
    stage(site, start)
    stage(site, other)
    stage(site, start, plan=replace(PLAN, learning_rate=2e-3))
    stage(site, start, number=1)
    assert len(set(names)) == len(names) == 8


def test_the_noise_is_computed_from_the_budget_of_all_stages(make_site, start):
    plan = replace(PLAN, privacy=PrivacyConfig(epsilon=4.0), min_steps=1, max_steps=1)
    site, kept = make_site(n=16), None
    for number in range(2):
        kept = stage(site, start, kept, plan, number).head
    assert 0.98 * 4 <= read(kept).spent <= 4
    text = r"site 'a' stops taking part: this stage would bring its epsilon from 3\.9"
    with pytest.raises(PrivacyError, match=text):
        stage(site, start, kept, plan, 2)


def test_a_site_whose_budget_is_spent_computes_nothing(make_site, start, monkeypatch):
    plan = replace(PLAN, privacy=replace(PRIVACY, epsilon=0.5))
    monkeypatch.setattr(sgd, "poisson_sample", None)
    with pytest.raises(PrivacyError, match=r"site 'a' stops taking part: .* from 0 to .* is 0.5"):
        stage(make_site(n=16), start, plan=plan)


def test_a_patient_is_one_unit(make_site, start, known, monkeypatch):
    site = make_site(n=32)
    site = replace(site, patients=np.repeat(np.arange(8), 4), has_patient_ids=True)
    plan = replace(PLAN, batch_size=2, privacy=replace(PRIVACY, unit="patient", patient_images=2))
    shapes = []
    real = sgd.clipped_sum

    def noting(found, unit, units, clip):
        shapes.append((len(found[0]), units, clip))
        return real(found, unit, units, clip)

    monkeypatch.setattr(sgd, "clipped_sum", noting)
    history = read(stage(site, start, plan=plan).head).history
    assert history[0].rate == 2 / 4  # four patients train, two are expected in a step
    assert all(images == 2 * units for images, units, _ in shapes)


@pytest.mark.parametrize(
    ("task", "privacy", "text"),
    [
        ("regression", {}, r"regression scales its targets by the mean and spread of all of them"),
        (
            "single-label",
            {"delta": 0.2},
            r"privacy.delta is 0.2, and it has 8 units; expected less",
        ),
        ("single-label", {"unit": "patient"}, r"its data name no patients"),
    ],
)
def test_where_no_guarantee_can_be_given_the_site_says_why(make_site, start, task, privacy, text):
    plan = replace(PLAN, privacy=replace(PRIVACY, **privacy))
    with pytest.raises(PrivacyError, match=rf"site 'a': .*{text}"):
        stage(make_site(task, n=16), start, plan=plan)


def test_without_a_budget_nothing_is_private_and_nothing_changes(make_site, start):
    plain = replace(PLAN, privacy=PrivacyConfig(), stages=1)
    other = replace(plain, privacy=PrivacyConfig(clip=0.1, unit="patient"), stages=7)
    a, b = (stage(make_site(n=16), start, plan=plan) for plan in (plain, other))
    assert equal(a.knowledge.tensors, b.knowledge.tensors)
    assert not any(k.startswith(PREFIX) for k in a.head)
    assert a.knowledge.scalars["examples"] == 8
