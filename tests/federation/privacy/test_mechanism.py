"""Gradients one by one against a slow loop, clipping exact, noise as wide as it is said to be."""

import pytest
import torch
from torch import nn

from polyclinic.data.dataset import TASKS
from polyclinic.errors import PrivacyError
from polyclinic.federation.privacy.head import neutral_weights, private_head
from polyclinic.federation.privacy.mechanism import (
    ImageGradients,
    Joined,
    clipped_sum,
    privatised,
)
from polyclinic.federation.privacy.sgd import _losses
from polyclinic.models.encoder import build_encoder
from polyclinic.models.heads import build_head
from polyclinic.models.training import Batches, TrainPlan
from polyclinic.seeding import generator

PLAN = TrainPlan(16, epochs=1, min_steps=1, max_steps=1, batch_size=8, learning_rate=1e-3,
                 weight_decay=0.0, anchor="feature", anchor_weight=0.1)  # fmt: skip
PRIVATE = [task for task in TASKS if task != "regression"]
SECRET = b"of the tests"

pytestmark = pytest.mark.usefixtures("exact")


def awake(network):
    """The network with weights that none of its parts ignores (some begin with zeros)."""
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn(value.shape, generator=generator("awake")), alpha=0.05)
    return network


@pytest.fixture
def networks():
    """task -> (encoder with head, the encoder that came, the loss's weights)."""

    def build(task, classes=2):
        encoder = build_encoder("small", seed=0)
        joined = awake(Joined(encoder, private_head(task, classes, encoder.config)))
        start = build_encoder("small", seed=0).requires_grad_(False)
        return joined, start, neutral_weights(classes)

    return build


def drawn(site, number=5):
    rows = torch.from_numpy(site.split["train"][:number])
    return Batches(site, PLAN).draw(rows, generator("views"))


def one_by_one(joined, images, targets, weights, start, task):
    """The slow, obvious way: each image alone in its batch."""
    parameters = list(joined.parameters())
    found = []
    for image, target in zip(images.split(1), targets.split(1), strict=True):
        loss = _losses(joined, image, target, weights, start, PLAN, task).sum()
        found.append(torch.autograd.grad(loss, parameters))
    return [torch.stack(gradients) for gradients in zip(*found, strict=True)]


@pytest.mark.parametrize("task", PRIVATE)
def test_gradients_of_images_are_those_of_each_image_alone(make_site, networks, task):
    joined, start, weights = networks(task)
    images, targets = drawn(make_site(task, n=16))
    slow = one_by_one(joined, images, targets, weights, start, task)
    with ImageGradients(joined) as gradients:
        images.requires_grad_()
        fast = gradients.of(_losses(joined, images, targets, weights, start, PLAN, task))
    for (name, _), a, b in zip(joined.named_parameters(), slow, fast, strict=True):
        largest = float(a.abs().max())
        assert largest > 0, name
        assert float((a - b).abs().max()) < 1e-4 * largest + 1e-7, name


def test_what_an_image_adds_does_not_depend_on_the_others(make_site, networks):
    joined, start, weights = networks("single-label")
    images, targets = drawn(make_site(n=16), 6)
    with ImageGradients(joined) as gradients:
        images.requires_grad_()
        all_of_them = gradients.of(
            _losses(joined, images, targets, weights, start, PLAN, "single-label")
        )
        few = images.detach()[:2].requires_grad_()
        some = gradients.of(_losses(joined, few, targets[:2], weights, start, PLAN, "single-label"))
    for a, b in zip(all_of_them, some, strict=True):
        assert torch.allclose(a[:2], b, rtol=1e-4, atol=1e-6)


def test_the_usual_head_is_refused_because_it_looks_at_the_batch(networks):
    encoder = build_encoder("small", seed=0)
    usual = Joined(encoder, build_head("single-label", 2, encoder.config, seed=0))
    with pytest.raises(PrivacyError, match=r"`head.norm` normalises over the batch"):
        ImageGradients(usual)


def test_afterwards_the_network_is_as_others_expect_it(make_site, networks):
    joined, start, weights = networks("single-label")
    images, targets = drawn(make_site(n=16))
    with ImageGradients(joined) as gradients:
        images.requires_grad_()
        gradients.of(_losses(joined, images, targets, weights, start, PLAN, "single-label"))
    assert all(p.grad is None for p in joined.parameters())
    assert not any(hasattr(p, "grad_sample") for p in joined.parameters())
    assert not any(m._backward_hooks or m._forward_hooks for m in joined.modules())


# Clipping.


def norm(parts):
    return float(sum(p.double().square().sum() for p in parts)) ** 0.5


@pytest.fixture
def gradients():
    """Of five images and two parameters, the first of them long, the last nearly nothing."""
    scale = torch.tensor([100.0, 3.0, 1.0, 0.5, 0.001])
    gen = generator("gradients")
    parts = [torch.randn(5, 4, 3, generator=gen), torch.randn(5, 7, generator=gen)]
    return [p * scale.reshape(-1, *[1] * (p.ndim - 1)) for p in parts]


def test_each_unit_adds_its_gradient_shortened_to_the_clip(gradients):
    clip = 2.0
    expected = [torch.zeros(4, 3), torch.zeros(7)]
    for number in range(5):
        own = [g[number] for g in gradients]
        factor = min(1.0, clip / norm(own))
        alone = clipped_sum([g[number : number + 1] for g in gradients], torch.tensor([0]), 1, clip)
        assert norm(alone) == pytest.approx(min(clip, norm(own)), rel=1e-6)
        expected = [e + factor * o for e, o in zip(expected, own, strict=True)]
    total = clipped_sum(gradients, torch.arange(5), 5, clip)
    for a, b in zip(total, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_images_of_one_patient_are_added_before_they_are_clipped(gradients):
    total = clipped_sum(gradients, torch.tensor([0, 1, 0, 1, 0]), 2, 2.0)
    expected = [0.0, 0.0]
    for rows in ([0, 2, 4], [1, 3]):
        own = [g[rows].sum(0) for g in gradients]
        expected = [e + min(1, 2 / norm(own)) * o for e, o in zip(expected, own, strict=True)]
    for a, b in zip(total, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    one_patient = clipped_sum(gradients, torch.zeros(5, dtype=torch.long), 1, 2.0)
    assert norm(one_patient) == pytest.approx(2.0, rel=1e-6)


def worst_influence(mechanism, gradients):
    """How far the sum moves, at most, when one unit is left out."""
    with_all = mechanism(gradients)
    moved = []
    for left_out in range(5):
        rest = [n for n in range(5) if n != left_out]
        without = mechanism([g[rest] for g in gradients])
        moved.append(norm([a - b for a, b in zip(with_all, without, strict=True)]))
    return max(moved)


def per_unit(gradients):
    number = len(gradients[0])
    return clipped_sum(gradients, torch.arange(number), number, 1.0)


def per_batch(gradients):
    """The planted mistake: the sum is clipped, not what it is a sum of."""
    total = [g.sum(0) for g in gradients]
    return [t * min(1.0, 1.0 / norm(total)) for t in total]


def not_at_all(gradients):
    return [g.sum(0) for g in gradients]


def test_no_unit_moves_the_sum_by_more_than_the_clip(gradients):
    assert worst_influence(per_unit, gradients) <= 1.0 + 1e-6


@pytest.mark.parametrize("wrong", [per_batch, not_at_all])
def test_wrong_clipping_is_noticed_by_the_same_measure(gradients, wrong):
    assert worst_influence(wrong, gradients) > 1.0 + 1e-6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_adds_nothing(gradients, value):
    rest = [g[1:] for g in gradients]
    gradients[1][0, 0] = value
    total = clipped_sum(gradients, torch.arange(5), 5, 1.0)
    expected = clipped_sum(rest, torch.arange(4), 4, 1.0)
    assert all(torch.allclose(a, b) for a, b in zip(total, expected, strict=True))


# Noise.


def test_the_noise_is_as_wide_as_noise_times_clip_over_the_expected_number():
    zero = [torch.zeros(200, 300), torch.zeros(40_000)]
    noise = privatised(zero, "a", noise=1.5, clip=0.2, expected=8.0, secret=SECRET)
    values = torch.cat([n.flatten() for n in noise])
    assert values.std() == pytest.approx(1.5 * 0.2 / 8, rel=0.01)
    assert abs(float(values.mean())) < 1e-3 * 1.5 * 0.2
    for part in noise:
        assert part.std() == pytest.approx(1.5 * 0.2 / 8, rel=0.01)


def test_the_noise_of_two_steps_has_nothing_in_common():
    zero = [torch.zeros(100_000)]
    of = {"noise": 1.0, "clip": 1.0, "expected": 1.0}
    first, again = (privatised(zero, "n", 0, secret=SECRET, **of)[0] for _ in range(2))
    assert torch.equal(first, again)
    for other in (
        privatised(zero, "n", 1, secret=SECRET, **of)[0],
        privatised(zero, "n", 0, secret=b"another", **of)[0],
    ):
        both = torch.stack([first, other])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.02


def test_what_is_divided_by_does_not_tell_how_many_took_part(gradients):
    of = {"noise": 1.0, "clip": 1.0, "secret": SECRET}
    total = clipped_sum(gradients, torch.arange(5), 5, 1.0)
    noisy = privatised(total, "n", expected=4.0, **of)
    only_noise = privatised([torch.zeros_like(t) for t in total], "n", expected=4.0, **of)
    for a, b, t in zip(noisy, only_noise, total, strict=True):
        assert torch.allclose(a - b, t / 4, atol=1e-5)


@pytest.mark.parametrize(
    ("noise", "clip"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (float("nan"), 1)]
)
def test_without_noise_nothing_is_released(noise, clip):
    with pytest.raises(PrivacyError, match=r"without noise: expected noise and clip above 0"):
        privatised([torch.zeros(3)], "n", noise=noise, clip=clip, expected=1.0, secret=SECRET)


def test_a_head_of_zeros_leaves_the_encoder_alone_at_first(make_site, networks):
    encoder = build_encoder("small", seed=0)
    joined = Joined(encoder, private_head("single-label", 2, encoder.config))
    images, targets = drawn(make_site(n=16))
    nn.functional.cross_entropy(joined(images)[0], targets).backward()
    assert not any(p.grad is not None and p.grad.any() for p in encoder.parameters())
    assert joined.head.linear.weight.grad.any()
