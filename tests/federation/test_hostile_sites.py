"""One of eight toy sites is hostile: the damage under the mean, and none under robust rules.

Eight sites see samples of one linear rule, each shifted a little its own way; they train together
by gradient steps from the same weights. Damage is the error of the weights over that of the same
federation without the hostile site.
"""

import shutil
from dataclasses import replace

import pytest
import torch

from polyclinic.config import FederationConfig
from polyclinic.federation import exchange
from polyclinic.federation.aggregation import add, aggregator
from polyclinic.federation.arrival import length, too_long
from polyclinic.federation.knowledge import Knowledge
from polyclinic.federation.methods import METHODS
from polyclinic.federation.site import Trained

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


def moved(federate, make_site, monkeypatch, aggregation, hostile):
    """How far a run of the universal method takes an encoder that seven sites would move by 0.01.

    From the sites' messages to the encoder; what is made up is their training.
    """
    names = [f"s{n}" for n in range(SITES)]

    def stage(site, _preset, received, *_):
        factor = hostile if site.name == "s7" else 1.0
        own = 1e-3 * names.index(site.name)
        change = {k: torch.full_like(v, factor * (0.01 + own / 10)) for k, v in received.items()}
        scalars = {"examples": 8.0, "loss": 0.5, "received_score": 0.5, "trained_score": 0.5}
        return Trained(Knowledge(change, scalars), {})

    monkeypatch.setattr(exchange, "train_stage", stage)
    sites = [make_site("single-label", name, n=24) for name in names]
    fed, _ = federate(
        "universal", sites, aggregation=aggregation, server_optimiser="none", distil_every=0
    )
    fed.config = replace(fed.config, federation=FederationConfig(norm_factor=0.0))
    encoder = METHODS["universal"](fed)["s0"]
    shutil.rmtree(fed.store.folder)  # the next one begins anew
    return float((encoder["stem.weight"] - fed.start["stem.weight"]).mean())


@pytest.mark.parametrize("hostile", [-20.0, 100.0], ids=["sign flip", "scaling"])
def test_through_the_federation_too_the_mean_is_damaged_and_robust_rules_are_not(
    federate, make_site, monkeypatch, hostile
):
    given = (federate, make_site, monkeypatch)
    assert 0.01 < moved(*given, "mean", 1.0) < 0.011
    assert not 0 < moved(*given, "mean", hostile) < 0.1
    for aggregation in ("median", "trimmed-mean", "krum"):
        assert 0.01 < moved(*given, aggregation, hostile) < 0.011


def test_a_change_that_was_scaled_does_not_get_in():
    refused = []
    assert error("mean", "scaling", factor=10.0, refused=refused) == pytest.approx(
        error("mean"), abs=1e-6
    )
    assert refused == [["7"]] * ROUNDS
    assert error("mean", factor=10.0) == error("mean")
