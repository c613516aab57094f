"""Contrastive learning: the loss against a loop, and what views are pulled together."""

import math

import pytest
import torch

from polyclinic.data.transforms import Augmentation
from polyclinic.models import contrastive as module
from polyclinic.models.contrastive import ContrastiveModel, contrastive_loss
from polyclinic.models.encoder import build_encoder
from polyclinic.seeding import generator


def unit(n, width, *seed):
    return torch.nn.functional.normalize(torch.randn(n, width, generator=generator(*seed)), dim=1)


def loop_loss(first, second, temperature):
    views = [*first.tolist(), *second.tolist()]
    n, total = len(first), 0.0
    for i, one in enumerate(views):
        partner = (i + n) % (2 * n)
        alike = [
            math.exp(sum(a * b for a, b in zip(one, other, strict=True)) / temperature)
            for other in views
        ]
        total -= math.log(alike[partner] / (sum(alike) - alike[i]))
    return total / (2 * n)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_loss_is_that_of_a_loop_over_pairs(n):
    first, second = unit(n, 6, "first", n), unit(n, 6, "second", n)
    loss = float(contrastive_loss(first, second, 0.3))
    assert loss == pytest.approx(loop_loss(first, second, 0.3), rel=1e-5)


def test_pairs_that_agree_cost_less_than_pairs_that_are_swapped():
    first = torch.eye(4)
    assert contrastive_loss(first, first) < contrastive_loss(first, first.roll(1, 0))


def test_places_are_on_the_unit_sphere_whatever_the_size():
    model = ContrastiveModel(build_encoder("small", 0))
    for size in (16, 40):
        out = model(torch.rand(3, 1, size, size, generator=generator(size)))
        assert out.shape == (3, 64)
        torch.testing.assert_close(out.norm(dim=1), torch.ones(3))


def test_views_differ_stay_in_range_and_repeat_with_the_seed():
    images = torch.randint(0, 256, (6, 3, 24, 24), generator=generator(0), dtype=torch.uint8)
    a, b, again = (module._view(images, 16, generator(seed)) for seed in (1, 2, 1))
    assert a.shape == (6, 3, 16, 16)
    assert torch.equal(a, again)
    assert not any(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert a.min() >= 0
    assert a.max() <= 1


def test_about_half_of_the_views_lose_detail(monkeypatch):
    monkeypatch.setattr(module, "_VIEWS", Augmentation(0, 0, 0, 0, 0, 0))
    checks = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).repeat(12, 12)
    views = module._view(checks.expand(64, 1, 24, 24), 24, generator(3))
    kept = (views - checks / 255).abs().amax((1, 2, 3)) < 1e-4
    assert 16 < int(kept.sum()) < 48
    assert (views[~kept] - 0.5).abs().amax() < 0.45
