"""Knowledge: the closed type of what may leave a site.

Named float32 tensors of declared shapes and a few declared scalars, nothing else. `pack` refuses
anything else where it would leave; `unpack` refuses it where it arrives, whoever sent it. Heads,
label names, class counts, images, paths have no place in the schema, so they cannot travel.

How the tensors are written (float32, float16, int8) is `wire`'s; whichever it is, what they are
read as has the declared shapes, and there is one way to write it.

What a schema cannot see: a site that hides something in the declared numbers themselves.
"""

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from polyclinic.errors import KnowledgeError
from polyclinic.federation.low_rank import product
from polyclinic.federation.wire import (
    PLAIN,
    Layout,
    Writing,
    layout,
    read,
    squeezed,
    unsqueezed,
    written,
)
from polyclinic.models.state import State

SCALARS = frozenset({"examples", "loss", "received_score", "trained_score"})
"""Numbers that a site may tell: training images, mean loss, validation scores 0..1. NaN is allowed
for all but the first: a metric may be undefined, and a site under differential privacy tells none
(its `examples` are 1)."""

GAINS = frozenset({"gain_over_alone", "gain_over_start"})
"""Numbers that a site tells besides where the federation guards against negative transfer: the
differences of validation scores (`guard`)."""

MOST_EXAMPLES = 2**24
"""Training images of a site at most; of more, one site would be the whole mean by saying so."""

SCORES = frozenset({"linear_probe", "fine_tune"})
"""Numbers that a site may tell after judging a final encoder on its own test images: its primary
metric by each protocol, NaN where it is undefined or the site keeps it to itself."""

_LONGEST_HEADER = 1 << 24  # bytes of a compressed message that are looked at
_MAY_BE_UNDEFINED = frozenset({"loss", "received_score", "trained_score"}) | SCORES | GAINS


@dataclass(frozen=True)
class Schema:
    """The declared tensors (name to shape) and scalars."""

    tensors: Mapping[str, tuple[int, ...]]
    scalars: frozenset[str] = SCALARS


@dataclass(frozen=True)
class Knowledge:
    """One message of a site: its encoder's weights, or their change, and declared scalars."""

    tensors: State
    scalars: Mapping[str, float]


SCORES_SCHEMA = Schema({}, SCORES)
"""Of the message with which a site tells how it judged an encoder: two numbers, no tensor."""


def schema_of(encoder: Mapping[str, Tensor], *, gains: bool = False) -> Schema:
    """The schema whose tensors have the names and shapes of an encoder's weights.

    With `gains`, sites tell what they gain as well.
    """
    shapes = {name: tuple(value.shape) for name, value in encoder.items()}
    return Schema(shapes, SCALARS | GAINS if gains else SCALARS)


def pack(knowledge: Knowledge, schema: Schema, site: str, how: Writing = PLAIN) -> bytes:
    """The bytes that leave `site`; `KnowledgeError` if anything undeclared is in them.

    The tensors are those of a change, or its factors (`wire.compensated`) where it is written so.
    """
    refused = f"site '{site}' may not send"
    _check_tensors(knowledge.tensors, layout(how.shapes(schema.tensors), "float32"), refused)
    check_scalars(knowledge.scalars, schema, refused)
    return _message(knowledge, how)


def encode(encoder: Mapping[str, Tensor]) -> bytes:
    """The bytes of an encoder that the server sends to a site."""
    return save({k: v.contiguous() for k, v in encoder.items()})


def unpack(message: bytes, schema: Schema, site: str, how: Writing = PLAIN) -> Knowledge:
    """What arrived from `site`; `KnowledgeError` if the message is not exactly as declared."""
    refused, shapes = f"refused from site '{site}'", how.shapes(schema.tensors)
    try:
        content = unsqueezed(message, how.compress, shapes, how.wire)
        metadata = _header(content).get("__metadata__", {})
        scalars = json.loads(metadata.pop("scalars"))
        held = load(content)
    except (
        SafetensorError,
        ValueError,
        KeyError,
        AttributeError,  # a list where a table was expected
        TypeError,
        RecursionError,  # brackets nested without end
    ) as error:
        raise KnowledgeError(f"{refused}: not a readable message ({error})") from None
    if metadata:
        raise KnowledgeError(f"{refused}: undeclared metadata `{sorted(metadata)[0]}`")
    if not isinstance(scalars, dict):
        raise KnowledgeError(f"{refused}: scalars are not a table of numbers")
    _check_tensors(held, layout(shapes, how.wire), refused)
    check_scalars(scalars, schema, refused)
    sent = read(held, shapes, how.wire)
    _check_tensors(sent, layout(shapes, "float32"), refused)
    # the file format has room besides the tensors (unknown fields, blanks), and so have scales and
    # compression: nothing may hide there
    if _message(Knowledge(sent, scalars), how) != message:
        more = f"{refused}: it holds more than its declared tensors and scalars"
        if how.compress == "zlib":
            more += f", or was compressed by another zlib than {zlib.ZLIB_RUNTIME_VERSION}"
        raise KnowledgeError(more)
    tensors = product(sent, schema.tensors, how.rank)
    _check_tensors(tensors, layout(schema.tensors, "float32"), refused)
    return Knowledge(tensors, scalars)


def contents(message: bytes) -> dict[str, list[Any]] | None:
    """Name to type and shape of the tensors in a message, as its header says.

    None for bytes that are no message.

    >>> contents(encode({"stem.bias": torch.zeros(2)}))
    {'stem.bias': ['F32', [2]]}
    """
    for opened in (bytes, lambda m: zlib.decompressobj().decompress(m, _LONGEST_HEADER)):
        try:
            header = {k: v for k, v in _header(opened(message)).items() if k != "__metadata__"}
            return {name: [str(v["dtype"]), list(v["shape"])] for name, v in header.items()}
        except (zlib.error, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            continue
    return None


def _header(message: bytes) -> Any:
    return json.loads(message[8 : 8 + int.from_bytes(message[:8], "little")])


def _message(knowledge: Knowledge, how: Writing) -> bytes:
    """The one way to write `knowledge` as bytes."""
    scalars = json.dumps({k: float(v) for k, v in sorted(knowledge.scalars.items())})
    tensors = {k: v.contiguous() for k, v in written(knowledge.tensors, how.wire).items()}
    return squeezed(save(tensors, metadata={"scalars": scalars}), how.compress)


def _check_tensors(tensors: Mapping[str, object], declared: Layout, who: str) -> None:
    for name, value in tensors.items():
        if name not in declared:
            raise KnowledgeError(f"{who}: tensor `{name}` is not declared")
        dtype, shape = declared[name]
        if not isinstance(value, Tensor) or value.dtype != dtype:
            kind = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
            raise KnowledgeError(f"{who}: tensor `{name}` is {kind}, declared is {dtype}")
        if tuple(value.shape) != shape:
            raise KnowledgeError(
                f"{who}: tensor `{name}` has shape {tuple(value.shape)}, declared is {shape}"
            )
        if not bool(torch.isfinite(value).all()):
            raise KnowledgeError(f"{who}: tensor `{name}` holds NaN or infinity")
    if missing := sorted(declared.keys() - tensors.keys()):
        raise KnowledgeError(f"{who}: tensor `{missing[0]}` is missing")


def check_scalars(scalars: Mapping[str, object], schema: Schema, who: str) -> None:
    """`KnowledgeError`, beginning with `who`, for numbers that are not those declared."""
    if missing := sorted(schema.scalars - scalars.keys()):
        raise KnowledgeError(f"{who}: scalar `{missing[0]}` is missing")
    for name, value in scalars.items():
        if name not in schema.scalars:
            raise KnowledgeError(f"{who}: scalar `{name}` is not declared")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise KnowledgeError(f"{who}: scalar `{name}` is no number but {value!r:.40}")
        undefined = value != value and name in _MAY_BE_UNDEFINED
        # compared, not converted: an integer may be too long for a float
        if not (abs(value) <= sys.float_info.max or undefined):
            raise KnowledgeError(f"{who}: scalar `{name}` is {value!r:.40}, not a finite number")
        if (
            name == "examples" and not 1 <= value <= MOST_EXAMPLES
        ):  # the server weights a site by it
            raise KnowledgeError(
                f"{who}: scalar `examples` is {value!r:.40}, expected 1 to {MOST_EXAMPLES}"
            )
