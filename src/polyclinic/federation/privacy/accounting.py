"""What has been spent of a privacy budget, by Renyi differential privacy.

Every step is a Gaussian mechanism on a Poisson sample (Mironov, Talwar, Zhang 2019); steps add up
order by order (Mironov 2017, proposition 1). The arithmetic is Opacus'. All epsilons here are upper
bounds.
"""

import functools
import importlib.util
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from polyclinic.errors import ConfigError, PrivacyError

ACCOUNTANT = "Renyi differential privacy (Opacus)"


def need() -> None:
    """Raise `ConfigError` where Opacus is not installed."""
    if importlib.util.find_spec("opacus") is None:
        raise ConfigError(
            "privacy: differential privacy needs the extra `privacy`; install it with "
            '`pip install "polyclinic[privacy]"`, or set epsilon and site_epsilon to 0'
        )


@dataclass(frozen=True)
class Steps:
    """Steps of one kind: noise as its standard deviation in clips, probability of a unit, number.

    A rate of 1 is a step in which every unit takes part.
    """

    noise: float
    rate: float
    number: int


History = tuple[Steps, ...]


def extended(history: History, steps: Steps) -> History:
    """`history` and then `steps`; those of the kind that came last are counted with them."""
    if history and (history[-1].noise, history[-1].rate) == (steps.noise, steps.rate):
        last = Steps(steps.noise, steps.rate, history[-1].number + steps.number)
        return (*history[:-1], last)
    return (*history, steps)


@functools.cache
def epsilon_of(history: History, delta: float) -> float:
    """The epsilon of everything in `history` at `delta`.

    Raises `PrivacyError` where a step has no noise: it would have no finite epsilon. Likewise for
    a negative number of steps, which would give back what was spent.
    """
    from opacus.accountants import RDPAccountant

    for steps in history:
        if not (0 < steps.noise < math.inf and 0 < steps.rate <= 1):
            raise PrivacyError(
                f"differential privacy: expected noise above 0 and a rate of 0 to 1, got "
                f"{steps.noise:g} and {steps.rate:g}; nothing can be claimed of such a step"
            )
        if steps.number < 0:
            raise PrivacyError(
                f"differential privacy: expected a number of steps of 0 or more, got {steps.number}"
            )
    accountant = RDPAccountant()
    accountant.history = [(s.noise, s.rate, s.number) for s in history if s.number]
    with _bounds_are_bounds():
        return float(accountant.get_epsilon(delta=delta))


@functools.cache
def noise_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The noise with which `steps` steps spend at most `epsilon`, and at least 99 % of it.

    Raises `PrivacyError` where no noise is enough.
    """
    from opacus.accountants.utils import get_noise_multiplier

    with _bounds_are_bounds():
        try:
            return float(
                get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant="rdp",
                    epsilon_tolerance=0.01 * epsilon,
                )
            )
        except ValueError:
            raise PrivacyError(
                f"privacy: no noise keeps {steps} steps within an epsilon of {epsilon:g} at delta "
                f"{delta:g}; expected a larger epsilon, or fewer stages"
            ) from None


@contextmanager
def _bounds_are_bounds() -> Iterator[None]:
    """Without Opacus' remark that more orders might give a smaller, equally true epsilon."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        yield
