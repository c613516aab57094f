"""Shares: any `threshold` of them tell the secret, and fewer fit every secret."""

import random
from itertools import combinations

import pytest

from polyclinic.errors import KnowledgeError
from polyclinic.federation.secure import shamir
from polyclinic.federation.secure.shamir import PRIME, SHARE, joined, split

SECRET = bytes(range(200, 232))


def shares_of(secret=SECRET, sites=5, threshold=3, seed=0):
    points = range(1, sites + 1)
    shares = split(secret, points, threshold, random.Random(seed).randbytes)
    return dict(zip(points, shares, strict=True))


@pytest.mark.parametrize("secret", [SECRET, bytes(32), bytes([255] * 32)])
def test_any_threshold_of_the_shares_tells_the_secret(secret):
    shares = shares_of(secret)
    assert {len(share) for share in shares.values()} == {SHARE}
    for number in (3, 4, 5):
        for points in combinations(shares, number):
            assert joined({p: shares[p] for p in points}, 3, 32) == secret


def test_fewer_are_refused():
    shares = shares_of()
    with pytest.raises(KnowledgeError, match=r"a secret needs 3 shares, got 2"):
        joined({p: shares[p] for p in (1, 4)}, 3, 32)


def test_fewer_fit_every_secret_equally_well():
    shares = shares_of()
    known = {p: shares[p] for p in (2, 5)}
    for other in (bytes(32), SECRET, bytes([255] * 32)):
        # the polynomial of degree 2 through the known shares and this secret gives a third share
        values = {p: int.from_bytes(s, "big") for p, s in known.items()}
        third = shamir._interpolated({0: int.from_bytes(other, "big"), **values}, 3)
        assert joined({**known, 3: third.to_bytes(SHARE, "big")}, 3, 32) == other


def test_a_share_does_not_depend_on_the_secret():
    # with the same random numbers, one secret's share at a point is the other's, shifted: since
    # the coefficients are uniform, so is each share, whatever the secret
    one, two = shares_of(bytes(32)), shares_of(SECRET)
    shift = int.from_bytes(SECRET, "big")
    for point in one:
        difference = int.from_bytes(two[point], "big") - int.from_bytes(one[point], "big")
        assert difference % PRIME == shift


def test_a_wrong_share_is_noticed_where_there_is_one_to_spare():
    shares = shares_of()
    wrong = {**shares, 2: shares[3]}
    for points in combinations(wrong, 4):
        if 2 in points:
            with pytest.raises(KnowledgeError, match=r"do not fit together: one of them is wrong"):
                joined({p: wrong[p] for p in points}, 3, 32)


def test_a_result_that_is_no_key_is_noticed():
    shares = shares_of()
    wrong = {1: bytes([1]) + shares[1][1:], 2: shares[2], 3: shares[3]}
    with pytest.raises(KnowledgeError, match=r"do not fit together"):
        joined(wrong, 3, 32)
