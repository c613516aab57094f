"""Scores of canaries: what is in an update stands out, though all have much in common."""

import pytest
import torch

from polyclinic.errors import PrivacyError
from polyclinic.evaluate.audit.canaries import inclusion_scores


def test_those_that_are_in_score_higher():
    gen = torch.Generator().manual_seed(0)
    common = 5 * torch.randn(1, 300, generator=gen)
    canaries = common + torch.randn(20, 300, generator=gen)
    inside = torch.arange(20) % 3 == 0
    scores = inclusion_scores(canaries[inside].sum(0), canaries)
    assert scores[inside].min() > scores[~inside].max()


def test_an_update_that_is_not_finite_is_refused():
    with pytest.raises(PrivacyError, match=r"the update holds NaN or infinity"):
        inclusion_scores(torch.full((3,), torch.nan), torch.ones(2, 3))
