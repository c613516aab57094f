"""Shadow models: what was learnt by heart is told from what was not; noise hides it."""

from dataclasses import replace

import pytest

from polyclinic.config import PrivacyConfig
from polyclinic.evaluate.audit.membership import (
    confidence,
    halves,
    judge_membership,
)
from polyclinic.federation.audit import shadows
from polyclinic.federation.audit.shadows import image_losses, learnt_by_heart, train_shadows
from polyclinic.models.encoder import build_encoder
from polyclinic.models.heads import build_head

pytestmark = pytest.mark.usefixtures("exact")


def judged(losses, inside):
    return judge_membership(confidence(losses), inside, 100, 0)


def test_what_was_learnt_by_heart_is_seen(make_site, start, monkeypatch):
    monkeypatch.setattr(shadows, "BY_HEART_STEPS", 40)
    site = make_site(n=48)
    pool = site.split["train"]
    inside = halves(4, len(pool), 0)
    losses = learnt_by_heart(site, "small", start, pool, inside, 0)
    found = judged(losses, inside)
    assert found.succeeded
    assert found.auc > 0.75
    assert losses[inside].mean() < losses[~inside].mean()


def test_under_much_noise_nothing_is_seen(make_site, start, plan):
    site = make_site(n=48)
    pool = site.split["train"]
    private = replace(plan, privacy=PrivacyConfig(epsilon=1.0, noise=20.0), max_steps=1)
    inside = halves(4, len(pool), 0)
    found = train_shadows(site, "small", start, private, pool, inside, 0)
    assert found.own.shape == found.fitted.shape == inside.shape
    assert not judged(found.own, inside).succeeded


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression", "segmentation"])
def test_every_image_has_a_loss_of_its_own(make_site, task):
    site = make_site(task, n=16)
    encoder = build_encoder("small", 0)
    head = build_head(task, len(site.classes), encoder.config, seed=0)
    rows = site.split["train"]
    losses = image_losses(encoder, head, site, rows)
    assert losses.shape == (len(rows),)
    assert losses[3] == pytest.approx(image_losses(encoder, head, site, rows[3:4])[0], rel=1e-4)
