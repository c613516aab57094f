"""The network: sizes, what it begins as, and that levels and sequences reach it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.inpaint.conditioning import Request
from polyclinic.inpaint.network import SIZES, NetworkConfig, build_network, waves
from polyclinic.seeding import generator

DEEP = NetworkConfig((8, 16, 32), (False, True, True), blocks=2, patch=2, crop=16, head_px=28)


def request(count, height, width, sequence=0):
    planes, flags = torch.zeros(count, 1, height, width), torch.zeros(count, dtype=torch.bool)
    fill_map = torch.full((count, height, width), -1)
    fill_map[:, 2:-2, 2:-2] = 2
    return Request(
        known=planes,
        fill_map=fill_map,
        boxed=torch.zeros(count, height, width, dtype=torch.bool),
        sequence=torch.full((count,), sequence),
        beside=planes,
        has_beside=flags,
        other=planes,
        has_other=flags,
        dropped=flags,
    )


@settings(max_examples=10, derandomize=True, database=None, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), count=st.integers(1, 3))
def test_any_multiple_of_the_stride(rows, columns, count):
    height, width = rows * DEEP.stride, columns * DEEP.stride
    network = build_network(DEEP, seed=0)
    state = torch.randn(count, 2, height, width)
    out = network(state, torch.rand(count), request(count, height, width))
    assert out.shape == (count, 2, height, width)
    assert not out.any()  # it begins as 0


@pytest.mark.parametrize("change", ["level", "sequence", "state", "request"])
def test_everything_that_it_is_told_matters(awake, change):
    network, asked = awake(DEEP), request(2, 16, 16)
    state, level = torch.randn(2, 2, 16, 16, generator=generator("state")), torch.full((2,), 0.5)
    before = network(state, level, asked)
    if change == "level":
        level = level + 0.1
    elif change == "sequence":
        asked = replace(asked, sequence=asked.sequence + 1)
    elif change == "state":
        state = state + 0.1
    else:
        asked = asked.hidden()
    assert not torch.allclose(network(state, level, asked), before)


def test_crops_of_a_batch_do_not_touch_each_other(awake):
    network, asked = awake(DEEP), request(2, 16, 16)
    state = torch.randn(2, 2, 16, 16, generator=generator("state"))
    before = network(state, torch.full((2,), 0.5), asked)
    state[1] = 0
    torch.testing.assert_close(network(state, torch.full((2,), 0.5), asked)[0], before[0])


def test_levels_are_told_apart():
    codes = waves(torch.linspace(0, 1, 101), 32)
    assert codes.shape == (101, 32)
    assert torch.pdist(codes).min() > 0.1


@pytest.mark.parametrize(("size", "low", "high"), [("small", 1e6, 4e6), ("large", 5e7, 3e8)])
def test_sizes(size, low, high):
    with torch.device("meta"):
        network = build_network(SIZES[size], seed=0)
    assert low < sum(value.numel() for value in network.parameters()) < high
    assert SIZES[size].crop * 3 // 2 % SIZES[size].stride == 0
