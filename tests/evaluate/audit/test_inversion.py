"""The search finds an image from its gradient, and nothing where there is none to find."""

import pytest
import torch
from torch import nn

from polyclinic.errors import PrivacyError
from polyclinic.evaluate.audit.inversion import (
    InversionPlan,
    cosine_distance,
    distance_of,
    invert,
    total_variation,
)

PLAN = InversionPlan(steps=120, restarts=1)


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten(),
            nn.Linear(512, 2),
        )  # fmt: skip


@pytest.fixture
def simulate(network):
    def gradients(images):
        loss = nn.functional.cross_entropy(network(images), torch.zeros(len(images)).long())
        return torch.autograd.grad(loss, list(network.parameters()), create_graph=True)

    return gradients


@pytest.fixture
def image():
    grid = torch.linspace(0, 1, 8)
    return (grid[:, None] * grid)[None, None]


def test_an_image_is_found_from_its_gradient(simulate, image):
    observed = [g.detach() for g in simulate(image)]
    found = invert(simulate, observed, (1, 1, 8, 8), PLAN, 0)
    assert found.distance < 0.01
    assert float((found.images - image).square().mean()) < 0.002
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1


def test_the_same_seed_finds_the_same(simulate, image):
    observed = [g.detach() for g in simulate(image)]
    short = InversionPlan(steps=5, restarts=2)
    a, b = (invert(simulate, observed, (1, 1, 8, 8), short, 7).images for _ in range(2))
    assert torch.equal(a, b)
    one = invert(simulate, observed, (1, 1, 8, 8), InversionPlan(steps=5, restarts=1), 7)
    assert invert(simulate, observed, (1, 1, 8, 8), short, 7).distance <= one.distance


def test_noise_in_place_of_the_gradient_shows_nothing(simulate, image):
    gen = torch.Generator().manual_seed(1)
    noise = [torch.randn(g.shape, generator=gen) for g in simulate(image)]
    found = invert(simulate, noise, (1, 1, 8, 8), PLAN, 0)
    assert float((found.images - image).square().mean()) > 0.05


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_an_update_without_a_direction_is_refused(simulate, image, value):
    observed = [torch.full_like(g, value) for g in simulate(image)]
    with pytest.raises(PrivacyError, match=r"the update has a length of .* expected one above 0"):
        invert(simulate, observed, (1, 1, 8, 8), PLAN, 0)


def test_distances_are_those_of_directions():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    assert float(cosine_distance([a], [3 * a])) == pytest.approx(0)
    assert float(cosine_distance([a, b], [a, -b])) == pytest.approx(1 - (1 - 4) / 5)
    assert float(distance_of([a, b], [a, -b], by_tensor=True)) == pytest.approx(1)


def test_total_variation_is_the_mean_step_along_both_axes():
    image = torch.tensor([[[[0.0, 1.0], [0.0, 0.5]]]])
    assert float(total_variation(image)) == pytest.approx(0.5 / 2 + 1.5 / 2)
