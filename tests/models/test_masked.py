"""Masked image modelling: what is hidden, what counts, and how a killed pre-training goes on."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.models import masked as module
from polyclinic.models.encoder import build_encoder
from polyclinic.models.masked import (
    MaskedModel,
    MimPlan,
    encoder_of,
    masked_loss,
    pretrain,
    sample_mask,
)
from polyclinic.models.state import load_state, save_state, state_of
from polyclinic.seeding import generator

PLAN = MimPlan(
    epochs=4, batch_size=4, learning_rate=1e-3, weight_decay=0.05, mask_ratio=0.6, patch=4
)


@pytest.fixture(scope="module")
def corpus():
    gen = generator(0, "corpus")
    coarse = torch.randint(0, 256, (10, 3, 4, 4), generator=gen, dtype=torch.uint8)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).numpy()


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
    model = MaskedModel(encoder := build_encoder("small", 0), encoder.config)
    gen = generator(1)
    images = torch.rand(2, 3, 16, 16, generator=gen)
    masked = sample_mask(2, 16, 4, 0.5, gen)
    with torch.no_grad():
        out = model(images, masked)
        assert out.shape == images.shape
        assert torch.equal(out, model(torch.where(masked, 0.77, images), masked))
        assert not torch.equal(out, model(torch.where(masked, images, 0.77), masked))


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_a_resumed_pretraining_is_the_same_to_the_last_bit(exact, corpus, tmp_path):
    whole = [*pretrain("small", corpus, PLAN, seed=3)]
    assert [epoch for epoch, _, _ in whole] == [0, 1, 2, 3]
    for after in (0, 2):
        save_state(whole[after][2], tmp_path / "mim.safetensors")
        torch.rand(3)
        rest = [*pretrain("small", corpus, PLAN, 3, load_state(tmp_path / "mim.safetensors"))]
        assert [epoch for epoch, _, _ in rest] == [*range(after + 1, 4)]
        for (_, loss, state), (_, again, resumed) in zip(whole[after + 1 :], rest, strict=True):
            assert loss == again
            assert equal(state, resumed)
    assert [*pretrain("small", corpus, PLAN, 3, whole[-1][2])] == []
    first, last = whole[0][1], whole[-1][1]
    assert last < first


def test_yielded_states_do_not_change_afterwards(exact, corpus):
    states = []
    for _, _, state in pretrain("small", corpus, PLAN, seed=0):
        states.append((state, {k: v.clone() for k, v in state.items()}))
        if len(states) == 2:
            break
    assert all(equal(state, copy) for state, copy in states)


def test_the_encoder_in_a_state(exact, corpus):
    _, _, state = next(iter(pretrain("small", corpus, PLAN, seed=0)))
    encoder = encoder_of(state)
    fresh = state_of(build_encoder("small", 0))
    assert {k: v.shape for k, v in encoder.items()} == {k: v.shape for k, v in fresh.items()}
    assert not equal(encoder, fresh)


def test_the_learning_rate_rises_and_falls():
    rates = [module._cosine(step, 20, warmup=4) for step in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 1
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert 0 < rates[-1] < 0.05
