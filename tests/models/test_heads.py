"""Heads and losses, against what they compute by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.data.dataset import IGNORE, TASKS
from polyclinic.models.encoder import PRESETS, EncoderConfig
from polyclinic.models.heads import LOSSES, PREDICTIONS, build_head, target_weights
from polyclinic.models.state import state_of
from polyclinic.seeding import generator

CONFIG = EncoderConfig((8, 16), depths=(1, 1))


def maps(height, width, n=3, seed=0):
    gen = generator(seed, "maps")
    rows, columns = -(-height // 4) * 4, -(-width // 4) * 4
    return [
        torch.rand(n, w, rows // s, columns // s, generator=gen)
        for w, s in zip(CONFIG.widths, (2, 4), strict=True)
    ]


@settings(derandomize=True, max_examples=15, deadline=None)
@given(st.integers(1, 21), st.integers(1, 21), st.integers(2, 5))
@torch.no_grad()
def test_a_segmentation_head_scores_every_pixel(height, width, classes):
    head = build_head("segmentation", classes, CONFIG, seed=0)
    out = head(maps(height, width), (height, width))
    assert out.shape == (3, classes, height, width)


@pytest.mark.parametrize(
    ("task", "classes", "outputs"), [("single-label", 4, 4), ("multi-label", 3, 3),
                                     ("regression", 0, 1)]
)  # fmt: skip
@torch.no_grad()
def test_a_pooled_head_gives_one_row_an_image(task, classes, outputs):
    head = build_head(task, classes, CONFIG, seed=0)
    assert head(maps(13, 7), (13, 7)).shape == (3, outputs)


@torch.no_grad()
def test_a_pooled_head_takes_its_statistics_from_what_it_measured():
    head = build_head("single-label", 2, CONFIG, seed=0)
    pooled = torch.cat([m.mean((2, 3)) for m in maps(12, 8, n=20)], dim=1)
    head.measure(pooled)
    head.eval()
    standard = (pooled - pooled.mean(0)) / (pooled.var(0) + head.norm.eps).sqrt()
    expected = standard @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(maps(12, 8, n=20), (12, 8)), expected)


@pytest.mark.parametrize("task", TASKS)
def test_heads_are_drawn_from_their_seed(task):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (state_of(build_head(task, 2, PRESETS["small"], seed)) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_padding_does_not_count_in_the_segmentation_loss():
    gen = generator(0, "loss")
    outputs = torch.randn(2, 3, 6, 6, generator=gen)
    targets = torch.randint(0, 3, (2, 6, 6), generator=gen, dtype=torch.uint8)
    targets[:, 4:] = IGNORE
    targets[1, :, 0] = IGNORE
    weights = torch.tensor([0.5, 1.0, 1.5])
    loss = LOSSES["segmentation"](outputs, targets, weights)
    other = outputs.clone()
    other.movedim(1, -1)[targets == IGNORE] = 50.0
    torch.testing.assert_close(LOSSES["segmentation"](other, targets, weights), loss)
    assert loss == pytest.approx(loop_segmentation(outputs, targets, weights), rel=1e-5)


def loop_segmentation(outputs, targets, weights):
    p, t = outputs.softmax(1).numpy(), targets.numpy()
    entropy = total = 0.0
    overlap, size = np.zeros(3), np.zeros(3)
    for b, y, x in np.ndindex(*t.shape):
        if t[b, y, x] == IGNORE:
            continue
        k = t[b, y, x]
        entropy -= float(weights[k]) * math.log(p[b, k, y, x])
        total += float(weights[k])
        overlap[k] += p[b, k, y, x]
        size[k] += 1
        size += p[b, :, y, x]
    dice = [(2 * overlap[k] + 1) / (size[k] + 1) for k in (1, 2)]
    return entropy / total + 1 - sum(dice) / 2


def test_a_batch_of_padding_alone_teaches_nothing():
    outputs = torch.randn(2, 3, 4, 4, generator=generator(0), requires_grad=True)
    targets = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    loss = LOSSES["segmentation"](outputs, targets, torch.ones(3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.count_nonzero(outputs.grad) == 0


def test_right_answers_cost_little():
    right = {
        "single-label": (torch.eye(3) * 20, torch.arange(3), torch.ones(3)),
        "multi-label": (torch.tensor([[20.0, -20]]), torch.tensor([[1, 0]]), torch.ones(2)),
        "regression": (torch.tensor([[-1.0], [2]]), torch.tensor([40.0, 70]), (50.0, 10.0)),
        "segmentation": (
            torch.tensor([20.0, -20]).view(1, 2, 1, 1).repeat(1, 1, 2, 2),
            torch.zeros(1, 2, 2, dtype=torch.uint8),
            torch.ones(2),
        ),
    }
    for task, (outputs, targets, weights) in right.items():
        assert LOSSES[task](outputs, targets, torch.as_tensor(weights)) < 1e-3
        wrong = LOSSES[task](-outputs, targets, torch.as_tensor(weights))
        assert wrong > 1


def test_predictions():
    scores = torch.randn(4, 3, generator=generator(0))
    none = torch.ones(3)
    torch.testing.assert_close(PREDICTIONS["single-label"](scores, none).sum(1), torch.ones(4))
    labels = PREDICTIONS["multi-label"](scores, none)
    torch.testing.assert_close(labels, 1 / (1 + (-scores).exp()))
    values = PREDICTIONS["regression"](scores[:, :1], torch.tensor([50.0, 10.0]))
    torch.testing.assert_close(values, scores[:, 0] * 10 + 50)
    found = PREDICTIONS["segmentation"](scores.view(1, 3, 2, 2), none)
    assert found.dtype == torch.uint8
    assert found.shape == (1, 2, 2)


def test_weights_of_classes():
    targets = torch.tensor([0] * 40 + [1] * 20 + [2])
    # twice as rare, 40 times as rare (10 at most), absent
    raw = torch.tensor([1.0, 2.0, 10.0, 0.0])
    expected = raw / (13 / 3)
    torch.testing.assert_close(target_weights("single-label", targets, 4), expected)
    label_maps = torch.cat([targets, torch.full((7,), IGNORE)]).to(torch.uint8).view(4, 17)
    torch.testing.assert_close(target_weights("segmentation", label_maps, 4), expected)


def test_weights_of_labels_and_of_numbers():
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.uint8)
    torch.testing.assert_close(
        target_weights("multi-label", labels, 3), torch.tensor([1.0, 3.0, 10.0])
    )
    numbers = torch.tensor([40.0, 50.0, 60.0])
    assert target_weights("regression", numbers, 0).tolist() == [50.0, 10.0]
    assert target_weights("regression", torch.full((3,), 7.0), 0)[1] > 0
