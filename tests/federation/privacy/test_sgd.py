"""Training by DP-SGD: it learns where noise lets it, and takes what it takes from whom it drew."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from polyclinic.config import PrivacyConfig
from polyclinic.federation.privacy import sgd
from polyclinic.federation.privacy.head import private_head
from polyclinic.federation.privacy.sgd import sampling_of, train_privately
from polyclinic.federation.privacy.units import units_of
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of
from polyclinic.models.training import TrainPlan

PLAN = TrainPlan(16, epochs=1, min_steps=12, max_steps=12, batch_size=8, learning_rate=3e-3,
                 weight_decay=0.0, privacy=PrivacyConfig(epsilon=1.0))  # fmt: skip

pytestmark = pytest.mark.usefixtures("exact")


def trained(site, plan=PLAN, noise=1e-4):
    """Encoder and head after training, and the loss over the training images."""
    encoder = build_encoder("small", seed=0)
    head = private_head(site.task, len(site.classes), encoder.config)
    sampling = sampling_of(site, plan, units_of(site, plan.privacy.unit))
    train_privately(encoder, head, site, plan, sampling, noise, b"s", "stage")
    rows = site.split["train"]
    with torch.no_grad():
        images = torch.from_numpy(site.images[rows]).float() / 255
        outputs = head(encoder(images), (16, 16))
    return encoder, head, float(F.cross_entropy(outputs, torch.from_numpy(site.targets[rows])))


def test_with_hardly_any_noise_it_learns_and_with_much_it_does_not(make_site):
    site = make_site(n=48)
    assert trained(site)[2] < 0.5
    assert trained(site, replace(PLAN, min_steps=4, max_steps=4), noise=50.0)[2] > 0.6


def test_a_step_in_which_nobody_takes_part_is_noise_alone(make_site, monkeypatch):
    """And it looks no different: the same steps are taken, whoever was drawn."""
    monkeypatch.setattr(sgd, "poisson_sample", lambda *_: torch.empty(0).numpy())
    site, plan = make_site(n=16), replace(PLAN, min_steps=1, max_steps=1)
    other = replace(site, images=255 - site.images, targets=1 - site.targets)
    a, b = (state_of(trained(s, plan, noise=1.0)[0]) for s in (site, other))
    start = state_of(build_encoder("small", seed=0))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not any(torch.equal(a[k], start[k]) for k in a)


def test_a_batch_is_expected_in_each_step_or_everybody(make_site):
    site = make_site(n=48)
    sampling = sampling_of(site, PLAN, units_of(site, "record"))
    assert (sampling.rate, sampling.steps, sampling.expected) == (8 / 24, 12, 8)
    few = sampling_of(site, replace(PLAN, batch_size=100), units_of(site, "record"))
    assert (few.rate, few.expected) == (1, 24)
