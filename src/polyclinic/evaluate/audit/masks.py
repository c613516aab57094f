"""Whether masks of secure aggregation served twice: two vectors under one mask differ plainly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import PrivacyError

Words = NDArray[np.uint32] | NDArray[np.uint64]

LEAST_WORDS = 64
_ALPHA = 1e-6  # a fresh mask is called reused once in a million


@dataclass(frozen=True)
class MaskCheck:
    """What two masked vectors of one site tell.

    `near` is the share of words whose difference is in the nearest sixteenth of the range: 1/16
    where masks are fresh, near 1 where they are the same. `difference` (N,) is that of the masked
    integers, signed: the plain one where `reused`, noise otherwise.
    """

    reused: bool
    near: float
    p_value: float
    difference: NDArray[np.int64]


def mask_reuse(first: Words, second: Words) -> MaskCheck:
    """Look for a mask that is in both vectors, (N,) words of the same width.

    Under fresh masks the difference modulo 2**bits is uniform, so the number of words near zero is
    binomial; what is masked is cut to a small part of the range for each site, so that the sum
    over all has room, and the difference of two such vectors stays near zero. Raises `PrivacyError`
    for vectors that cannot be compared, or are too short to tell.
    """
    if first.dtype != second.dtype or first.shape != second.shape or first.ndim != 1:
        raise PrivacyError(
            f"masks: expected two vectors of the same words, got {first.dtype} {first.shape} and "
            f"{second.dtype} {second.shape}"
        )
    if len(first) < LEAST_WORDS:
        raise PrivacyError(f"masks: expected {LEAST_WORDS} words or more, got {len(first)}")
    from scipy import stats

    signed = np.int64 if first.itemsize == 8 else np.int32
    difference = (second - first).view(signed).astype(np.int64)
    sixteenth = 2 ** (8 * first.itemsize - 5)
    near = int(((difference >= -sixteenth) & (difference < sixteenth)).sum())
    p_value = float(stats.binom.sf(near - 1, len(first), 1 / 16))
    return MaskCheck(p_value < _ALPHA, near / len(first), p_value, difference)
