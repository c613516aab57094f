"""Samplers and objectives: exact where the truth is known, and equal to their references."""

import itertools
import math

import pytest
import torch

from polyclinic.inpaint.objectives import LEAST_LEVEL, OBJECTIVES, STEPS, Levels
from polyclinic.inpaint.samplers import ancestral_step, ddim
from polyclinic.seeding import generator

FLOW, DDPM = OBJECTIVES["flow"], OBJECTIVES["ddpm"]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def ancestral(estimate, noise, objective, steps, _):
    """Evenly spaced levels, from one to the next by a draw."""
    state, gen = noise, generator(3)
    for level, lower in itertools.pairwise(number / steps for number in range(steps, -1, -1)):
        state = ancestral_step(objective, state, estimate(state, level), level, lower, gen)
    return state


@pytest.mark.parametrize("objective", [FLOW, DDPM])
@pytest.mark.parametrize("sampler", [ddim, ancestral])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])  # 50: the last levels are nearly 0
def test_an_oracle_that_knows_the_image_is_believed(objective, sampler, steps):
    x = noise(2, 2, 3, 3)
    asked = []

    def estimate(state, level):
        asked.append(level)
        return x

    found = sampler(estimate, noise(2, 2, 3, 3, seed=1), objective, steps, Levels(power=3.0))
    torch.testing.assert_close(found, x)
    assert len(asked) == steps
    assert asked[0] == 1.0


def gaussian(objective, mean, deviation):
    """The exact estimate E[x | state] where x is normal with `mean` and `deviation`."""

    def estimate(state, level):
        at = torch.tensor(level, dtype=state.dtype)
        alpha, sigma = objective.alpha(at), objective.sigma(at)
        gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
        return mean + gain * (state - alpha * mean)

    return estimate


@pytest.mark.parametrize(
    ("objective", "sampler", "steps"),
    [(FLOW, ddim, 200), (DDPM, ddim, 250), (FLOW, ancestral, 300), (DDPM, ancestral, 250)],
)
def test_samples_have_the_distribution_that_the_estimate_is_of(objective, sampler, steps):
    estimate, begun = gaussian(objective, 0.4, 0.3), noise(100, 2, 10, 10)
    found = sampler(estimate, begun, objective, steps, Levels())
    assert float(found.mean()) == pytest.approx(0.4, abs=0.01)
    assert float(found.std()) == pytest.approx(0.3, abs=0.02)


def asked_at(steps, levels):
    asked = []
    ddim(lambda state, level: asked.append(level) or state, noise(1, 2, 3, 3), FLOW, steps, levels)
    return asked


def test_a_power_spaces_the_levels():
    assert asked_at(4, Levels(power=1.5)) == [1.0, 0.75**1.5, 0.5**1.5, 0.25**1.5]


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_below_the_lowest_level_nothing_is_asked(steps):
    asked = asked_at(steps, Levels(power=3.0, lowest=0.1))
    assert asked[0] == 1.0
    assert len(asked) == steps
    assert min(asked) > 0.1
    assert sorted(asked, reverse=True) == asked
    assert min(asked_at(50, FLOW.levels)) >= LEAST_LEVEL


@pytest.mark.parametrize("objective", [FLOW, DDPM])
def test_corruption_begins_with_the_image_and_ends_near_noise(objective):
    x, e = noise(1, 2, 4, 4), noise(1, 2, 4, 4, seed=1)
    levels = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    torch.testing.assert_close(objective.corrupt(x, e, levels[:1]), x)
    assert float(objective.sigma(levels[1:])) > 0.999


def test_the_ddpm_schedule_is_the_paper_s():
    levels = torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS
    product, expected = 1.0, []
    for step in range(STEPS):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / (STEPS - 1))
        expected.append(math.sqrt(product))
    torch.testing.assert_close(DDPM.alpha(levels), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(
        DDPM.alpha(levels) ** 2 + DDPM.sigma(levels) ** 2, torch.ones(STEPS, dtype=torch.float64)
    )


def test_the_noise_that_was_added_gives_the_image_back():
    x, e = noise(3, 2, 4, 4).clamp(-1, 1), noise(3, 2, 4, 4, seed=1)
    level = torch.tensor([0.1, 0.5, 0.7], dtype=torch.float64).view(3, 1, 1, 1)
    state = DDPM.corrupt(x, e, level)
    torch.testing.assert_close(DDPM.estimate(e, state, level), x)
    assert float(DDPM.loss(e, state, level, x, e).sum()) == 0


def test_the_flow_s_loss_compares_velocities():
    x, e, guess = noise(2, 2, 3, 3), noise(2, 2, 3, 3, seed=1), noise(2, 2, 3, 3, seed=2)
    level = torch.tensor([0.2, 0.9], dtype=torch.float64).view(2, 1, 1, 1)
    state = FLOW.corrupt(x, e, level)
    true, guessed = e - x, (state - guess) / level
    torch.testing.assert_close(FLOW.loss(guess, state, level, x, e), (guessed - true) ** 2)


@pytest.mark.parametrize("objective", [FLOW, DDPM])
def test_levels_are_drawn_between_0_and_1_and_reach_1(objective):
    levels = objective.draw_levels(20_000, generator(0))
    assert float(levels.min()) > 0
    assert float(levels.max()) == 1
    assert torch.equal(levels, objective.draw_levels(20_000, generator(0)))


def test_a_flow_is_trained_without_noise_too_but_at_level_1_alone():
    levels = torch.cat([torch.ones(400), torch.full((400,), 0.7)]).view(-1, 1, 1, 1)
    noise_of = FLOW.draw_noise(torch.zeros(800, 2, 3, 3), levels, generator(0))
    blank = ~noise_of.flatten(1).any(dim=1)
    assert 150 < int(blank[:400].sum()) < 250
    assert not blank[400:].any()
    assert float(noise_of[~blank].std()) == pytest.approx(1, abs=0.03)
