"""RePaint: the walk of the paper, known pixels kept, and a network that is told nothing."""

import itertools
from dataclasses import replace

import pytest
import torch

from polyclinic.errors import ConfigError
from polyclinic.inpaint.components import OEDEMA, TUMOUR_FREE
from polyclinic.inpaint.conditioning import Request, network_input
from polyclinic.inpaint.objectives import OBJECTIVES
from polyclinic.inpaint.repaint import (
    repaint,
    repaint_calls,
    repaint_request,
    unconditional,
    walk,
)
from polyclinic.inpaint.samplers import ancestral_step
from polyclinic.seeding import generator

pytestmark = pytest.mark.usefixtures("exact")

DDPM = OBJECTIVES["ddpm"]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def crops(count=2, side=16):
    fill_map = torch.full((count, side, side), -1)
    fill_map[:, 4:10, 5:11] = OEDEMA
    return Request(
        known=noise(count, 1, side, side, seed=5),
        fill_map=fill_map,
        boxed=fill_map == OEDEMA,
        sequence=torch.full((count,), 2),
        beside=noise(count, 1, side, side, seed=6),
        has_beside=torch.ones(count, dtype=torch.bool),
        other=noise(count, 1, side, side, seed=7),
        has_other=torch.ones(count, dtype=torch.bool),
        dropped=torch.zeros(count, dtype=torch.bool),
    )


def algorithm_1(steps, resamplings):
    """The loops as the paper has them: down to t - 1, and up again but for the last time."""
    places = [steps]
    for t in range(steps, 0, -1):
        for u in range(1, resamplings + 1):
            places.append(t - 1)
            if u < resamplings and t > 1:
                places.append(t)
            else:
                break
    return places


@pytest.mark.parametrize(("steps", "resamplings"), [(1, 4), (3, 1), (5, 2), (6, 4)])
def test_a_jump_of_one_is_algorithm_1(steps, resamplings):
    assert walk(steps, resamplings, jump=1) == algorithm_1(steps, resamplings)


@pytest.mark.parametrize(
    ("steps", "resamplings", "jump"), [(9, 3, 2), (10, 2, 5), (4, 3, 10), (12, 10, 4)]
)
def test_the_walk_goes_down_by_one_and_up_by_a_jump(steps, resamplings, jump):
    places = walk(steps, resamplings, jump)
    assert (places[0], places[-1]) == (steps, 0)
    moves = [there - here for here, there in itertools.pairwise(places)]
    assert set(moves) <= {-1, jump}
    turns = len(range(jump, steps - jump + 1, jump)) * (resamplings - 1)
    assert moves.count(jump) == turns
    assert repaint_calls(steps, resamplings, jump) == moves.count(-1) == steps + turns * jump


@pytest.mark.parametrize(("numbers", "name"), [((0, 1, 1), "steps"), ((1, 0, 1), "resamplings"),
                                               ((1, 1, 0), "jump")])  # fmt: skip
def test_numbers_below_one(numbers, name):
    with pytest.raises(ConfigError, match=rf"^{name}: expected 1 or more, got 0"):
        walk(*numbers)


def test_the_image_is_exact_where_it_is_known_and_the_oracle_s_elsewhere():
    x, known = noise(2, 2, 6, 6), noise(2, 1, 6, 6, seed=1)
    known_mask = torch.zeros(2, 1, 6, 6)
    known_mask[..., :3] = 1
    asked = []

    def estimate(state, level):
        asked.append(level)
        return x

    found = repaint(estimate, noise(2, 2, 6, 6, seed=2), DDPM, 8, generator(3), known, known_mask,
                    resamplings=3, jump=2)  # fmt: skip
    torch.testing.assert_close(found[..., :3], known.expand(2, 2, 6, 6)[..., :3])
    torch.testing.assert_close(found[..., 3:], x[..., 3:])
    assert len(asked) == repaint_calls(8, 3, 2)
    assert asked[0] == 1.0


def test_with_nothing_known_and_no_way_back_it_samples_the_distribution():
    """A normal image whose exact estimate is known comes out with its mean and spread."""

    def estimate(state, level):
        alpha, sigma = (f(torch.tensor(level)) for f in (DDPM.alpha, DDPM.sigma))
        gain = alpha * 0.3**2 / (alpha**2 * 0.3**2 + sigma**2)
        return 0.4 + gain * (state - alpha * 0.4)

    start, nothing = noise(20, 2, 10, 10), torch.zeros(20, 1, 10, 10)
    for resamplings in (1, 3):
        found = repaint(estimate, start, DDPM, 100, generator(1), nothing, nothing,
                        resamplings=resamplings, jump=5)  # fmt: skip
        assert float(found.mean()) == pytest.approx(0.4, abs=0.02)
        assert float(found.std()) == pytest.approx(0.3, abs=0.03)
    single = ancestral_step(DDPM, start, estimate(start, 1.0), 1.0, 0.0, generator(1))
    torch.testing.assert_close(
        repaint(estimate, start, DDPM, 1, generator(1), nothing, nothing), single
    )


def test_the_network_is_told_nothing():
    request = crops()
    nothing = unconditional(request)
    state = noise(2, 2, 16, 16)
    channels, sequence = network_input(state, nothing)
    torch.testing.assert_close(channels[:, 0], state[:, 0])
    assert bool((channels[:, 2] == 1).all())
    assert not channels[:, 1].any()
    assert not channels[:, 3:].any()
    assert torch.equal(sequence, request.sequence)
    assert not request.dropped.any()
    assert bool((nothing.fill_map == TUMOUR_FREE).all())


def test_crops_are_painted_by_a_network(painter):
    painter = replace(painter, objective=DDPM)
    request = crops()
    paint = lambda seed: repaint_request(  # noqa: E731
        painter, request, noise(2, 2, 16, 16), 4, generator(seed), resamplings=2, jump=2
    )
    found = paint(1)
    kept = request.fill_mask[:, 0] == 0
    assert torch.equal(found[:, 0][kept], request.known[:, 0][kept])
    assert bool(found.isfinite().all())
    assert bool((found[:, 1] == -1).all())
    assert torch.equal(found, paint(1))
    assert not torch.equal(found, paint(2))


def test_only_a_network_that_predicts_noise(painter):
    with pytest.raises(ConfigError, match=r"^repaint: expected .*`ddpm`, got .*`flow`"):
        repaint_request(painter, crops(), noise(2, 2, 16, 16), 2, generator(0))
