"""A privacy account: its budget, what is spent of it, and the secret that noise is drawn from.

A site's stays at the site with its head; that of the server, for whole sites, lies with what its
optimiser remembers. Both are tensors of the checkpoint that the stage ends with, so a resumed run
cannot forget what was spent.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from polyclinic.config import PrivacyConfig
from polyclinic.errors import PrivacyError
from polyclinic.federation.privacy.accounting import (
    History,
    Steps,
    epsilon_of,
    extended,
)
from polyclinic.models.state import State

PREFIX = "privacy."
"""Before the names of the account's tensors, where they are kept with a head."""

Unit = Literal["record", "patient", "site"]
_UNITS: tuple[Unit, ...] = get_args(Unit)
_SLACK = 1 + 1e-9  # the same steps, added up in another order


@dataclass(frozen=True)
class Account:
    """`epsilon` may be spent at `delta` for each unit; `history` was.

    `secret` never leaves: all noise and all sampling are drawn from it, because whoever can draw
    the same numbers can take the noise away again.
    """

    epsilon: float
    delta: float
    unit: Unit
    secret: bytes
    history: History = ()

    @property
    def steps(self) -> int:
        """Number of steps so far."""
        return sum(s.number for s in self.history)

    @property
    def spent(self) -> float:
        """Epsilon spent so far."""
        return epsilon_of(self.history, self.delta)

    def charged(self, steps: Steps, who: str) -> "Account":
        """The account after `steps`; `PrivacyError` where they would exceed the budget."""
        after = replace(self, history=extended(self.history, steps))
        would = after.spent
        if would > self.epsilon * _SLACK:
            raise PrivacyError(
                f"{who} stops taking part: this stage would bring its epsilon from "
                f"{self.spent:.4g} to {would:.4g}, and its budget is {self.epsilon:g} at delta "
                f"{self.delta:g}; expected fewer stages or steps, more noise, or a larger budget"
            )
        return after

    def tensors(self) -> State:
        """The account as tensors, `PREFIX` before their names."""
        history = [[s.noise, s.rate, float(s.number)] for s in self.history]
        budget = [self.epsilon, self.delta, float(_UNITS.index(self.unit))]
        return {
            f"{PREFIX}budget": torch.tensor(budget, dtype=torch.float64),
            f"{PREFIX}history": torch.tensor(history, dtype=torch.float64).reshape(-1, 3),
            f"{PREFIX}secret": torch.tensor(list(self.secret), dtype=torch.uint8),
        }


def budget(privacy: PrivacyConfig, *, of_sites: bool = False) -> Account:
    """An account of which nothing is spent, without a secret: of a site, or of whole sites."""
    if of_sites:
        return Account(privacy.site_epsilon, privacy.delta, "site", b"")
    return Account(privacy.epsilon, privacy.delta, privacy.unit, b"")


def opened(kept: Mapping[str, Tensor], asked: Account, who: str) -> Account:
    """The account among what is `kept`, or a new one with the budget of `asked`.

    Raises `PrivacyError` where the budget is another than the one that it was opened with.
    """
    found = read(kept)
    if found is None:
        return replace(asked, secret=fresh_secret())
    if replace(found, secret=b"", history=()) != asked:
        raise PrivacyError(
            f"{who} began with a budget of epsilon {found.epsilon:g}, delta {found.delta:g} for "
            f"each {found.unit}, and is asked for epsilon {asked.epsilon:g}, delta "
            f"{asked.delta:g} for each {asked.unit}; expected the same to the end"
        )
    return found


def read(kept: Mapping[str, Tensor]) -> Account | None:
    """The account among what is kept; None where there is none."""
    if f"{PREFIX}budget" not in kept:
        return None
    epsilon, delta, unit = kept[f"{PREFIX}budget"].tolist()
    history = tuple(Steps(n, r, int(k)) for n, r, k in kept[f"{PREFIX}history"].tolist())
    secret = bytes(kept[f"{PREFIX}secret"].tolist())
    return Account(epsilon, delta, _UNITS[int(unit)], secret, history)


def account_part(kept: Mapping[str, Tensor]) -> State:
    """The account's tensors among what is kept; none without an account."""
    return {name: value for name, value in kept.items() if name.startswith(PREFIX)}


def without_account(kept: Mapping[str, Tensor]) -> State:
    """What is kept besides an account."""
    return {name: value for name, value in kept.items() if not name.startswith(PREFIX)}


def fresh_secret() -> bytes:
    """32 bytes that nobody else can know."""
    return secrets.token_bytes(32)
