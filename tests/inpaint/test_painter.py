"""The mean of a painter: two samples from opposite noise, the second of the mirrored request."""

from dataclasses import replace

import pytest
import torch

from polyclinic.inpaint.components import KEEP, OEDEMA, TUMOUR_FREE
from polyclinic.inpaint.conditioning import Request
from polyclinic.inpaint.objectives import OBJECTIVES, Levels
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.samplers import ddim
from polyclinic.seeding import generator

LEVELS = Levels(power=1.5, lowest=0.05)

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def request_of_two():
    """Two crops of 16 px, each with a square to paint."""
    known = torch.rand(2, 1, 16, 16, generator=generator("known"))
    fill_map = torch.full((2, 16, 16), KEEP)
    fill_map[:, 4:9, 5:12] = TUMOUR_FREE
    nothing, no = torch.zeros_like(known), torch.tensor([False, False])
    return Request(
        known=known,
        fill_map=fill_map,
        boxed=torch.zeros(2, 16, 16, dtype=torch.bool),
        sequence=torch.tensor([0, 3]),
        beside=nothing,
        has_beside=no,
        other=nothing,
        has_other=no,
        dropped=no,
    )


@pytest.mark.parametrize(("objective", "steps"), [("flow", 2), ("flow", 4), ("ddpm", 1)])
def test_it_is_the_average_of_two_samples(painter, request_of_two, objective, steps):
    one = replace(painter, objective=OBJECTIVES[objective])
    noise = torch.randn(2, 2, 16, 16, generator=generator("mean"))
    here = one.sample(request_of_two, noise, steps, LEVELS)
    mirrored = one.sample(request_of_two.mirrored(), -noise.flip(-1), steps, LEVELS)
    mirrored = mirrored.flip(-1)
    assert torch.equal(one.mean(request_of_two, steps, LEVELS), (here + mirrored) / 2)
    assert not torch.allclose(here, mirrored)


@pytest.mark.parametrize(
    ("objective", "steps"), [("flow", 1), ("regression", 1), ("regression", 4)]
)
def test_where_noise_has_no_part_it_is_one_estimate_from_nothing(
    painter, request_of_two, objective, steps
):
    one = replace(painter, objective=OBJECTIVES[objective])
    nothing = torch.zeros(2, 2, 16, 16)
    here = one.estimate(nothing, 1.0, request_of_two, 1.0)
    mirrored = one.estimate(nothing, 1.0, request_of_two.mirrored(), 1.0).flip(-1)
    assert torch.equal(one.mean(request_of_two, steps, LEVELS), (here + mirrored) / 2)
    assert one.mean_steps(steps) == 1


def test_a_sample_is_the_samplers_walk_with_the_estimates_of_the_request(painter, request_of_two):
    noise = torch.randn(2, 2, 16, 16, generator=generator("noise"))
    walked = ddim(
        lambda state, level: painter.estimate(state, level, request_of_two, 2.0),
        noise,
        painter.objective,
        3,
        LEVELS,
    )
    drawn = painter.sample(request_of_two, noise, 3, LEVELS, guidance=2.0)
    assert torch.equal(drawn, walked)


def test_guidance_exaggerates_tumours_and_leaves_tumour_free_tissue(painter, request_of_two):
    request_of_two.fill_map[1, 4:9, 5:8] = OEDEMA
    tumour = (request_of_two.fill_map == OEDEMA).unsqueeze(1)
    state = torch.randn(2, 2, 16, 16, generator=generator("state"))
    asked = painter.estimate(state, 0.5, request_of_two, 1.0)
    free = painter.estimate(state, 0.5, request_of_two.hidden(), 1.0)
    guided = painter.estimate(state, 0.5, request_of_two, 3.0)
    torch.testing.assert_close(guided[:, :1][tumour], (3 * asked - 2 * free)[:, :1][tumour])
    assert torch.equal(guided[:, :1][~tumour], asked[:, :1][~tumour])
    assert torch.equal(guided[:, 1:], asked[:, 1:])
    assert not torch.allclose(guided, asked)


class Linear(Painter):
    """An estimate that is linear in the state, and the same for an image and its mirror image."""

    def estimate(self, state, level, request, guidance):  # noqa: ARG002
        return request.known.repeat(1, 2, 1, 1) + level * 0.3 * state


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_noise_cancels_out_where_the_estimate_is_linear_in_it(request_of_two, steps):
    one = Linear(None, OBJECTIVES["flow"], digest="")
    nothing = torch.zeros(2, 2, 16, 16)
    from_nothing = one.sample(request_of_two, nothing, steps, LEVELS)
    torch.testing.assert_close(one.mean(request_of_two, steps, LEVELS), from_nothing)
