"""Differential privacy and secure aggregation together: as without the latter, but for rounding."""

from dataclasses import replace

import pytest
import torch

from polyclinic.config import FederationConfig, PrivacyConfig
from polyclinic.federation.methods import METHODS
from polyclinic.federation.privacy import account
from polyclinic.federation.privacy.account import read
from polyclinic.federation.secure.masking import quantisation

PRIVACY = PrivacyConfig(epsilon=100.0, noise=1.0)
OPEN = FederationConfig(norm_factor=0.0)


@pytest.mark.parametrize("method", ["fedavg", "universal"])
def test_the_sum_of_private_changes_is_the_same_within_the_rounding(
    federate, make_site, tmp_path, monkeypatch, method
):
    monkeypatch.setattr(account, "fresh_secret", lambda: b"s" * 32)
    sites = [make_site("single-label", name, n=16, seed=i) for i, name in enumerate("abc")]

    def trained(folder, settings):
        fed, records = federate(method, sites, stages=1, distil_every=0)
        fed.config = replace(fed.config, federation=settings, privacy=PRIVACY)
        fed.store.folder = tmp_path / folder
        encoder = METHODS[method](fed)["a"]
        accounts = [read(head) for head in fed.store.latest(1).heads.values()]
        return encoder, records, accounts, fed.start

    plain, _, spent, start = trained("plain", OPEN)
    secure, records, same, _ = trained("secure", replace(OPEN, secure=True))
    assert same == spent
    assert len({a.spent for a in spent}) == 1
    told = records[0]["sites"]
    assert [site["examples"] for site in told.values()] == [1.0, 1.0, 1.0]
    # without examples, all sites weigh the same under every method
    bound = quantisation("size" if method == "fedavg" else "equal", 3, 1.0).bound(3, 3.0)
    assert bound < 1e-6
    moved = max(float((plain[k] - start[k]).abs().max()) for k in plain)
    assert 1e-3 < moved < 1.0  # nothing was cut
    for name, value in plain.items():
        rounding = 4 * torch.finfo(torch.float32).eps * (value.abs() + 1)
        assert ((secure[name] - value).abs() <= bound + rounding).all(), name
