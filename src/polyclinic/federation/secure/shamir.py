"""Shamir's secret sharing (Shamir 1979): any `threshold` of the shares tell the secret, fewer
nothing.

The field is that of the integers modulo the Mersenne prime 2**521 - 1, which has room for any key.
"""

from collections.abc import Mapping, Sequence

from polyclinic.errors import KnowledgeError
from polyclinic.federation.secure.primitives import Entropy

PRIME = 2**521 - 1
SHARE = 66
"""Bytes of a share."""
_SPARE = 82  # bytes of a random number below PRIME: 128 bits more, so that none is likelier


def split(secret: bytes, points: Sequence[int], threshold: int, entropy: Entropy) -> list[bytes]:
    """A share of `secret`, at most 64 bytes, for each of `points` (different, 1 or more)."""
    polynomial = [int.from_bytes(secret, "big")]
    for _ in range(threshold - 1):
        polynomial.append(int.from_bytes(entropy(_SPARE), "big") % PRIME)
    return [_value(polynomial, point).to_bytes(SHARE, "big") for point in points]


def joined(shares: Mapping[int, bytes], threshold: int, size: int) -> bytes:
    """The secret of `size` bytes from shares by their points.

    Those beyond `threshold` must fit the others. `KnowledgeError` where there are too few, or where
    they do not fit together.
    """
    if len(shares) < threshold:
        raise KnowledgeError(f"a secret needs {threshold} shares, got {len(shares)}")
    values = {point: int.from_bytes(share, "big") for point, share in shares.items()}
    base = dict(sorted(values.items())[:threshold])
    secret = _interpolated(base, 0)
    fits = all(_interpolated(base, p) == value for p, value in values.items() if p not in base)
    if not fits or secret >= 1 << (8 * size):
        raise KnowledgeError("the shares of a secret do not fit together: one of them is wrong")
    return secret.to_bytes(size, "big")


def _value(polynomial: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * point + coefficient) % PRIME
    return value


def _interpolated(values: Mapping[int, int], at: int) -> int:
    """The value at `at` of the polynomial of lowest degree through `values` (Lagrange)."""
    total = 0
    for point, value in values.items():
        above, below = 1, 1
        for other in values:
            if other != point:
                above = above * (at - other) % PRIME
                below = below * (point - other) % PRIME
        total = (total + value * above * pow(below, -1, PRIME)) % PRIME
    return total
