"""How numbers are written: what rounding may lose, what is carried over, and one way to write."""

import math
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from polyclinic.errors import KnowledgeError
from polyclinic.federation.knowledge import Knowledge, Schema, contents, pack, unpack
from polyclinic.federation.wire import (
    SCALES,
    Writing,
    compensated,
    layout,
    read,
    squeezed,
    unsqueezed,
    written,
)

SCALARS = {"examples": 12.0, "loss": 0.5, "received_score": 0.25, "trained_score": math.nan}
SHAPES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    max_size=4,
)
WIRES = st.sampled_from(["float32", "float16", "int8"])
SEEDS = st.integers(0, 9999)
SCALE = st.sampled_from([0.0, 1e-44, 1e-38, 1e-30, 1e-7, 1e-3, 1.0, 300.0, 1e5, 1e30, 3e38])
some = settings(derandomize=True, max_examples=60, deadline=None)


def draw(shapes, seed, scale):
    """Tensors whose numbers spread over some orders of magnitude below `scale`."""
    gen = torch.Generator().manual_seed(seed)
    return {
        name: (torch.rand(shape, generator=gen) * 2 - 1)
        * scale
        * 10 ** -(torch.rand(shape, generator=gen) * 3)
        for name, shape in sorted(shapes.items())
    }


def there_and_back(tensors, wire):
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return read(written(tensors, wire), shapes, wire)


def bounds(value, wire):
    """The most that rounding may change each number of a tensor, written out slowly."""
    if wire == "float32":
        return torch.zeros_like(value).double()
    if wire == "float16":
        return value.double().abs() * 2**-11 + 2.0**-25
    most = torch.zeros_like(value).double()
    for channel in range(len(value)) if value.ndim > 1 else [...]:
        largest = max([abs(x) for x in value[channel].flatten().tolist()], default=0.0)
        most[channel] = largest / 127 / 2 * (1 + 2**-15) + 2.0**-109
    return most


@some
@given(SHAPES, SEEDS, SCALE, WIRES)
def test_rounding_loses_no_more_than_its_bound(shapes, seed, scale, wire):
    tensors = draw(shapes, seed, scale)
    largest = {"float32": math.inf, "float16": 65504.0, "int8": 2.0**127}[wire]
    for name, got in there_and_back(tensors, wire).items():
        sent = tensors[name].clamp(-largest, largest)
        assert got.dtype == torch.float32
        assert got.shape == sent.shape
        assert bool(((got.double() - sent.double()).abs() <= bounds(sent, wire)).all())


@some
@given(SHAPES, SEEDS, SCALE, WIRES)
def test_what_is_read_is_written_as_the_same_bytes(shapes, seed, scale, wire):
    once = there_and_back(draw(shapes, seed, scale), wire)
    first, again = written(once, wire), written(there_and_back(once, wire), wire)
    assert save(first) == save(again)
    assert {k: (v.dtype, tuple(v.shape)) for k, v in first.items()} == layout(shapes, wire)


@some
@given(SHAPES, SEEDS, st.sampled_from([1e-30, 1e-3, 1.0, 100.0]), WIRES, st.integers(1, 6))
def test_what_is_sent_adds_up_to_what_was_meant(shapes, seed, scale, wire, rounds):
    residual, meant, sent = {}, {}, {}
    for number in range(rounds):
        change = draw(shapes, seed + number, scale)
        due = {k: v + residual.get(k, torch.zeros(())) for k, v in change.items()}
        arrives, residual = compensated(change, residual, Writing(wire))
        for name, value in change.items():
            meant[name] = meant.get(name, 0) + value.double()
            sent[name] = sent.get(name, 0) + arrives[name].double()
            # one round's rounding is all that is ever owed, however many rounds there were
            owed = meant[name] - sent[name]
            float32 = (number + 1) * 2.0**-22 * scale
            assert bool((owed.abs() <= bounds(due[name], wire) + float32).all())
            if wire == "float32":
                assert torch.equal(arrives[name], value)
    assert (residual == {}) == (wire == "float32" or not shapes)


def test_without_error_feedback_small_changes_would_be_lost_for_good():
    change = {"w": torch.tensor([[1.0, 0.003]])}  # below half a step of int8
    residual, total, plain = {}, 0.0, 0.0
    for _ in range(100):
        sent, residual = compensated(change, residual, Writing("int8"))
        total += float(sent["w"][0, 1])
        plain += float(there_and_back(change, "int8")["w"][0, 1])
    assert plain == 0
    assert total == pytest.approx(0.3, abs=0.005)


def test_a_change_that_is_not_finite_is_left_for_pack_to_refuse():
    change = {"w": torch.tensor([1.0, math.nan])}
    sent, residual = compensated(change, {"w": torch.ones(2)}, Writing("int8"))
    assert sent["w"][1].isnan()
    assert torch.equal(residual["w"], torch.ones(2))
    with pytest.raises(KnowledgeError, match="`w` holds NaN"):
        pack(Knowledge(sent, SCALARS), Schema({"w": (2,)}), "eye", Writing("int8"))


# Messages: the schema holds for what is read, and nothing hides in how it is written.


@some
@given(SHAPES, SEEDS, WIRES, st.sampled_from(["none", "zlib"]))
def test_round_trip_of_a_message(shapes, seed, wire, compress):
    how, schema = Writing(wire, compress), Schema(shapes)
    sent, _ = compensated(draw(shapes, seed, 0.1), {}, how)
    message = pack(Knowledge(sent, SCALARS), schema, "eye", how)
    got = unpack(message, schema, "eye", how).tensors
    assert set(got) == set(sent)
    assert all(torch.equal(got[name], sent[name]) for name in sent)
    told = {k: tuple(shape) for k, (_, shape) in contents(message).items() if k != SCALES}
    assert told == shapes


SCHEMA = Schema({"conv.weight": (64, 16, 3, 3), "conv.bias": (64,)})


def message(wire, compress="none"):
    tensors = draw(SCHEMA.tensors, 1, 0.01)
    return pack(Knowledge(tensors, SCALARS), SCHEMA, "eye", Writing(wire, compress))


def test_sizes():
    whole = 4 * (64 * 16 * 9 + 64)
    assert 1.00 < len(message("float32")) / whole < 1.02
    assert 0.50 < len(message("float16")) / whole < 0.52
    assert 0.25 < len(message("int8")) / whole < 0.27
    for wire in ("float32", "float16", "int8"):
        assert len(message(wire, "zlib")) < len(message(wire))


def by_hand(change):
    """An int8 message with its tensors changed, written by a site that does not use `pack`."""
    good = message("int8")
    tensors = load(good)
    change(tensors)
    length = int.from_bytes(good[:8], "little")
    start = good.index(b'"__metadata__":{"scalars":"') + 27
    text = good[start : good.index(b'"}', start)].decode().replace('\\"', '"')
    assert length > start
    return save(tensors, metadata={"scalars": text})


def set_number(name, index, value):
    def change(tensors):
        tensors[name].view(-1)[index] = value

    return change


MORE = "'eye': it holds more than its declared tensors and scalars"
HIDDEN = {
    "minus 128": (set_number("conv.bias", 3, -128), MORE),
    "a scale that is not the largest number's": (set_number(SCALES, 0, 0.3), MORE),
    "bits below a scale's last": (lambda t: t[SCALES].view(torch.int32).add_(1), MORE),
    "a negative scale": (lambda t: t[SCALES].neg_(), MORE),
    "a scale of minus zero": (
        lambda t: (t["conv.bias"].zero_(), set_number(SCALES, 0, -0.0)(t)),
        MORE,
    ),
    "numbers under a scale of zero": (set_number(SCALES, 5, 0.0), MORE),
    "a scale too small": (set_number(SCALES, 5, 1e-40), MORE),
    "nan as a scale": (set_number(SCALES, 5, math.nan), "`.scales` holds NaN or infinity"),
    "a scale too large": (set_number(SCALES, 5, 3e38), "holds NaN or infinity"),
    "more scales": (
        lambda t: t.update({SCALES: torch.cat([t[SCALES], torch.ones(1)])}),
        r"`.scales` has shape \(66,\), declared is \(65,\)",
    ),
    "no scales": (lambda t: t.pop(SCALES), "tensor `.scales` is missing"),
    "an image": (
        lambda t: t.update(image=torch.zeros(8, 8, dtype=torch.int8)),
        "tensor `image` is not declared",
    ),
    "float32 in place of int8": (
        lambda t: t.update({"conv.bias": torch.zeros(64)}),
        "`conv.bias` is torch.float32, declared is torch.int8",
    ),
}


@pytest.mark.parametrize(("change", "reason"), HIDDEN.values(), ids=HIDDEN)
def test_nothing_hides_in_int8(change, reason):
    with pytest.raises(KnowledgeError, match=f"refused from site 'eye': .*{reason}|{reason}"):
        unpack(by_hand(change), SCHEMA, "eye", Writing("int8"))


def test_the_message_written_by_hand_is_the_one_that_is_accepted():
    assert by_hand(lambda _: None) == message("int8")  # so the refusals are due to the change


@pytest.mark.parametrize("wire", ["float32", "float16", "int8"])
@pytest.mark.parametrize("other", ["float32", "float16", "int8"])
def test_a_message_in_another_wire_is_refused(wire, other):
    if wire == other:
        return
    with pytest.raises(KnowledgeError, match=r"declared is torch|missing|not declared"):
        unpack(message(wire), SCHEMA, "eye", Writing(other))


@pytest.mark.parametrize("wire", ["float16", "int8"])
def test_a_flipped_bit_is_refused_or_changes_only_a_declared_number(wire):
    schema, how = Schema({"w": (2, 3)}), Writing(wire)
    tensors = {"w": torch.tensor([[1.0, -0.5, 0.1], [0.0, 3.0, 2.0]])}
    good = pack(Knowledge(tensors, SCALARS), schema, "eye", how)
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            got = unpack(bytes(flipped), schema, "eye", how)
        except KnowledgeError:
            continue
        assert pack(got, schema, "eye", how) == bytes(flipped)


COMPRESSED = {
    "another level": lambda m: zlib.compress(zlib.decompress(m), 9),
    "stored, not compressed": lambda m: zlib.compress(zlib.decompress(m), 0),
    "bytes after the end": lambda m: m + b"Jane Doe",
    "cut off": lambda m: m[:-5],
    "no zlib at all": lambda m: b"Jane Doe" + m,
    "a bomb": lambda _: zlib.compress(bytes(1 << 26), 6),
    "not compressed": lambda m: zlib.decompress(m),
}


@pytest.mark.parametrize("change", COMPRESSED.values(), ids=COMPRESSED)
def test_nothing_hides_in_the_compression(change):
    with pytest.raises(KnowledgeError, match=r"refused from site 'eye': (not a readable|it holds)"):
        unpack(change(message("int8", "zlib")), SCHEMA, "eye", Writing("int8", "zlib"))


def test_a_bomb_is_not_unpacked_whole():
    with pytest.raises(ValueError, match="longer or shorter"):
        unsqueezed(squeezed(bytes(1 << 26), "zlib"), "zlib", {"w": (2,)}, "float32")


def test_bytes_that_are_no_message_have_no_contents():
    assert contents(b"") is contents(b"Jane Doe") is contents(bytes(100)) is None
    assert contents(zlib.compress(b"Jane Doe")) is None
