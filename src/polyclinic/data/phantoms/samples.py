"""What a phantom generator returns, and how its random numbers are dealt out."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """One image (S, S) or (S, S, 3) uint8 with its true class, patient and imaging device."""

    image: Pixels
    label: str
    patient: str
    device: str = ""


@dataclass(frozen=True)
class Masked:
    """One image (S, S, 3) uint8 with its true mask (S, S).

    `mask` is uint8 0/1 (retina: 1 = vessel) or uint16 instance ids (nuclei: 0 = background).
    """

    image: Pixels
    mask: NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Case:
    """One brain MRI: int16 volumes (X, Y, Z) by sequence name, and uint8 parts (X, Y, Z).

    x runs to the patient's right-to-left, y from back to front, z upwards. `spacing` is in mm.
    """

    name: str
    hospital: str
    sequences: dict[str, NDArray[np.int16]]
    parts: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def streams(seed: int, name: str, count: int) -> list[np.random.Generator]:
    """`count` independent generators that depend on `seed` and `name` alone.

    The n-th stays the same for any larger `count`, and no other name shifts it.
    """
    root = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    return [np.random.default_rng(child) for child in root.spawn(count)]


def assign_labels(rng: np.random.Generator, shares: dict[str, float], count: int) -> Sequence[str]:
    """`count` labels in random order, as many of each as its share says, none left out.

    Every class gets 3 images, or `count // len(shares)` where there are fewer to give.
    """
    least = min(3, count // len(shares))
    spare = count - least * len(shares)
    exact = np.array(list(shares.values())) / sum(shares.values()) * spare
    number = np.floor(exact).astype(int)
    number[np.argsort(number - exact, kind="stable")[: spare - number.sum()]] += 1
    labels = [label for label, n in zip(shares, number, strict=True) for _ in range(least + n)]
    return [labels[i] for i in rng.permutation(count)]
