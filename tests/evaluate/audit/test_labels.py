"""Labels from gradients and updates, and what is made of shares that add up to nothing."""

import numpy as np
import pytest
import torch

from polyclinic.evaluate.audit.labels import (
    counts_from_head,
    counts_from_updates,
    label_of_one,
    mean_interval,
    overlap,
    whole_counts,
)


def bias_gradient(outputs, labels):
    bias = torch.zeros(outputs.shape[1], requires_grad=True)
    loss = torch.nn.functional.cross_entropy(outputs + bias, labels)
    return torch.autograd.grad(loss, bias)[0]


def test_the_label_of_one_image_is_the_negative_one():
    gen = torch.Generator().manual_seed(0)
    for label in range(5):
        gradient = bias_gradient(3 * torch.randn(1, 5, generator=gen), torch.tensor([label]))
        assert label_of_one(gradient) == label
        assert label_of_one(gradient.sign()) == label


def test_counts_follow_from_the_gradient_and_the_predictions_of_each_class():
    truth = torch.tensor([5, 0, 2, 1])
    labels = torch.repeat_interleave(torch.arange(4), truth)
    outputs = 2 * torch.eye(4)  # what the model says of an image of each class
    found = counts_from_head(bias_gradient(outputs[labels], labels), outputs.softmax(1), 8)
    assert found.tolist() == truth.tolist()


def test_counts_are_learnt_from_simulated_updates_and_noise_hides_them():
    rng = np.random.default_rng(0)
    push = rng.normal(size=(3, 400))
    counts = rng.multinomial(12, [1 / 3] * 3, size=40)
    update = counts @ push + 0.1 * rng.normal(size=(40, 400))
    truth = np.array([2, 9, 1])
    own, known = torch.from_numpy(update), torch.from_numpy(counts)
    clear = torch.from_numpy(truth @ push)
    assert counts_from_updates(clear, own, known, 12).tolist() == truth.tolist()
    noisy = torch.from_numpy(truth @ push + 1e4 * rng.normal(size=400))
    assert overlap(counts_from_updates(noisy, own, known, 12), torch.from_numpy(truth)) < 0.8


@pytest.mark.parametrize(
    ("shares", "batch", "expected"),
    [([1.0, 1.0, 1.0], 4, [2, 1, 1]), ([-1.0, -2.0], 2, [1, 1]), ([0.0, 3.0], 5, [0, 5])],
)
def test_whole_counts_add_up(shares, batch, expected):
    assert whole_counts(torch.tensor(shares), batch).tolist() == expected


def test_overlap_counts_labels_that_are_accounted_for():
    assert overlap(torch.tensor([3, 1]), torch.tensor([2, 2])) == 0.75


def test_the_mean_has_an_interval_around_it():
    value, low, high = mean_interval([1.0, 2.0, 3.0, 4.0], 500, 0)
    assert low < value == 2.5 < high
    assert all(np.isnan(v) for v in mean_interval([], 10, 0))
