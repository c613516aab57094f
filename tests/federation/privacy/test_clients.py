"""Whole sites: each change shortened, equal weights, noise as wide as said, a budget that holds."""

import pytest
import torch

from polyclinic.config import PrivacyConfig
from polyclinic.errors import PrivacyError
from polyclinic.federation.privacy import clients
from polyclinic.federation.privacy.account import account_part, read
from polyclinic.federation.privacy.clients import noisy_mean
from polyclinic.seeding import generator

PRIVACY = PrivacyConfig(site_epsilon=8.0, site_clip=0.5)


@pytest.fixture(autouse=True)
def quick_noise(monkeypatch):
    """The search for the noise takes seconds; its own tests are elsewhere."""
    monkeypatch.setattr(clients, "noise_for", lambda *_: 2.0)


def change(length, name):
    gen = generator(name)
    parts = {"a": torch.randn(3, 4, generator=gen), "b": torch.randn(5, generator=gen)}
    norm = sum(float(p.square().sum()) for p in parts.values()) ** 0.5
    return {k: p * length / norm for k, p in parts.items()}


def test_a_long_change_is_shortened_and_all_weigh_the_same(monkeypatch):
    totals = []
    monkeypatch.setattr(
        clients,
        "privatised",
        lambda total, *_, expected, **__: totals.append(total) or [t / expected for t in total],
    )
    changes = [change(100.0, "x"), change(0.25, "y")]
    mean, _ = noisy_mean(changes, 4, PRIVACY, 3, {}, 0, "universal", 0)
    short = change(0.5, "x")
    for key, value in mean.items():
        # the divisor is that of the sites that were asked: an absent one counts as zero
        assert torch.allclose(value, (short[key] + changes[1][key]) / 4, atol=1e-6)


def test_the_noise_is_noise_times_clip_over_the_number_of_sites():
    still = [{"a": torch.zeros(300, 300)}] * 3
    mean, _ = noisy_mean(still, 4, PRIVACY, 3, {}, 0, "universal", 0)
    assert float(mean["a"].std()) == pytest.approx(2.0 * 0.5 / 4, rel=0.01)


def test_the_account_goes_on_and_stops_hard():
    changes, memory = [change(1.0, "x")] * 4, {"first.a": torch.zeros(3, 4)}
    means, stages = [], 0
    text = (
        r"the server stops taking part: this stage would bring its epsilon from .* budget is 8 at"
    )
    with pytest.raises(PrivacyError, match=text):  # noqa: PT012
        while True:
            mean, account = noisy_mean(changes, 4, PRIVACY, 3, memory, 0, "universal", 0)
            memory |= account
            means.append(mean["a"])
            stages += 1
    found = read(memory)
    assert (found.unit, found.steps, found.history[0].rate) == ("site", stages, 1.0)
    assert found.spent <= 8
    assert stages > 1
    assert not torch.allclose(means[0], means[1])  # new noise in each stage


def test_the_same_account_gives_the_same_noise_and_a_new_one_another():
    changes = [change(1.0, "x")] * 4
    _, account = noisy_mean(changes, 4, PRIVACY, 3, {}, 0, "universal", 0)
    first, again = (noisy_mean(changes, 4, PRIVACY, 3, account, 0, "universal", 1)[0]
                    for _ in range(2))  # fmt: skip
    assert torch.equal(first["a"], again["a"])
    other, _ = noisy_mean(changes, 4, PRIVACY, 3, {}, 0, "universal", 1)
    assert not torch.equal(first["a"], other["a"])
    assert set(account_part(account)) == set(account)
