"""A site's change, masked: the message that it sends in place of the change itself.

It has the names and shapes of the declared tensors; the numbers are words, each of which is as
likely as any other for whoever does not know the masks. The declared scalars go with it, unmasked.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from polyclinic.errors import KnowledgeError
from polyclinic.federation.aggregation import WEIGHTINGS
from polyclinic.federation.knowledge import (
    MOST_EXAMPLES,
    Knowledge,
    Schema,
    check_scalars,
    pack,
)
from polyclinic.federation.secure.member import Masks, mask
from polyclinic.federation.secure.primitives import Bits, Words
from polyclinic.federation.secure.quantise import Quantisation, to_mean, to_words
from polyclinic.models.state import State

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Masking:
    """How a site masks its change in one stage. `weighting` is a key of `WEIGHTINGS`.

    `check` is given the words before they are masked; what it refuses is not masked.
    """

    masks: Masks
    how: Quantisation
    weighting: str
    check: Callable[[Words], None] | None = None


def quantisation(weighting: str, sites: int, clip: float) -> Quantisation:
    """32 bits, as wide as float32, where all sites weigh the same; 64 where large ones weigh more.

    `sites` may take part; `clip` is the largest change of a single weight.
    """
    heaviest = WEIGHTINGS[weighting](MOST_EXAMPLES)
    return Quantisation(sites, clip, heaviest, bits=32 if weighting == "equal" else 64)


def pack_masked(knowledge: Knowledge, schema: Schema, site: str, masking: Masking) -> bytes:
    """The bytes that leave `site`: its weighted, masked change; `KnowledgeError` as for `pack`."""
    pack(knowledge, schema, site)  # refuses what is not declared
    weight = WEIGHTINGS[masking.weighting](knowledge.scalars["examples"])
    numbers = np.concatenate(
        [np.zeros(0), *(knowledge.tensors[n].numpy().ravel() for n in sorted(schema.tensors))]
    )
    try:
        words = to_words(numbers, weight, masking.how)
        if masking.check is not None:
            masking.check(words)
        words = mask(masking.masks, words)
    except KnowledgeError as error:
        raise KnowledgeError(f"site '{site}' sends nothing: {error}") from None
    return _message(words, knowledge.scalars, schema.tensors)


def unpack_masked(
    message: bytes, schema: Schema, site: str, bits: Bits
) -> tuple[Words, dict[str, float]]:
    """Words, (N,), and scalars that arrived from `site`; `KnowledgeError` as for `unpack`."""
    refused = f"refused from site '{site}'"
    try:
        header = json.loads(message[8 : 8 + int.from_bytes(message[:8], "little")])
        scalars = json.loads(header["__metadata__"]["scalars"])
        held = load(message)
    except (
        SafetensorError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        raise KnowledgeError(f"{refused}: not a readable message ({error})") from None
    found = {name: (value.dtype.name, value.shape) for name, value in held.items()}
    if found != {name: (f"uint{bits}", shape) for name, shape in schema.tensors.items()}:
        raise KnowledgeError(f"{refused}: expected the declared tensors, as words of {bits} bits")
    if not isinstance(scalars, dict):
        raise KnowledgeError(f"{refused}: scalars are not a table of numbers")
    check_scalars(scalars, schema, refused)
    words = np.concatenate(
        [np.zeros(0, f"u{bits // 8}"), *(held[name].ravel() for name in sorted(held))]
    )
    if _message(words, scalars, schema.tensors) != message:
        raise KnowledgeError(f"{refused}: it holds more than its declared tensors and scalars")
    return words, scalars


def mean_of(total: Words, weight: float, how: Quantisation, shapes: Shapes) -> State:
    """The mean change from the unmasked sum of words; `weight` is that of all who are in it."""
    mean = to_mean(total, weight, how).astype(np.float32)
    return {name: torch.from_numpy(part.copy()) for name, part in _parts(mean, shapes).items()}


def _message(words: Words, scalars: Mapping[str, float], shapes: Shapes) -> bytes:
    """The one way to write a masked change."""
    text = json.dumps({k: float(v) for k, v in sorted(scalars.items())})
    return bytes(save(_parts(words, shapes), metadata={"scalars": text}))


def _parts(row: np.ndarray, shapes: Shapes) -> dict[str, np.ndarray]:
    """A row of numbers as arrays of the given shapes, in the order of their names."""
    parts, first = {}, 0
    for name in sorted(shapes):
        size = int(np.prod(shapes[name], dtype=np.int64))
        parts[name] = row[first : first + size].reshape(shapes[name])
        first += size
    return parts
