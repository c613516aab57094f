"""From noise to an image: DDIM, with which painters sample, and the step that RePaint is made of.

`estimate(state, level)` returns the network's estimate of x from a state (B, 2, H, W); `level` is
a float.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from polyclinic.inpaint.objectives import Levels, Objective

Estimate = Callable[[Tensor, float], Tensor]


def ddim(
    estimate: Estimate, noise: Tensor, objective: Objective, steps: int, levels: Levels
) -> Tensor:
    """x (B, 2, H, W) by DDIM without added noise (Song et al., arXiv 2010.02502, equation 12).

    It begins with pure `noise` of that shape, and asks for as many estimates as there are steps.
    For a flow it is Euler's method along the straight path.
    """
    state = noise
    for level, lower in levels.pairs(steps):
        state = _step(objective, state, estimate(state, level), level, lower)
    return state


def coefficients(objective: Objective, level: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at `level`, of the type and on the device of `like`."""
    at = torch.tensor(level, dtype=like.dtype, device=like.device)
    return objective.alpha(at), objective.sigma(at)


def _step(objective: Objective, state: Tensor, x: Tensor, level: float, lower: float) -> Tensor:
    alpha, sigma = coefficients(objective, level, state)
    alpha_lower, sigma_lower = coefficients(objective, lower, state)
    left = torch.where(sigma > 0, sigma_lower / sigma, 0.0)  # a schedule's levels are rounded: to 0
    return alpha_lower * x + left * (state - alpha * x)


def ancestral_step(
    objective: Objective,
    state: Tensor,
    x: Tensor,
    level: float,
    lower: float,
    gen: torch.Generator,
) -> Tensor:
    """A draw at the level `lower` from the state at `level` and the estimate x.

    DDPM's own sampler, also for steps that leave some levels out: DDIM with eta = 1 (arXiv
    2010.02502, equation 16), and for any path Kingma et al., arXiv 2107.00630, equation 4 of
    appendix A.4.
    """
    alpha, sigma = coefficients(objective, level, state)
    alpha_lower, sigma_lower = coefficients(objective, lower, state)
    added = sigma**2 - (alpha / alpha_lower * sigma_lower) ** 2  # from the lower level to this one
    fresh = sigma_lower / sigma * added.clamp_min(0).sqrt()
    kept = (sigma_lower**2 - fresh**2).clamp_min(0).sqrt()
    noise = torch.randn(state.shape, generator=gen).to(state)
    return alpha_lower * x + kept / sigma * (state - alpha * x) + fresh * noise
