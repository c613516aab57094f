"""Differential privacy in a federation: accounts that survive, sites that stop, what is said."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from polyclinic.config import (
    Config,
    DataConfig,
    LocalConfig,
    PrivacyConfig,
    SiteConfig,
    UniversalConfig,
)
from polyclinic.errors import PrivacyError, RunError
from polyclinic.federation import exchange
from polyclinic.federation.exchange import Federation
from polyclinic.federation.methods import METHODS
from polyclinic.federation.privacy import account, clients
from polyclinic.federation.privacy.account import read
from polyclinic.federation.privacy.accounting import epsilon_of
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import Workers
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of

PRIVACY = PrivacyConfig(epsilon=100.0, noise=1.0)

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(account, "fresh_secret", lambda: b"s" * 32)


@pytest.fixture
def federate(make_site, tmp_path):
    """(folder, stages, tell, privacy, method, **config) -> (Federation, its records)."""
    sites = [make_site("single-label", "a", n=16), make_site("multi-label", "b", n=16)]

    def build(folder="f", stages=2, tell=None, privacy=PRIVACY, method="fedavg", **changes):
        config = Config(
            sites=tuple(SiteConfig(s.name, tmp_path / s.name) for s in sites),
            corpus=tmp_path / "corpus",
            data=DataConfig(image_size=16),
            local=LocalConfig(stages=stages, min_steps=1, max_steps=1, batch_size=4),
            universal=UniversalConfig(distil_every=0),
            privacy=privacy,
        )
        records = []
        fed = Federation(
            method=method,
            seed=3,
            start=state_of(build_encoder("small", seed=0)),
            corpus=np.zeros((4, 3, 16, 16), np.uint8),
            config=replace(config, **changes),
            workers=Workers({s.name: s for s in sites}),
            store=StageStore(tmp_path / folder, records.append),
            tell=tell or (lambda *_: None),
        )
        return fed, records

    return build


def test_a_killed_run_goes_on_with_its_accounts_and_ends_with_the_same_bits(federate, known):
    def killed(phase, stage, *_):
        if stage == 2:
            raise KeyboardInterrupt

    whole, _ = federate("whole")
    expected = METHODS["fedavg"](whole)["a"]
    cut, _ = federate("cut", tell=killed)
    with pytest.raises(KeyboardInterrupt):
        METHODS["fedavg"](cut)
    assert read(cut.store.latest(2).heads["a"]).steps == 1
    again, _ = federate("cut")
    found = METHODS["fedavg"](again)["a"]
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    accounts = [read(f.store.latest(2).heads["a"]) for f in (whole, again)]
    assert accounts[0] == accounts[1]
    assert accounts[0].steps == 2


def test_sites_say_nothing_in_numbers_and_weigh_the_same(federate):
    losses = []
    fed, records = federate(stages=1, tell=lambda *said: losses.append(said[3]))
    METHODS["fedavg"](fed)
    for said in records[0]["sites"].values():
        assert said["examples"] == 1
        assert math.isnan(said["loss"])
        assert math.isnan(said["received_score"])
        assert math.isnan(said["trained_score"])
    assert all(math.isnan(loss) for loss in losses)


def test_a_site_stops_when_its_budget_is_spent_and_the_record_says_so(federate, monkeypatch):
    one, _ = federate("one", stages=1)
    METHODS["fedavg"](one)
    site = read(one.store.latest(1).heads["a"])
    twice = epsilon_of((replace(site.history[0], number=2),), 1e-5)
    privacy = replace(PRIVACY, epsilon=(site.spent + twice) / 2)

    real = exchange.site_stage

    def with_less_noise_at_b(site, preset, received, head, plan, *rest):
        """Site b has a budget of its own, so that the federation goes on without a."""
        if site.name == "b":
            plan = replace(plan, privacy=PRIVACY)
        return real(site, preset, received, head, plan, *rest)

    monkeypatch.setattr(exchange, "site_stage", with_less_noise_at_b)
    fed, records = federate("two", privacy=privacy)
    METHODS["fedavg"](fed)
    assert records[0]["absent"] == []
    (absent,) = records[1]["absent"]
    assert absent["site"] == "a"
    assert absent["reason"].startswith("site 'a' stops taking part: this stage would bring its")
    assert read(fed.store.latest(2).heads["a"]).spent <= privacy.epsilon


def test_when_all_budgets_are_spent_the_run_ends_with_the_reason(federate):
    fed, _ = federate(privacy=replace(PRIVACY, epsilon=0.1))
    with pytest.raises(RunError, match=r"stage 1: every site failed \(a: site 'a' stops taking"):
        METHODS["fedavg"](fed)


def test_what_has_left_is_charged_though_the_server_refuses_it(federate, monkeypatch):
    real = exchange.admit

    def refusing(parcel, name, *rest):
        if name == "a":
            raise exchange.KnowledgeError("refused from site 'a': for the test")
        return real(parcel, name, *rest)

    fed, records = federate()
    monkeypatch.setattr(exchange, "admit", refusing)
    METHODS["fedavg"](fed)
    assert [r["absent"][0]["site"] for r in records] == ["a", "a"]
    kept = fed.store.latest(2).heads
    assert read(kept["a"]).steps == read(kept["b"]).steps == 2
    assert account.without_account(kept["a"]) == {}  # its head is as it was: there is none


def test_working_alone_is_not_private_because_nothing_leaves(federate):
    fed, records = federate(method="local", stages=1)
    METHODS["local"](fed)
    assert read(fed.store.latest(1).heads["a"]) is None
    assert records[0]["sites"]["a"]["examples"] == 8


# Whole sites.

OF_SITES = PrivacyConfig(site_epsilon=500.0, site_clip=0.01)


@pytest.fixture
def quick_noise(monkeypatch):
    monkeypatch.setattr(clients, "noise_for", lambda *_: 1.0)


def test_whole_sites_have_an_account_at_the_server_that_survives(federate, known, quick_noise):
    def killed(phase, stage, *_):
        if stage == 2:
            raise KeyboardInterrupt

    options = {"method": "universal", "privacy": OF_SITES}
    whole, records = federate("whole", **options)
    expected = METHODS["universal"](whole)["a"]
    cut, _ = federate("cut", tell=killed, **options)
    with pytest.raises(KeyboardInterrupt):
        METHODS["universal"](cut)
    again, _ = federate("cut", **options)
    found = METHODS["universal"](again)["a"]
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert read(again.store.latest(2).memory).steps == 2
    assert records[0]["sites"]["a"]["loss"] > 0  # the server is trusted with what sites say


def test_whole_sites_are_not_private_under_a_method_that_weighs_by_size(federate):
    fed, _ = federate(privacy=OF_SITES)
    with pytest.raises(PrivacyError, match=r"needs sites of equal weight, and this method weighs"):
        METHODS["fedavg"](fed)
