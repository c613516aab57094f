"""Knowledge is closed: nothing undeclared leaves a site, and nothing undeclared is let in."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from polyclinic.errors import KnowledgeError
from polyclinic.federation.knowledge import Knowledge, Schema, encode, pack, schema_of, unpack

SCHEMA = Schema({"stem.weight": (2, 3), "stem.bias": (2,)})
GOOD_SCALARS = {"examples": 12.0, "loss": 0.5, "received_score": 0.25, "trained_score": 0.75}


def tensors(**changes):
    good = {"stem.weight": torch.arange(6.0).view(2, 3), "stem.bias": torch.tensor([-1.0, 2.0])}
    return {k: v for k, v in {**good, **changes}.items() if v is not None}


def scalars(**changes):
    return {k: v for k, v in {**GOOD_SCALARS, **changes}.items() if v is not None}


def by_hand(tensors, scalars, **metadata):
    """The bytes that a site would send which does not use `pack`."""
    return save(tensors, metadata={"scalars": json.dumps(scalars), **metadata})


def with_header(message, change):
    """`message` with its header's text changed."""
    length = int.from_bytes(message[:8], "little")
    header = change(message[8 : 8 + length].decode().rstrip()).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + message[8 + length :]


IMAGE = torch.zeros(1, 3, 16, 16)
SMUGGLED = {
    "an image": ({"patient-0": IMAGE}, {}, r"tensor `patient-0` is not declared"),
    "a head": ({"linear.weight": torch.zeros(2, 2)}, {}, r"tensor `linear.weight` is not declared"),
    "uint8": (
        {"stem.weight": torch.zeros(2, 3, dtype=torch.uint8)},
        {},
        r"tensor `stem.weight` is torch.uint8, declared is torch.float32",
    ),
    "float64": (
        {"stem.bias": torch.zeros(2, dtype=torch.float64)},
        {},
        r"tensor `stem.bias` is torch.float64",
    ),
    "another shape": (
        {"stem.weight": IMAGE},
        {},
        r"`stem.weight` has shape \(1, 3, 16, 16\), declared is \(2, 3\)",
    ),
    "same size, other shape": (
        {"stem.weight": torch.zeros(3, 2)},
        {},
        r"`stem.weight` has shape \(3, 2\), declared is \(2, 3\)",
    ),
    "nan": ({"stem.bias": torch.tensor([0.0, math.nan])}, {}, r"`stem.bias` holds NaN or infinity"),
    "inf": ({"stem.bias": torch.tensor([0.0, math.inf])}, {}, r"`stem.bias` holds NaN or infinity"),
    "a missing tensor": ({"stem.bias": None}, {}, r"tensor `stem.bias` is missing"),
    "labels": ({}, {"loss": [0, 1, 1, 0]}, r"scalar `loss` is no number but \[0, 1, 1, 0\]"),
    "a name": ({}, {"loss": "Jane Doe"}, r"scalar `loss` is no number but 'Jane Doe'"),
    "long text": ({}, {"loss": "x" * 999}, r"no number but 'x{39}$"),
    "a bool": ({}, {"loss": True}, r"scalar `loss` is no number but True"),
    "class counts": ({}, {"benign": 3.0}, r"scalar `benign` is not declared"),
    "a missing scalar": ({}, {"loss": None}, r"scalar `loss` is missing"),
    "nan examples": ({}, {"examples": math.nan}, r"scalar `examples` is nan"),
    "infinite loss": ({}, {"loss": math.inf}, r"scalar `loss` is inf"),
    "infinite score": ({}, {"trained_score": -math.inf}, r"scalar `trained_score` is -inf"),
    "digits as a message": (
        {},
        {"examples": 10**400},
        r"scalar `examples` is 1000+, not a finite number",
    ),
    "no example": ({}, {"examples": 0}, r"scalar `examples` is 0, expected 1 to 16777216"),
    "negative weight": ({}, {"examples": -5.0}, r"scalar `examples` is -5.0, expected 1 to"),
    "the whole mean": ({}, {"examples": 1e300}, r"scalar `examples` is 1e\+300, expected 1 to"),
}


@pytest.mark.parametrize(("more", "numbers", "reason"), SMUGGLED.values(), ids=SMUGGLED)
def test_smuggling_is_refused_where_it_would_leave(more, numbers, reason):
    with pytest.raises(KnowledgeError, match=f"site 'eye' may not send: .*{reason}"):
        pack(Knowledge(tensors(**more), scalars(**numbers)), SCHEMA, "eye")


@pytest.mark.parametrize(("more", "numbers", "reason"), SMUGGLED.values(), ids=SMUGGLED)
def test_smuggling_is_refused_where_it_arrives(more, numbers, reason):
    with pytest.raises(KnowledgeError, match=f"refused from site 'eye': .*{reason}"):
        unpack(by_hand(tensors(**more), scalars(**numbers)), SCHEMA, "eye")


def test_an_array_that_is_no_tensor_does_not_leave():
    pixels = np.zeros((2, 3), np.float32)
    with pytest.raises(KnowledgeError, match=r"`stem.weight` is ndarray"):
        pack(Knowledge(tensors(**{"stem.weight": pixels}), scalars()), SCHEMA, "eye")


def test_the_message_written_by_hand_is_the_one_that_is_accepted():
    # so that the refusals above are due to what was changed
    numbers = dict(sorted(GOOD_SCALARS.items()))
    assert by_hand(tensors(), numbers) == pack(Knowledge(tensors(), scalars()), SCHEMA, "eye")


def test_undeclared_metadata_is_refused():
    message = by_hand(tensors(), scalars(), note="patient 7 is Jane Doe")
    with pytest.raises(KnowledgeError, match="'eye': undeclared metadata `note`"):
        unpack(message, SCHEMA, "eye")


MORE = "'eye': it holds more than its declared tensors and scalars"
UNREADABLE = "'eye': not a readable message"
REWRITTEN = {
    "a field beside the shape": (lambda t: t.replace('"shape"', '"who":"Jane","shape"', 1), MORE),
    "blanks in the header": (lambda t: t.replace("},", "},   \t", 1), MORE),
    "blanks at its end": (lambda t: t + "\t \t" * 8, MORE),
    "blanks in the scalars": (lambda t: t.replace("12.0", "   12.0"), MORE),
    "digits that change nothing": (lambda t: t.replace("12.0", "12.000"), MORE),
    "a scalar twice": (lambda t: t.replace(r"{\"exa", r"{\"loss\": 7, \"exa"), MORE),
    "metadata twice": (lambda t: '{"__metadata__":{"scalars":"{}"},' + t[1:], UNREADABLE),
    "no metadata": (lambda t: '{"stem.bias"' + t.split('"stem.bias"')[1], UNREADABLE),
    "metadata as a list": (lambda t: '{"__metadata__":[],"stem' + t.split('"stem', 1)[1], "read"),
    "a header as a list": (lambda t: f"[{t}]", UNREADABLE),
    "scalars as a number": (lambda t: '{"__metadata__":{"scalars":3},"stem' + t[9:], UNREADABLE),
    "endless brackets": (lambda t: "[" * 100_000 + t, UNREADABLE),
    "scalars as a list": (
        lambda t: '{"__metadata__":{"scalars":"[]"},"stem' + t.split('"stem', 1)[1],
        "scalars are not a table of numbers",
    ),
}


@pytest.mark.parametrize(("change", "reason"), REWRITTEN.values(), ids=REWRITTEN)
def test_a_rewritten_header_is_refused(change, reason):
    message = pack(Knowledge(tensors(), scalars()), SCHEMA, "eye")
    with pytest.raises(KnowledgeError, match=reason):
        unpack(with_header(message, change), SCHEMA, "eye")


def test_bytes_after_the_message_are_refused():
    message = pack(Knowledge(tensors(), scalars()), SCHEMA, "eye")
    with pytest.raises(KnowledgeError, match=UNREADABLE):
        unpack(message + b"jpeg", SCHEMA, "eye")


def test_every_truncation_is_refused():
    message = pack(Knowledge(tensors(), scalars()), SCHEMA, "eye")
    for length in range(len(message)):
        with pytest.raises(KnowledgeError, match=UNREADABLE):
            unpack(message[:length], SCHEMA, "eye")


def test_a_flipped_bit_is_refused_or_changes_only_a_declared_number():
    message = pack(Knowledge(tensors(), scalars()), SCHEMA, "eye")
    data = len(message) - 8 * 4
    refused = 0
    for bit in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            got = unpack(bytes(flipped), SCHEMA, "eye")
        except KnowledgeError:
            refused += 1
            continue
        assert set(got.tensors) == set(SCHEMA.tensors)
        assert set(got.scalars) == SCHEMA.scalars
        assert pack(got, SCHEMA, "eye") == bytes(flipped)
    assert refused > 0.8 * 8 * data  # all but digits of the scalars


FLOATS = st.floats(-1e30, 1e30)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text("abc.", min_size=1, max_size=6), SHAPES, max_size=4),
    st.floats(1, 1e6),
    st.just(math.nan) | FLOATS,
    st.integers(0, 99),
)
def test_round_trip(shapes, examples, trained_score, seed):
    gen = torch.Generator().manual_seed(seed)
    sent = Knowledge(
        {name: torch.randn(shape, generator=gen) for name, shape in shapes.items()},
        scalars(examples=examples, trained_score=trained_score),
    )
    got = unpack(pack(sent, Schema(shapes), "a"), Schema(shapes), "a")
    assert set(got.tensors) == set(shapes)
    assert all(torch.equal(got.tensors[name], sent.tensors[name]) for name in shapes)
    np.testing.assert_equal(dict(got.scalars), {k: float(v) for k, v in sent.scalars.items()})


def test_tensors_in_another_memory_layout_arrive_whole():
    weight = torch.arange(6.0).view(3, 2).T
    message = pack(Knowledge(tensors(**{"stem.weight": weight}), scalars()), SCHEMA, "eye")
    assert torch.equal(unpack(message, SCHEMA, "eye").tensors["stem.weight"], weight)


def test_the_schema_of_an_encoder_and_its_bytes():
    state = tensors()
    assert schema_of(state) == SCHEMA
    assert len(encode(state)) > 8 * 4
    with pytest.raises(KnowledgeError, match="not a readable message"):
        unpack(encode(state), SCHEMA, "eye")  # no scalars: a site's message always has them
