"""Numbers as integers modulo 2**32 or 2**64, and the mean from the sum of such integers.

A site cuts its numbers to ±`clip`, multiplies them by its weight and by a declared power of two,
and rounds. The power is the largest with which the sum over all sites cannot overflow, whoever is
absent. So the sum modulo 2**`bits` is the sum, and the one error is that of rounding.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import KnowledgeError
from polyclinic.federation.secure.primitives import Bits, Words


@dataclass(frozen=True)
class Quantisation:
    """What sites and server agree on: at most `sites` add numbers in ±`clip`, of weights up to
    `heaviest`."""

    sites: int
    clip: float
    heaviest: float = 1.0
    bits: Bits = 32

    @property
    def scale(self) -> float:
        """How many steps there are to 1: a power of two."""
        room = Fraction(2 ** (self.bits - 1) - 1, self.sites) - 1  # a unit for rounding
        most = Fraction(self.clip) * Fraction(self.heaviest) * (1 + Fraction(1, 2**40))
        exponent = math.floor(math.log2(room / most)) + 1
        while Fraction(2) ** exponent > room / most:
            exponent -= 1
        return math.ldexp(1.0, exponent)

    def bound(self, sites: int, weight: float) -> float:
        """The largest error of a number of the mean over `sites`, whose weights add up to `weight`.

        Half a step for each site, and what float64 loses. Of numbers in ±`clip`; the mean is then
        rounded to float32 like any other.
        """
        return sites / (2 * self.scale * weight) + self.clip * 2.0**-49


def to_words(numbers: NDArray[np.floating], weight: float, how: Quantisation) -> Words:
    """`weight` times `numbers`, (N,), as (N,) words; `KnowledgeError` for what has no place."""
    if not 0 < weight <= how.heaviest:
        raise KnowledgeError(
            f"a site's weight is {weight:g}, expected above 0 and at most {how.heaviest:g}"
        )
    if not np.isfinite(numbers).all():
        raise KnowledgeError("a change holds NaN or infinity; it cannot be masked")
    cut = np.clip(numbers.astype(np.float64), -how.clip, how.clip)
    signed = np.rint(cut * weight * how.scale).astype(np.int64)
    return signed.astype(np.uint64) if how.bits == 64 else signed.astype(np.uint32)


def to_mean(total: Words, weight: float, how: Quantisation) -> NDArray[np.float64]:
    """The weighted mean, (N,), from the sum of the sites' words; `weight` is that of all of them.

    >>> how = Quantisation(sites=2, clip=1.0)
    >>> one, two = (to_words(np.array(x), 1.0, how) for x in ([0.5, -1.0], [0.25, 9.0]))
    >>> print(to_mean(one + two, 2.0, how))
    [0.375 0.   ]
    """
    signed = total.view(np.int64 if how.bits == 64 else np.int32)
    return signed.astype(np.float64) / (how.scale * weight)
