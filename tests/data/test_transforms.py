"""Random views: what they show, what they do to label maps, and that they can be replayed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.data.dataset import IGNORE
from polyclinic.data.transforms import Augmentation, Views, apply_views, sample_views
from polyclinic.seeding import generator

STILL = Augmentation(rotation=0, zoom=0, shift=0, flip=0, brightness=0, contrast=0)


def batch(side, channels=1, n=3, seed=0):
    """Images uint8 whose first channel holds 60 times the label of the pixel, and label maps."""
    gen = generator(seed, "batch")
    labels = torch.randint(0, 4, (n, side, side), generator=gen, dtype=torch.uint8)
    return (labels * 60).unsqueeze(1).repeat(1, channels, 1, 1), labels


def chosen(theta, n=3):
    """Views of one affine map, with no change of brightness."""
    ones = torch.ones(n, 1, 1, 1)
    return Views(torch.tensor(theta).repeat(n, 1, 1), 0 * ones, ones)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(st.integers(2, 20), st.sampled_from([1, 3]), st.integers(0, 99))
def test_a_view_without_augmentation_is_the_image(side, channels, seed):
    images, labels = batch(side, channels, seed=seed)
    views = sample_views(3, side, side, STILL, generator(seed))
    out, found = apply_views(images, views, side, labels)
    torch.testing.assert_close(out, images / 255, atol=1e-4, rtol=0)
    assert torch.equal(found, labels)
    assert found.dtype == torch.uint8


def test_every_view_is_flipped_if_it_should_be():
    images, labels = batch(8)
    views = sample_views(3, 8, 8, Augmentation(0, 0, 0, 1.0, 0, 0), generator(0))
    out, found = apply_views(images, views, 8, labels)
    torch.testing.assert_close(out, images.flip(3) / 255, atol=1e-4, rtol=0)
    assert torch.equal(found, labels.flip(2))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_label_maps_turn_with_their_images(turns):
    images, labels = batch(8)
    cos, sin = np.cos(turns * np.pi / 2), np.sin(turns * np.pi / 2)
    theta = np.array([[cos, -sin, 0], [sin, cos, 0]], np.float32).tolist()
    out, found = apply_views(images, chosen(theta), 8, labels)
    torch.testing.assert_close(out, torch.rot90(images, turns, (2, 3)) / 255, atol=1e-4, rtol=0)
    assert torch.equal(found, torch.rot90(labels, turns, (1, 2)))


@settings(derandomize=True, max_examples=20, deadline=None)
@given(st.integers(0, 999), st.sampled_from([16, 24, 48]))
def test_label_maps_follow_their_images_through_any_view(seed, size):
    # a smooth image from which the label can be told: left half dark, right half bright
    side = 48
    labels = torch.zeros(2, side, side, dtype=torch.uint8)
    labels[:, :, side // 2 :] = 1
    views = sample_views(2, side, size, Augmentation(brightness=0, contrast=0), generator(seed))
    out, found = apply_views((labels * 255).unsqueeze(1), views, size, labels)
    known = (found != IGNORE) & ((out[:, 0] - 0.5).abs() > 0.01)
    assert torch.equal((out[:, 0] > 0.5)[known], found[known] == 1)
    assert set(found.unique().tolist()) <= {0, 1, IGNORE}


def test_beyond_the_border_images_are_reflected_and_labels_ignored():
    images, labels = batch(8)
    wide = [[2.0, 0, 0], [0, 2.0, 0]]  # twice the image: a border of 4 px around it
    out, found = apply_views(images, chosen(wide), 16, labels)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 4:12] = True
    assert (found[:, ~inside] == IGNORE).all()
    assert torch.equal(found[:, 4:12, 4:12], labels)
    reflected = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), "symmetric")
    torch.testing.assert_close(out, torch.from_numpy(reflected) / 255, atol=1e-4, rtol=0)


def test_padding_in_a_label_map_stays_padding():
    images, labels = batch(8)
    labels[:, 5:] = IGNORE
    found = apply_views(images, chosen([[1.0, 0, 0], [0, 1.0, 0]]), 8, labels)[1]
    assert torch.equal(found, labels)


def test_crops_keep_the_resolution_and_reach_every_corner():
    side, size = 64, 16
    views = sample_views(400, side, size, STILL, generator(0))
    # the scale is the crop's share of the image: one pixel of the view is one of the image
    assert torch.equal(views.theta[:, 0, 0], torch.full((400,), size / side))
    for axis in (0, 1):
        centre = views.theta[:, axis, 2]
        assert centre.abs().max() <= 1 - size / side + 1e-6  # no crop leaves the image
        assert centre.min() < -0.7
        assert centre.max() > 0.7


def test_ranges_are_kept():
    a = Augmentation(rotation=20, zoom=0.2, shift=0.1, flip=0.3, brightness=0.2, contrast=0.4)
    views = sample_views(2000, 32, 32, a, generator(1))
    scale = views.theta[:, :, :2].det()
    assert 0.27 < (scale < 0).float().mean() < 0.33  # flipped
    zoom = 1 / scale.abs().sqrt()
    assert 0.8 <= zoom.min() < 0.82
    assert 1.18 < zoom.max() <= 1.2001
    angle = torch.atan2(-views.theta[:, 0, 1], views.theta[:, 1, 1]).rad2deg()
    assert 19 < angle.abs().max() < 20.001
    assert views.theta[:, :, 2].abs().max() <= 0.2  # of the half side: 0.1 of the side
    assert 0.19 < views.brightness.abs().max() <= 0.2
    assert 0.6 <= views.contrast.min() < 0.62
    assert 1.38 < views.contrast.max() <= 1.4


def test_brightness_and_contrast():
    images = torch.tensor([0, 51, 128, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    one = torch.ones(1, 1, 1, 1)
    theta = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]])
    out, labels = apply_views(images, Views(theta, 0.1 * one, 0.5 * one), 2)
    expected = torch.tensor([0.35, 0.45, 0.351 + 0.25, 0.85]).view(1, 1, 2, 2)
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)
    assert labels is None
    out, _ = apply_views(images, Views(theta, 0.9 * one, 3 * one), 2)
    assert out.max() <= 1
    assert out.min() >= 0


def test_views_repeat_with_their_generator():
    images, _ = batch(16)
    outs = [
        apply_views(images, sample_views(3, 16, 16, Augmentation(), generator(seed)), 16)[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    views = sample_views(3, 16, 16, Augmentation(), generator(1))
    assert torch.equal(apply_views(images, views, 16)[0], outs[0])  # replayed
