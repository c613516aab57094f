"""Masked image modelling: what is hidden, and what counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.models.encoder import build_encoder
from polyclinic.models.masked import MASKED, MaskedModel, masked_loss, sample_mask
from polyclinic.models.pretraining import PretrainPlan
from polyclinic.seeding import generator


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 7), st.sampled_from([1, 4, 8]), st.floats(0.01, 0.99))
def test_the_number_of_masked_patches_is_exact(n, side, patch, ratio):
    found = sample_mask(n, side * patch, patch, ratio, generator(n, side))
    assert found.shape == (n, 1, side * patch, side * patch)
    assert found.dtype == torch.bool
    for image in found[:, 0]:
        patches = 0
        for y in range(side):
            for x in range(side):
                tile = image[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
                assert tile.all() or not tile.any()
                patches += bool(tile.all())
        assert patches == max(1, round(ratio * side * side))


def test_masks_differ_between_images_and_repeat_with_the_seed():
    a, b = (sample_mask(2, 32, 4, 0.5, generator(7)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a[0], a[1])


def loop_loss(predicted, images, masked, patch):
    total = count = 0
    n, channels, size, _ = images.shape
    for b in range(n):
        for y in range(0, size, patch):
            for x in range(0, size, patch):
                tile = images[b, :, y : y + patch, x : x + patch]
                target = (tile - tile.mean()) / (tile.var() + 1e-4).sqrt()
                for i in range(patch):
                    for j in range(patch):
                        if masked[b, 0, y + i, x + j]:
                            error = predicted[b, :, y + i, x + j] - target[:, i, j]
                            total += float(error.square().sum())
                            count += channels
    return total / count


def test_the_loss_is_that_of_a_loop_over_masked_pixels():
    gen = generator(0, "loss")
    images, predicted = (torch.rand(2, 3, 8, 8, generator=gen) for _ in range(2))
    masked = sample_mask(2, 8, 4, 0.5, gen)
    loss = masked_loss(predicted, images, masked, 4)
    assert float(loss) == pytest.approx(loop_loss(predicted, images, masked, 4), rel=1e-5)
    elsewhere = torch.where(masked, predicted, 99.0)
    assert torch.equal(masked_loss(elsewhere, images, masked, 4), loss)


def test_the_model_does_not_see_what_is_masked():
    model = MaskedModel(build_encoder("small", 0))
    gen = generator(1)
    images = torch.rand(2, 3, 16, 16, generator=gen)
    masked = sample_mask(2, 16, 4, 0.5, gen)
    with torch.no_grad():
        out = model(images, masked)
        assert out.shape == images.shape
        assert torch.equal(out, model(torch.where(masked, 0.77, images), masked))
        assert not torch.equal(out, model(torch.where(masked, images, 0.77), masked))


def test_grey_images_cost_what_equal_colours_cost():
    grey = torch.randint(0, 256, (3, 1, 16, 16), generator=generator(2), dtype=torch.uint8)
    model = MaskedModel(build_encoder("small", 0))
    plan = PretrainPlan(1, 3, 1e-3, 0.0, mask_ratio=0.5, patch=4)
    losses = [
        float(MASKED.loss(model, images, 16, plan, generator(4)).detach())
        for images in (grey, grey.expand(-1, 3, -1, -1).contiguous())
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
