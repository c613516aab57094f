"""Epsilons against Opacus' own and against a formula; budgets that hold."""

import math
import warnings

import numpy as np
import pytest

from polyclinic.config import PrivacyConfig
from polyclinic.errors import PrivacyError
from polyclinic.federation.privacy.account import (
    account_part,
    budget,
    fresh_secret,
    opened,
    read,
    without_account,
)
from polyclinic.federation.privacy.accounting import Steps, epsilon_of, extended, noise_for
from polyclinic.models.state import load_state, save_state

PRIVACY = PrivacyConfig(epsilon=9.0)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(1.0, 0.05, 20, 1e-5), (0.7, 0.2, 10, 1e-6), (4.0, 1.0, 8, 1e-5), (20.0, 0.01, 40, 1e-4)],
)
def test_epsilon_is_what_opacus_says(noise, rate, steps, delta):
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    for _ in range(steps):
        accountant.step(noise_multiplier=noise, sample_rate=rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = accountant.get_epsilon(delta)
    assert epsilon_of((Steps(noise, rate, steps),), delta) == pytest.approx(expected, rel=1e-12)


def test_epsilon_of_steps_without_sampling_follows_the_formula():
    """Renyi divergence alpha / (2 noise^2) a step, and the conversion of Canonne et al. 2020."""
    noise, steps, delta = 5.0, 10, 1e-5
    alphas = np.arange(1.05, 80, 0.01)
    renyi = steps * alphas / (2 * noise**2)
    best = renyi + np.log1p(-1 / alphas) - (np.log(delta) + np.log(alphas)) / (alphas - 1)
    found = epsilon_of((Steps(noise, 1.0, steps),), delta)
    assert best.min() <= found + 1e-9
    assert found == pytest.approx(best.min(), rel=0.01)


def test_an_exact_bound_is_never_above_it():
    """Balle and Wang 2018, theorem 8: what one step without sampling really spends."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def delta_of(epsilon, noise):
        a, b = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
        return norm.cdf(a) - math.exp(epsilon) * norm.cdf(b)

    for noise in (0.8, 2.0):
        exact = brentq(lambda e, n=noise: delta_of(e, n) - 1e-5, 0.0, 40.0)
        assert exact <= epsilon_of((Steps(noise, 1.0, 1),), 1e-5) <= 1.4 * exact


def test_nothing_is_spent_by_nothing():
    assert epsilon_of((), 1e-5) == 0


@pytest.mark.parametrize("steps", [Steps(0.0, 0.1, 1), Steps(math.nan, 0.1, 1), Steps(1, 1.5, 1)])
def test_steps_without_noise_have_no_epsilon(steps):
    with pytest.raises(PrivacyError, match=r"nothing can be claimed of such a step"):
        epsilon_of((steps,), 1e-5)


def test_the_noise_for_an_epsilon_spends_it_and_no_more():
    noise = noise_for(3.0, 1e-5, 0.2, 12)
    assert 0.99 * 3 <= epsilon_of((Steps(noise, 0.2, 12),), 1e-5) <= 3


def test_an_epsilon_that_no_noise_reaches_is_refused():
    with pytest.raises(PrivacyError, match=r"no noise keeps 4 steps within an epsilon of 1e-08"):
        noise_for(1e-8, 1e-5, 1.0, 4)


def test_steps_of_one_kind_are_counted_together():
    a, b = Steps(1.0, 0.1, 3), Steps(2.0, 0.1, 1)
    assert extended(extended((a,), a), b) == (Steps(1.0, 0.1, 6), b)


# Accounts.


def test_an_account_survives_its_checkpoint(tmp_path):
    account = opened({}, budget(PRIVACY), "site 'a'").charged(Steps(1.1, 0.125, 7), "site 'a'")
    save_state({"linear.weight": account.tensors()["privacy.history"], **account.tensors()},
               tmp_path / "head.safetensors")  # fmt: skip
    kept = load_state(tmp_path / "head.safetensors")
    assert read(kept) == account
    assert set(account_part(kept)) == set(account.tensors())
    assert set(without_account(kept)) == {"linear.weight"}
    again = opened(kept, budget(PRIVACY), "site 'a'")
    assert again.charged(Steps(1.1, 0.125, 7), "site 'a'").steps == 14


def test_a_new_account_is_empty_and_has_a_secret_of_its_own(tmp_path):
    a, b = (opened({}, budget(PRIVACY), "site 'a'") for _ in range(2))
    assert a.secret != b.secret
    assert len(fresh_secret()) == 32
    assert a.spent == 0
    save_state(a.tensors(), tmp_path / "new.safetensors")
    assert read(load_state(tmp_path / "new.safetensors")) == a


def test_no_step_is_charged_that_the_budget_does_not_cover():
    account = opened({}, budget(PRIVACY), "site 'a'")
    steps = Steps(1.0, 0.2, 10)
    while epsilon_of(extended(account.history, steps), 1e-5) <= 9:
        account = account.charged(steps, "site 'a'")
    assert account.steps > 0
    assert account.spent <= 9
    text = r"site 'a' stops taking part: this stage would bring its epsilon from .* budget is 9 at"
    with pytest.raises(PrivacyError, match=text):
        account.charged(steps, "site 'a'")


@pytest.mark.parametrize(
    "other", [{"epsilon": 12.0}, {"delta": 1e-4}, {"unit": "patient"}], ids=lambda o: next(iter(o))
)
def test_an_account_keeps_its_budget(other):
    kept = opened({}, budget(PRIVACY), "site 'a'").tensors()
    asked = PrivacyConfig(**{"epsilon": 9.0, **other})
    with pytest.raises(PrivacyError, match=r"site 'a' began with a budget of epsilon 9"):
        opened(kept, budget(asked), "site 'a'")


def test_steps_cannot_be_given_back():
    with pytest.raises(PrivacyError, match=r"a number of steps of 0 or more, got -3"):
        epsilon_of((Steps(1.0, 0.5, 8), Steps(1.0, 0.4, -3)), 1e-5)
