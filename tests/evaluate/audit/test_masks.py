"""A mask that served twice is seen, what it hid is found, and fresh masks are not blamed."""

import numpy as np
import pytest

from polyclinic.errors import PrivacyError
from polyclinic.evaluate.audit.masks import mask_reuse


def words(seed, kind, n=4000):
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, n, kind, endpoint=True)


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
def test_the_same_mask_shows_the_difference_of_what_it_hid(kind):
    mask = words(0, kind)
    plain = [np.random.default_rng(i).integers(-1000, 1000, len(mask)) for i in (1, 2)]
    one, other = (mask + p.astype(kind) for p in plain)
    found = mask_reuse(one, other)
    assert found.reused
    assert found.near == 1
    assert np.array_equal(found.difference, plain[1] - plain[0])


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
def test_fresh_masks_are_not_blamed(kind):
    for seed in range(20):
        found = mask_reuse(words(seed, kind), words(100 + seed, kind))
        assert not found.reused
        assert found.near == pytest.approx(1 / 16, abs=0.02)


def test_a_mask_shared_by_a_small_part_is_seen():
    one, other = words(0, np.uint32), words(1, np.uint32)
    other[:400] = one[:400] + 5
    assert mask_reuse(one, other).reused


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (np.zeros(99, np.uint32), np.zeros(99, np.uint64), r"two vectors of the same words"),
        (np.zeros(99, np.uint32), np.zeros(98, np.uint32), r"two vectors of the same words"),
        (np.zeros(9, np.uint32), np.zeros(9, np.uint32), r"expected 64 words or more, got 9"),
    ],
)
def test_what_cannot_be_compared_is_refused(one, other, text):
    with pytest.raises(PrivacyError, match=text):
        mask_reuse(one, other)
