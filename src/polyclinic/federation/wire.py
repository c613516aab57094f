"""How a change is written for the way to the server: whole or as factors (`low_rank`), in float32,
float16 or int8, compressed or not.

Each way is the only way: what is read back, and written again, gives the same bytes. So whoever
reads a message can tell that nothing is in it besides the numbers that it decodes to.

`int8` has one scale for each channel (first axis; one for a tensor with fewer than two axes), such
that the largest number becomes 127. A scale has 17 significant bits: its products with 7-bit
numbers are then exact in float32, and writing them again finds the same scale.

What rounding and factors lose stays at the site and is added to its next change (error feedback,
Seide et al. 2014, section 2; Karimireddy et al. 2019, algorithm 2), so nothing is lost for good.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from polyclinic.config import Compression, FederationConfig, Wire
from polyclinic.federation.low_rank import Shapes, factors, product, sent_shapes
from polyclinic.models.state import State

Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]
"""Name to type and shape of what lies in a message."""

SCALES = ".scales"  # no weight of a network can be called so: parts of a name are never empty
_HALF_LARGEST = 65504.0  # of float16
_INT8_LARGEST = 2.0**127  # beyond it, 127 times its scale might not be finite
_INT8_SMALLEST_SCALE = 2.0**-117  # below it, products would lose bits; such channels are zero
_HEADER_ROOM = 1 << 20  # bytes; for names, shapes and scalars of a message


@dataclass(frozen=True)
class Writing:
    """How a site writes its messages; both ends must agree on it."""

    wire: Wire = "float32"
    compress: Compression = "none"
    rank: int = 0  # of the factors of each matrix of weights; 0: whole

    def shapes(self, shapes: Shapes) -> Shapes:
        """What is written of a change with the given shapes."""
        return sent_shapes(shapes, self.rank)


PLAIN = Writing()


def writing_of(told: FederationConfig) -> Writing:
    """How the sites of a federation write their changes."""
    return Writing(told.wire, told.compress, told.rank)


def layout(shapes: Shapes, wire: Wire) -> Layout:
    """What a message holds of tensors with the given shapes."""
    dtype = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}[wire]
    held: Layout = {name: (dtype, tuple(shape)) for name, shape in shapes.items()}
    if wire == "int8":
        held[SCALES] = (torch.float32, (sum(_channels(shape) for shape in shapes.values()),))
    return held


def written(tensors: Mapping[str, Tensor], wire: Wire) -> State:
    """Finite float32 tensors as they lie in a message; numbers out of range become the largest."""
    if wire == "float32":
        return dict(tensors)
    if wire == "float16":
        return {k: v.clamp(-_HALF_LARGEST, _HALF_LARGEST).half() for k, v in tensors.items()}
    held, scales = {}, [torch.zeros(0)]
    for name, value in sorted(tensors.items()):
        rows = _rows(value).clamp(-_INT8_LARGEST, _INT8_LARGEST)
        largest = rows.abs().amax(1) if rows.shape[1] else torch.zeros(len(rows))
        scale = _rounded_up(largest)
        ratio = rows.double() / scale.double().clamp_min(_INT8_SMALLEST_SCALE)[:, None]
        whole = torch.where(scale[:, None] > 0, ratio.round().clamp(-127, 127), 0.0)
        held[name] = whole.to(torch.int8).reshape(value.shape)
        scales.append(scale)
    return {**held, SCALES: torch.cat(scales)}


def read(held: Mapping[str, Tensor], shapes: Shapes, wire: Wire) -> State:
    """The float32 tensors that `held`, laid out as `layout` says, stands for."""
    if wire != "int8":
        return {name: held[name].float() for name in held}
    tensors, first = {}, 0
    for name in sorted(shapes):
        channels = _channels(shapes[name])
        scale = held[SCALES][first : first + channels, None]
        tensors[name] = (_rows(held[name]).float() * scale).reshape(shapes[name])
        first += channels
    return tensors


def compensated(
    change: Mapping[str, Tensor], residual: Mapping[str, Tensor], how: Writing
) -> tuple[State, State]:
    """What a site writes of its change, as the server will read it, and what it keeps.

    `residual` is what it kept the last time, empty at first; what the first result stands for and
    the second add up to `change` and `residual`. A change that is not finite is left as it is:
    `pack` refuses it by name.
    """
    if how.wire == "float32" and not how.rank:
        return dict(change), {}
    due = {k: v + residual[k] if k in residual else v for k, v in change.items()}
    parts = factors(due, how.rank)
    if not all(bool(value.isfinite().all()) for value in parts.values()):
        return parts, dict(residual)
    shapes = {name: tuple(value.shape) for name, value in due.items()}
    sent = read(written(parts, how.wire), how.shapes(shapes), how.wire)
    arrives = product(sent, shapes, how.rank)
    return sent, {name: value - arrives[name] for name, value in due.items()}


def squeezed(message: bytes, compress: Compression) -> bytes:
    """`message`, compressed if that was agreed on."""
    return zlib.compress(message, 6) if compress == "zlib" else message


def unsqueezed(message: bytes, compress: Compression, shapes: Shapes, wire: Wire) -> bytes:
    """The inverse of `squeezed`; `ValueError` for what is no message of such a size.

    Never unpacks more than the declared tensors need, and room for their header.
    """
    if compress == "none":
        return message
    held = layout(shapes, wire).values()
    most = sum(dtype.itemsize * math.prod(shape) for dtype, shape in held) + _HEADER_ROOM
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(message, most)
    except zlib.error as error:
        raise ValueError(f"expected zlib's format: {error}") from None
    if not stream.eof or stream.unused_data:
        raise ValueError("it is longer or shorter than what it says to hold")
    return content


def _channels(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def _rows(value: Tensor) -> Tensor:
    """`value` as (channels, numbers in each)."""
    channels = _channels(tuple(value.shape))
    return value.reshape(channels, value.numel() // channels if channels else 0)


def _rounded_up(largest: Tensor) -> Tensor:
    """`largest` / 127, rounded up to 17 significant bits; 0 where that is too small."""
    scale = (largest.double() / 127).float()
    bits = scale.view(torch.int32)
    scale = ((bits + 0x7F) & ~0x7F).view(torch.float32)
    return torch.where(scale < _INT8_SMALLEST_SCALE, 0.0, scale)
