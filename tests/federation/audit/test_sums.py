"""The sum is the mean; a site's own words are noise; masks that serve twice are caught."""

import numpy as np
import pytest
import torch

from polyclinic.evaluate.audit.masks import mask_reuse
from polyclinic.federation.aggregation import WEIGHTINGS
from polyclinic.federation.audit.sums import as_state, difference_of, masked_twice, row, summed


def change(seed, scale=0.01):
    gen = torch.Generator().manual_seed(seed)
    return {
        "b": scale * torch.randn(5, 7, generator=gen),
        "a": scale * torch.randn(90, generator=gen),
    }


@pytest.mark.parametrize("weighting", ["equal", "sqrt-size", "size"])
def test_the_sum_is_the_mean_of_the_changes_and_a_sites_words_are_not_its_change(weighting):
    changes = {name: change(i) for i, name in enumerate("xyz")}
    found = summed(changes, 1.0, "a test", weighting, 24)
    for key in ("a", "b"):
        mean = sum(c[key] for c in changes.values()) / 3
        assert torch.allclose(found.mean[key], mean, atol=1e-6)
        alone = found.taken_for_numbers("x")[key]
        assert alone.shape == mean.shape
        assert float(alone.std()) > 20 * float(mean.std())


@pytest.mark.parametrize("reused", [True, False])
@pytest.mark.parametrize(("weighting", "bits"), [("equal", 32), ("size", 64)])
def test_masks_that_serve_twice_are_caught_and_show_the_difference(reused, weighting, bits):
    first, second = change(0), change(1)
    one, other, how = masked_twice(first, second, 3, 1.0, "a test", weighting, 24, reused=reused)
    assert how.bits == 8 * one.itemsize == bits  # as the method sends them
    found = mask_reuse(one, other)
    assert found.reused == reused
    plain = row(second) - row(first)
    shown = difference_of(found.difference, WEIGHTINGS[weighting](24), how)
    assert np.allclose(shown, plain, atol=1e-6) == reused


def test_tensors_without_names_keep_their_order():
    state = as_state([torch.tensor([float(i)]) for i in range(12)])
    assert row(state).tolist() == list(range(12))
