"""A change of the encoder as products of two thin matrices, which weigh less than it does.

Each tensor with two axes or more is a matrix of output channels by all else. Its best approximation
of rank r is the truncated singular value decomposition (Eckart and Young 1936); what it leaves out
stays at the site as an error to be made up for (PowerSGD, Vogels et al. 2019, algorithm 2). Tensors
for which two factors would be no shorter travel whole.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from polyclinic.models.state import State

LEFT, RIGHT = ".left", ".right"
Shapes = Mapping[str, tuple[int, ...]]


def sent_shapes(shapes: Shapes, rank: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what travels of tensors with the given shapes; all of it for rank 0."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if pays(shape, rank):
            rows, columns = _matrix(shape)
            found[name + LEFT], found[name + RIGHT] = (rows, rank), (rank, columns)
        else:
            found[name] = tuple(shape)
    return found


def factors(change: Mapping[str, Tensor], rank: int) -> State:
    """What travels of a change; NaN in both factors where a tensor is not finite."""
    found: State = {}
    for name, value in change.items():
        if not pays(tuple(value.shape), rank):
            found[name] = value
            continue
        rows, columns = _matrix(tuple(value.shape))
        if not bool(value.isfinite().all()):
            found[name + LEFT] = torch.full((rows, rank), math.nan)
            found[name + RIGHT] = torch.full((rank, columns), math.nan)
            continue
        left, sizes, right = torch.linalg.svd(
            value.reshape(rows, columns).double(), full_matrices=False
        )
        root = sizes[:rank].sqrt()  # in equal parts, so that rounding loses as much of either
        found[name + LEFT] = (left[:, :rank] * root).float()
        found[name + RIGHT] = (root[:, None] * right[:rank]).float()
    return found


def product(sent: Mapping[str, Tensor], shapes: Shapes, rank: int) -> State:
    """The change, with the given shapes, that `sent` stands for."""
    return {
        name: (sent[name + LEFT] @ sent[name + RIGHT]).reshape(shape)
        if pays(shape, rank)
        else sent[name]
        for name, shape in shapes.items()
    }


def pays(shape: tuple[int, ...], rank: int) -> bool:
    """Whether factors of that rank are shorter than a tensor of that shape."""
    rows, columns = _matrix(shape)
    return rank > 0 and rank * (rows + columns) < rows * columns


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the matrix that a tensor is; a vector is a single row."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
