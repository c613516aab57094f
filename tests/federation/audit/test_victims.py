"""Victims of gradient inversion: the one that leaks falls, and protection holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polyclinic.config import PrivacyConfig
from polyclinic.evaluate.audit.inversion import InversionPlan, distance_of, invert
from polyclinic.evaluate.audit.similarity import best_match
from polyclinic.federation.audit.updates import (
    bias_gradient,
    fitted_head,
    narrowed,
    strangers,
    view_of,
)
from polyclinic.federation.audit.victims import (
    image_victim,
    leaking_victim,
    noisy,
    stage_victim,
    steps_victim,
)

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def site(make_site):
    return make_site(n=48)


@pytest.fixture(scope="module")
def leaking(site, start):
    return leaking_victim("small", start, view_of(site, 0, 16), 0)


def distance(a, b):
    return float(distance_of(a, b, by_tensor=True).detach())


def attacked(victim, site, steps):
    plan = InversionPlan(steps=steps, restarts=1)
    found = invert(victim.simulate, victim.update, victim.shape, plan, 0).images
    return best_match(found, victim.truth, strangers(site, 16, 24))


def test_the_victim_that_leaks_falls(leaking, site):
    found = attacked(leaking, site, 120)
    assert found.succeeded
    assert found.psnr > 20


def test_clipping_and_noise_hide_it(leaking, site):
    assert not attacked(noisy(leaking, 1.0, 1.0, b"s" * 32), site, 40).succeeded


def test_without_noise_the_mechanism_hides_nothing(leaking):
    bare = noisy(leaking, 1e-9, 1.0, b"s" * 32)
    assert distance(bare.update, leaking.update) < 1e-5


def test_the_network_as_it_is_gives_the_gradient_that_the_attacker_can_compute(site, start, plan):
    head = fitted_head(site, "small", start, plan, 0)
    victim = image_victim(site, "small", start, head, 1, plan)
    again = victim.simulate(victim.truth)
    assert distance(again, victim.update) < 1e-5


@pytest.mark.parametrize("task", ["single-label", "segmentation"])
def test_a_step_of_training_goes_the_way_of_the_simulated_gradient(make_site, start, plan, task):
    own = make_site(task, n=48)
    head = fitted_head(own, "small", start, plan, 0)
    rows = own.split["train"][:4]
    victim = steps_victim(own, "small", start, head, plan, rows, 1, 0)
    assert victim.truth.shape == victim.shape == (4, 1, 16, 16)
    true = distance(victim.simulate(victim.truth), victim.update)
    wrong = torch.rand(victim.shape, generator=torch.Generator().manual_seed(0))
    other = distance(victim.simulate(wrong), victim.update)
    assert true < 0.35
    assert true < other - 0.1


@pytest.mark.parametrize("epsilon", [0.0, 50.0])
def test_a_stage_is_seen_as_a_change_of_the_encoder_alone(site, start, plan, epsilon):
    private = replace(plan, privacy=PrivacyConfig(epsilon=epsilon, noise=1.0 if epsilon else 0.0))
    victim = stage_victim(site, "small", start, private, 3, 0)
    assert victim.shape == (3, 1, 16, 16)
    images = torch.rand(victim.shape)
    shapes = [g.shape for g in victim.simulate(images)]
    assert shapes == [u.shape for u in victim.update]
    assert all(bool(u.isfinite().all()) for u in victim.update)


def test_strangers_are_no_training_images(site):
    blank = replace(site, images=site.images.copy())
    blank.images[site.split["train"]] = 0
    assert torch.equal(strangers(site, 16, 30, 1), strangers(blank, 16, 30, 1))
    assert len(strangers(site, 16, 30, 1)) == 30


def test_the_heads_gradient_is_prediction_minus_truth(site, start, plan):
    head = fitted_head(site, "small", start, plan, 0)
    rows = site.split["train"][:6]
    gradient, predicted = bias_gradient(site, "small", start, head, rows)
    share = np.bincount(site.targets[rows], minlength=2) / 6
    assert torch.allclose(gradient, predicted - torch.from_numpy(share).float(), atol=1e-5)


def test_a_narrowed_site_trains_on_the_named_rows_alone(site):
    part = narrowed(site, np.array([3, 5]))
    assert part.split["train"].tolist() == [3, 5]
    assert part.split["val"] is site.split["val"]
