"""Canaries: a sound mechanism stays within its claim, and each planted failure is above it."""

from dataclasses import replace

import numpy as np
import pytest

from polyclinic.config import PrivacyConfig
from polyclinic.evaluate.audit.bounds import best_least_epsilon
from polyclinic.federation.audit.planted import FLAWS, mechanism_canaries, stage_canaries

pytestmark = pytest.mark.usefixtures("exact")


def bound(planted):
    return best_least_epsilon(planted.scores, planted.included, planted.delta)[0]


@pytest.mark.parametrize("noise", [0.8, 1.5, 4.0])
@pytest.mark.parametrize("clip", [0.3, 2.0])
def test_a_sound_mechanism_is_never_refuted(noise, clip):
    for seed in range(3):
        found = mechanism_canaries(PrivacyConfig(clip=clip), noise, 1000, seed)
        assert bound(found) <= found.claimed
    assert 400 < found.included.sum() < 600


def test_the_bound_is_not_idle():
    found = mechanism_canaries(PrivacyConfig(), 1.0, 4000, 0)
    assert bound(found) > 1


@pytest.mark.parametrize("flaw", FLAWS.values(), ids=FLAWS)
def test_planted_failures_are_caught(flaw):
    found = mechanism_canaries(PrivacyConfig(), 2.0, 1000, 0, flaw=flaw)
    assert bound(found) > found.claimed
    assert np.isfinite(found.claimed)


def test_a_stage_with_canaries_says_what_it_spent(make_site, start, plan):
    site = make_site(n=32)
    private = replace(plan, batch_size=16, max_steps=2, privacy=PrivacyConfig(epsilon=8.0))
    found = stage_canaries(site, "small", start, private, 2.0, 8, 0)
    assert found.scores.shape == found.included.shape == (8,)
    assert bound(found) <= found.claimed
    again = stage_canaries(site, "small", start, private, 2.0, 8, 0)
    assert np.array_equal(found.scores, again.scores)
    assert np.array_equal(site.images, make_site(n=32).images)  # the site itself is untouched
