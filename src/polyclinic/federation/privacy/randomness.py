"""Random numbers that nobody can draw again without the secret they come from.

PyTorch's generator on a CPU starts from 32 bits of its seed, few enough to try them all, and a
run's seeds are no secret at all. Here numbers come from SHAKE-256 (FIPS 202) of a secret and a
name: the same for the same name, so a stage that is done again draws the same.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray


def uniform(number: int, secret: bytes, *name: int | str) -> NDArray[np.float64]:
    """`number` values, uniform in 0..1 without 1, multiples of 2**-53."""
    start = secret + "\x1f".join(map(str, name)).encode()
    stream = hashlib.shake_256(start).digest(8 * number)
    return (np.frombuffer(stream, "<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(number: int, secret: bytes, *name: int | str) -> NDArray[np.float64]:
    """`number` standard normal values (Box and Muller 1958)."""
    pairs = (number + 1) // 2
    values = uniform(2 * pairs, secret, *name)
    length = np.sqrt(-2 * np.log(1 - values[:pairs]))
    angle = 2 * np.pi * values[pairs:]
    return np.concatenate([length * np.cos(angle), length * np.sin(angle)])[:number]
