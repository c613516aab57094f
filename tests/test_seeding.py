"""Seeds: from names alone, different for different names, untouched by the global state."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.seeding import derive, generator

PARTS = st.lists(st.integers(0, 10**9) | st.text("abc-/", max_size=4), min_size=1, max_size=4)


@settings(derandomize=True, max_examples=50)
@given(PARTS, PARTS)
def test_seeds_depend_on_every_part_and_on_nothing_else(a, b):
    assert derive(*a) == derive(*a)
    assert 0 <= derive(*a) < 2**63
    if [str(x) for x in a] != [str(x) for x in b]:
        assert derive(*a) != derive(*b)


def test_a_seed_stays_the_same_from_version_to_version():
    assert derive(0, "universal", 1, "blood") == 2732692738001820502


def test_order_and_grouping_of_the_parts_count():
    assert derive("ab", "c") != derive("a", "bc")
    assert derive("a", "b") != derive("b", "a")


def test_generators_ignore_and_leave_alone_the_global_state():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = torch.rand(4, generator=generator(3, "x"))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, torch.rand(4, generator=generator(3, "x")))
    assert not torch.equal(first, torch.rand(4, generator=generator(3, "y")))
