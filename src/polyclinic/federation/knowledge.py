"""Knowledge: the closed type of what may leave a site.

Named float32 tensors of declared shapes and a few declared scalars, nothing else. `pack` refuses
anything else where it would leave; `unpack` refuses it where it arrives, whoever sent it. Heads,
label names, class counts, images, paths have no place in the schema, so they cannot travel.

What a schema cannot see: a site that hides something in the declared numbers themselves.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from polyclinic.errors import KnowledgeError
from polyclinic.models.state import State

SCALARS = frozenset({"examples", "loss", "received_score", "trained_score"})
"""Numbers that a site may tell: training images, mean loss, validation scores 0..1 (NaN allowed
for the scores alone, where a metric is undefined)."""

_MAY_BE_UNDEFINED = frozenset({"received_score", "trained_score"})


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


def schema_of(encoder: Mapping[str, Tensor]) -> Schema:
    """The schema whose tensors have the names and shapes of an encoder's weights."""
    return Schema({name: tuple(value.shape) for name, value in encoder.items()})


def pack(knowledge: Knowledge, schema: Schema, site: str) -> bytes:
    """The bytes that leave `site`; `KnowledgeError` if anything undeclared is in them."""
    _check(knowledge.tensors, knowledge.scalars, schema, f"site '{site}' may not send")
    return _message(knowledge)


def encode(encoder: Mapping[str, Tensor]) -> bytes:
    """The bytes of an encoder that the server sends to a site."""
    return save({k: v.contiguous() for k, v in encoder.items()})


def unpack(message: bytes, schema: Schema, site: str) -> Knowledge:
    """What arrived from `site`; `KnowledgeError` if the message is not exactly as declared."""
    refused = f"refused from site '{site}'"
    try:
        length = int.from_bytes(message[:8], "little")
        metadata = json.loads(message[8 : 8 + length]).get("__metadata__", {})
        scalars = json.loads(metadata.pop("scalars"))
        tensors = load(message)
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
    _check(tensors, scalars, schema, refused)
    knowledge = Knowledge(tensors, scalars)
    # the file format has room besides the tensors (unknown fields, blanks): nothing may hide there
    if _message(knowledge) != message:
        raise KnowledgeError(f"{refused}: it holds more than its declared tensors and scalars")
    return knowledge


def _message(knowledge: Knowledge) -> bytes:
    """The one way to write `knowledge` as bytes."""
    scalars = json.dumps({k: float(v) for k, v in sorted(knowledge.scalars.items())})
    tensors = {k: v.contiguous() for k, v in knowledge.tensors.items()}
    return save(tensors, metadata={"scalars": scalars})


def _check(
    tensors: Mapping[str, object], scalars: Mapping[str, object], schema: Schema, who: str
) -> None:
    for name, value in tensors.items():
        if name not in schema.tensors:
            raise KnowledgeError(f"{who}: tensor `{name}` is not declared")
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            kind = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
            raise KnowledgeError(f"{who}: tensor `{name}` is {kind}, declared is torch.float32")
        if tuple(value.shape) != schema.tensors[name]:
            raise KnowledgeError(
                f"{who}: tensor `{name}` has shape {tuple(value.shape)}, "
                f"declared is {schema.tensors[name]}"
            )
        if not bool(torch.isfinite(value).all()):
            raise KnowledgeError(f"{who}: tensor `{name}` holds NaN or infinity")
    for kind, declared, got in (
        ("tensor", set(schema.tensors), set(tensors)),
        ("scalar", set(schema.scalars), set(scalars)),
    ):
        if declared - got:
            raise KnowledgeError(f"{who}: {kind} `{sorted(declared - got)[0]}` is missing")
    for name, value in scalars.items():
        if name not in schema.scalars:
            raise KnowledgeError(f"{who}: scalar `{name}` is not declared")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise KnowledgeError(f"{who}: scalar `{name}` is no number but {value!r:.40}")
        undefined = value != value and name in _MAY_BE_UNDEFINED
        # compared, not converted: an integer may be too long for a float
        if not (abs(value) <= sys.float_info.max or undefined):
            raise KnowledgeError(f"{who}: scalar `{name}` is {value!r:.40}, not a finite number")
        if name == "examples" and value < 1:  # the server weights a site by it
            raise KnowledgeError(f"{who}: scalar `examples` is {value}, expected 1 or more")
