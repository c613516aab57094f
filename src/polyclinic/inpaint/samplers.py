"""From noise to an image: samplers with one signature.

Each takes `estimate(state, level)`, which returns the network's estimate of x, pure noise
(B, 2, H, W), an objective, the number of steps, and a generator for those that add noise; it
returns x. `level` is a float; a sampler calls `estimate` as often as `CALLS` says.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from polyclinic.errors import ConfigError
from polyclinic.inpaint.objectives import Objective

Estimate = Callable[[Tensor, float], Tensor]


class Sampler(Protocol):
    """The signature that all samplers share."""

    def __call__(
        self,
        estimate: Estimate,
        noise: Tensor,
        objective: Objective,
        steps: int,
        gen: torch.Generator,
    ) -> Tensor:
        """x (B, 2, H, W)."""
        ...


def ddim(
    estimate: Estimate, noise: Tensor, objective: Objective, steps: int, gen: torch.Generator
) -> Tensor:
    """DDIM without added noise (Song et al., arXiv 2010.02502, equation 12).

    For a flow it is Euler's method along the straight path.
    """
    del gen
    state = noise
    for level, lower in _levels(objective, steps):
        state = _step(objective, state, estimate(state, level), level, lower)
    return state


def heun(
    estimate: Estimate, noise: Tensor, objective: Objective, steps: int, gen: torch.Generator
) -> Tensor:
    """Heun's second-order method (Karras et al., arXiv 2206.00364, algorithm 1), for flows.

    The last step is Euler's, because the path ends there: 2 * steps - 1 estimates. Raises
    `ConfigError` for an objective whose path is not straight.
    """
    del gen
    if objective.name != "flow":
        raise ConfigError(f"sampler: heun needs a painter trained as a flow, not {objective.name}")
    state = noise
    for level, lower in _levels(objective, steps):
        first = estimate(state, level)
        reached = _step(objective, state, first, level, lower)
        if lower > 0:
            here = (state - first) / level
            there = (reached - estimate(reached, lower)) / lower
            reached = state + (lower - level) * (here + there) / 2
        state = reached
    return state


def ancestral(
    estimate: Estimate, noise: Tensor, objective: Objective, steps: int, gen: torch.Generator
) -> Tensor:
    """Draw from the posterior of each lower level, DDPM's own sampler on a subset of its steps.

    Kingma et al., arXiv 2107.00630, equation 4 of appendix A.4, which holds for flows too; for a
    `ddpm` it is DDIM with eta = 1 (arXiv 2010.02502, equation 16).
    """
    state = noise
    for level, lower in _levels(objective, steps):
        state = ancestral_step(objective, state, estimate(state, level), level, lower, gen)
    return state


SAMPLERS: Mapping[str, Sampler] = {"ddim": ddim, "heun": heun, "ancestral": ancestral}


def calls(sampler: str, steps: int) -> int:
    """How often a sampler asks the network: its number of function evaluations (NFE)."""
    return 2 * steps - 1 if sampler == "heun" else steps


def _levels(objective: Objective, steps: int) -> list[tuple[float, float]]:
    """Pairs of levels from 1 to 0."""
    grid = [(1 - number / steps) ** objective.power for number in range(steps)] + [0.0]
    return list(itertools.pairwise(grid))


def coefficients(objective: Objective, level: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at `level`, of the type and on the device of `like`."""
    at = torch.tensor(level, dtype=like.dtype, device=like.device)
    return objective.alpha(at), objective.sigma(at)


def _step(objective: Objective, state: Tensor, x: Tensor, level: float, lower: float) -> Tensor:
    alpha, sigma = coefficients(objective, level, state)
    alpha_lower, sigma_lower = coefficients(objective, lower, state)
    return alpha_lower * x + sigma_lower / sigma * (state - alpha * x)


def ancestral_step(
    objective: Objective,
    state: Tensor,
    x: Tensor,
    level: float,
    lower: float,
    gen: torch.Generator,
) -> Tensor:
    """A draw at the level `lower` from the state at `level` and the estimate x."""
    alpha, sigma = coefficients(objective, level, state)
    alpha_lower, sigma_lower = coefficients(objective, lower, state)
    added = sigma**2 - (alpha / alpha_lower * sigma_lower) ** 2  # from the lower level to this one
    fresh = sigma_lower / sigma * added.clamp_min(0).sqrt()
    kept = (sigma_lower**2 - fresh**2).clamp_min(0).sqrt()
    noise = torch.randn(state.shape, generator=gen).to(state)
    return alpha_lower * x + kept / sigma * (state - alpha * x) + fresh * noise
