"""The encoder: any size, grey or colour, same weights from the same seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.models.encoder import PRESETS, EncoderConfig, build_encoder
from polyclinic.models.state import state_of
from polyclinic.seeding import generator


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("small", seed=0)


def images(*shape):
    return torch.rand(*shape, generator=generator(0, "images"))


@settings(derandomize=True, max_examples=12, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
@torch.no_grad()
def test_any_size_gives_maps_of_the_declared_shapes(encoder, height, width, channels):
    maps = encoder(images(2, channels, height, width))
    stride = encoder.config.stride
    assert stride == 16
    rows, columns = -(-height // stride) * stride, -(-width // stride) * stride
    assert [tuple(m.shape) for m in maps] == [
        (2, c, rows // s, columns // s)
        for c, s in zip(encoder.config.widths, (2, 4, 8, 16), strict=True)
    ]
    assert all(torch.isfinite(m).all() for m in maps)


@torch.no_grad()
def test_an_odd_size_is_filled_up_with_its_edges(encoder):
    odd = images(1, 3, 15, 9)
    rows = torch.arange(16).clamp_max(14)
    columns = torch.arange(16).clamp_max(8)
    whole = odd[:, :, rows][:, :, :, columns]
    for a, b in zip(encoder(odd), encoder(whole), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_grey_is_the_same_as_its_channels_repeated(encoder):
    grey = images(2, 1, 16, 16)
    assert torch.equal(encoder.embed(grey), encoder.embed(grey.repeat(1, 3, 1, 1)))


@torch.no_grad()
def test_an_embedding_is_the_means_of_the_maps(encoder):
    batch = images(2, 3, 32, 16)
    embedding = encoder.embed(batch)
    assert embedding.shape == (2, encoder.config.embedding) == (2, 240)
    by_hand = [float(m[1, c].mean()) for m in encoder(batch) for c in range(m.shape[1])]
    torch.testing.assert_close(embedding[1], torch.tensor(by_hand))


@torch.no_grad()
def test_an_image_does_not_see_its_neighbours_in_the_batch(encoder):
    batch = images(3, 3, 16, 16)
    torch.testing.assert_close(encoder.embed(batch)[1:2], encoder.embed(batch[1:2]))
    assert not [name for name, _ in encoder.named_buffers()]  # no statistics are kept


def test_seeds():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (state_of(build_encoder("small", seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["stem.weight"], c["stem.weight"])
    without = state_of(build_encoder("small"))
    assert not torch.equal(without["stem.weight"], a["stem.weight"])


def test_blocks_begin_as_the_identity(encoder):
    x = images(2, 16, 4, 4)
    block = encoder.blocks[0][0]
    bias = block.conv2.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(block(x), x + bias)


@pytest.mark.parametrize("shape", [(16, 16), (3, 16, 16), (1, 2, 16, 16), (1, 4, 16, 16)])
def test_another_shape_is_refused(encoder, shape):
    text = r"expected images \(B, 1 or 3, H, W\), got shape \(" + str(shape[0])
    with pytest.raises(ValueError, match=text):
        encoder(images(*shape))


def test_every_weight_is_trained(encoder):
    model = build_encoder("small", seed=3)
    with torch.no_grad():  # zero weights at the start hide what lies behind them
        for name, value in model.named_parameters():
            if name.endswith("conv2.weight"):
                value.fill_(0.01)
    model.embed(images(2, 3, 32, 32)).square().sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_presets():
    assert PRESETS["small"].embedding == 240
    assert PRESETS["base"].stride == 32
    assert EncoderConfig((8, 16), (1, 1)).stride == 4
    size = sum(p.numel() for p in build_encoder("small").parameters())
    assert 0.7e6 < size < 0.9e6
