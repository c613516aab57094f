"""Factors of a change: the best of their rank, and on the way as safe as whole tensors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import KnowledgeError
from polyclinic.federation.knowledge import Knowledge, Schema, contents, pack, unpack
from polyclinic.federation.low_rank import LEFT, RIGHT, factors, pays, product, sent_shapes
from polyclinic.federation.wire import SCALES, Writing, compensated

SCALARS = {"examples": 12.0, "loss": 0.5, "received_score": 0.25, "trained_score": math.nan}
SHAPES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.lists(st.integers(0, 7), max_size=4).map(tuple),
    max_size=4,
)
WIRES = st.sampled_from(["float32", "float16", "int8"])
RANKS = st.integers(0, 3)
some = settings(derandomize=True, max_examples=60, deadline=None)


def draw(shapes, seed):
    gen = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=gen) for name, shape in sorted(shapes.items())}


@some
@given(SHAPES, st.integers(0, 999), RANKS)
def test_factors_are_the_best_of_their_rank_and_never_longer(shapes, seed, rank):
    change = draw(shapes, seed)
    sent = factors(change, rank)
    assert {name: tuple(value.shape) for name, value in sent.items()} == sent_shapes(shapes, rank)
    assert sum(v.numel() for v in sent.values()) <= sum(v.numel() for v in change.values())
    got = product(sent, shapes, rank)
    assert got.keys() == change.keys()
    for name, value in change.items():
        assert got[name].shape == value.shape
        if not pays(tuple(value.shape), rank):
            assert torch.equal(got[name], value)
            continue
        matrix = value.reshape(len(value), -1).double().numpy()
        left_out = np.linalg.svd(matrix, compute_uv=False)[rank:]
        lost = float((got[name].double() - value.double()).norm())
        assert lost == pytest.approx(math.sqrt(float((left_out**2).sum())), rel=1e-4, abs=1e-5)


def test_a_matrix_of_low_rank_comes_back_whole():
    left, right = draw({"l": (16, 2), "r": (2, 27)}, 1).values()
    change = {"conv": (left @ right).reshape(16, 3, 3, 3)}
    got = product(factors(change, 2), {"conv": (16, 3, 3, 3)}, 2)
    torch.testing.assert_close(got["conv"], change["conv"], rtol=1e-5, atol=1e-5)


@some
@given(SHAPES, st.integers(0, 999), RANKS, WIRES, st.sampled_from(["none", "zlib"]))
def test_what_arrives_is_the_product_of_what_was_sent(shapes, seed, rank, wire, compress):
    how, schema = Writing(wire, compress, rank), Schema(shapes)
    sent, _ = compensated(draw(shapes, seed), {}, how)
    message = pack(Knowledge(sent, SCALARS), schema, "eye", how)
    told = {k: tuple(shape) for k, (_, shape) in contents(message).items() if k != SCALES}
    assert told == sent_shapes(shapes, rank)
    got = unpack(message, schema, "eye", how).tensors
    expected = product(sent, shapes, rank)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)


@some
@given(st.integers(0, 999), st.integers(1, 3), WIRES, st.integers(1, 6))
def test_what_is_left_out_is_made_up_for(seed, rank, wire, rounds):
    shapes, how = {"w": (12, 3, 3), "b": (5,)}, Writing(wire, rank=rank)
    residual, meant, arrived = {}, dict.fromkeys(shapes, 0), dict.fromkeys(shapes, 0)
    for number in range(rounds):
        change = draw(shapes, seed + number)
        sent, residual = compensated(change, residual, how)
        got = product(sent, shapes, rank)
        for name in shapes:
            meant[name] = meant[name] + change[name].double()
            arrived[name] = arrived[name] + got[name].double()
            torch.testing.assert_close(
                arrived[name] + residual[name].double(), meant[name], rtol=1e-5, atol=1e-5
            )


def test_the_error_stays_small_however_many_rounds_there_are():
    """One change again and again: with what was left out it arrives in full, without it does not.

    All of its directions are as strong as each other, so a single one of them travels in a round.
    """
    how, shapes = Writing(rank=1), {"w": (8, 8)}
    change = {"w": torch.eye(8)}
    residual, arrived, plain = {}, torch.zeros(8, 8), torch.zeros(8, 8)
    for _ in range(80):
        sent, residual = compensated(change, residual, how)
        arrived += product(sent, shapes, 1)["w"]
        plain += product(factors(change, 1), shapes, 1)["w"]
    assert float((arrived / 80 - change["w"]).norm()) < 0.2 * float(change["w"].norm())
    assert float((plain / 80 - change["w"]).norm()) > 0.9 * float(change["w"].norm())


def test_a_change_that_is_not_finite_is_refused_by_name():
    how, schema = Writing("int8", rank=1), Schema({"w": (8, 8)})
    change = {"w": torch.full((8, 8), math.inf)}
    sent, residual = compensated(change, {"w": torch.ones(8, 8)}, how)
    assert torch.equal(residual["w"], torch.ones(8, 8))
    with pytest.raises(KnowledgeError, match=r"`w.left` holds NaN or infinity"):
        pack(Knowledge(sent, SCALARS), schema, "eye", how)


def test_a_product_beyond_all_numbers_is_refused():
    how, schema = Writing(rank=1), Schema({"w": (8, 8)})
    huge = {f"w{LEFT}": torch.full((8, 1), 1e30), f"w{RIGHT}": torch.full((1, 8), 1e30)}
    message = pack(Knowledge(huge, SCALARS), schema, "eye", how)
    with pytest.raises(KnowledgeError, match=r"refused from site 'eye': tensor `w` holds NaN or i"):
        unpack(message, schema, "eye", how)


def test_whole_tensors_are_refused_where_factors_were_agreed_on():
    schema = Schema({"w": (8, 8)})
    whole = pack(Knowledge({"w": torch.ones(8, 8)}, SCALARS), schema, "eye")
    with pytest.raises(KnowledgeError, match=r"tensor `w` is not declared"):
        unpack(whole, schema, "eye", Writing(rank=1))


def test_how_much_it_saves_for_the_small_encoder():
    from polyclinic.models.encoder import build_encoder
    from polyclinic.models.state import state_of

    shapes = {k: tuple(v.shape) for k, v in state_of(build_encoder("small", 0)).items()}

    def numbers(rank):
        return sum(math.prod(shape) for shape in sent_shapes(shapes, rank).values())

    assert numbers(4) / numbers(0) < 0.1
    assert numbers(8) / numbers(0) < 0.2
