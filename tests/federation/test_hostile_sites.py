"""One of eight toy sites is hostile: the damage under the mean, and none under robust rules.

Eight sites see samples of one linear rule, each shifted a little its own way; they train together
by gradient steps from the same weights. Damage is the error of the weights over that of the same
federation without the hostile site.
"""

import pytest
import torch

from polyclinic.federation.aggregation import add, aggregator
from polyclinic.federation.arrival import length, too_long

SITES, INPUTS, ROUNDS = 8, 6, 12
TRUTH = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.5, 2.0])


def data(site):
    """A site's inputs (64, INPUTS) and labels: the rule, a small shift of the site's, noise."""
    gen = torch.Generator().manual_seed(site)
    inputs = torch.randn(64, INPUTS, generator=gen)
    rule = TRUTH + 0.05 * torch.randn(INPUTS, generator=gen)
    return inputs, inputs @ rule + 0.1 * torch.randn(64, generator=gen)


def local(weights, inputs, labels):
    """The change of a few gradient steps of least squares."""
    moved = weights["w"].clone()
    for _ in range(5):
        moved -= 0.1 * inputs.T @ (inputs @ moved - labels) / len(labels)
    return {"w": moved - weights["w"]}


def sign_flip(weights, inputs, labels):
    return {"w": -5 * local(weights, inputs, labels)["w"]}


def scaling(weights, inputs, labels):
    return {"w": 100 * local(weights, inputs, labels)["w"]}


def label_flip(weights, inputs, labels):
    return local(weights, inputs, -labels)


ATTACKS = {"sign flip": sign_flip, "scaling": scaling, "label flip": label_flip}


def error(aggregation, attack=None, factor=0.0, refused=None):
    """Distance of the trained weights from the rule; site 7 is the hostile one, or absent."""
    combine = aggregator(aggregation, trim=0.125)
    weights = {"w": torch.zeros(INPUTS)}
    for _ in range(ROUNDS):
        changes = {str(site): local(weights, *data(site)) for site in range(SITES - 1)}
        if attack:
            changes["7"] = ATTACKS[attack](weights, *data(7))
        long = too_long({site: length(change) for site, change in changes.items()}, factor)
        if refused is not None:
            refused.append([*long])
        kept = [change for site, change in changes.items() if site not in long]
        weights = add(weights, combine(kept, [1.0] * len(kept)))
    return float((weights["w"] - TRUTH).norm())


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_mean_is_damaged(attack):
    assert error("mean") < 0.1
    assert error("mean", attack) > 10 * error("mean")


@pytest.mark.parametrize("aggregation", ["median", "trimmed-mean", "krum"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_robust_rule_is_not(aggregation, attack):
    # no worse than what the sites' own differences cost under that rule, with all of them honest
    honest = error(aggregation)
    assert honest < 0.2
    assert error(aggregation, attack) < honest + 0.05


def test_a_change_that_was_scaled_does_not_get_in():
    refused = []
    assert error("mean", "scaling", factor=10.0, refused=refused) == pytest.approx(
        error("mean"), abs=1e-6
    )
    assert refused == [["7"]] * ROUNDS
    assert error("mean", factor=10.0) == error("mean")
