"""Two ways to learn the same thing: what noise does to an image, and what the network predicts.

At level u in [0, 1] the state is x_u = alpha(u) x + sigma(u) noise: the image at u = 0, noise at
u = 1. Both objectives turn the network's output into an estimate of x, so that one sampler
serves both. A third one paints without noise, for comparison.

`flow` (the default): alpha = 1 - u, sigma = u (rectified flow, Liu et al., arXiv 2209.03003). The
network predicts x; the loss compares velocities, (x_u - x) / u (Li and He, arXiv 2511.13720).

`ddpm` (the reference): the linear schedule of 1000 steps and the prediction of noise (Ho et al.,
arXiv 2006.11239, equation 14), as in Rouzrokh et al., arXiv 2210.12113.

`regression` (for comparison): no noise and no levels. The state is 0 throughout, and the network
predicts x from the surroundings and the request, by plain squared error. There is nothing to
sample: it gives the `mean` only.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ObjectiveName = Literal["flow", "ddpm", "regression"]

LEAST_LEVEL = 0.1
"""Velocities divide by the level: below this one they are cut off, so the network hardly learns
what to do there, and is not asked: the last step of a painting leads from above it to 0."""
PURE_NOISE_SHARE = 0.2
"""Share of a flow's training at level 1, where the estimate is the posterior mean."""
BLANK_SHARE = 0.5
"""Share of these whose noise is 0: from there one step estimates the mean, without luck."""
STEPS = 1000
"""Steps of the DDPM schedule."""


@dataclass(frozen=True)
class Levels:
    """How the levels of a painting are spaced between 1 and `lowest`, after which comes 0. A higher
    `power` takes smaller steps towards the end, where texture is decided."""

    power: float = 1.0
    lowest: float = 0.0

    def pairs(self, steps: int) -> list[tuple[float, float]]:
        """The level before and after each of so many steps, float.

        >>> Levels(power=2, lowest=0.2).pairs(2)
        [(1.0, 0.4), (0.4, 0.0)]
        """
        shares = [(1 - number / steps) ** self.power for number in range(steps)]
        grid = [self.lowest + (1 - self.lowest) * share for share in shares]
        return list(itertools.pairwise([*grid, 0.0]))


@dataclass(frozen=True)
class Objective:
    """`alpha` and `sigma` of a level, float tensors; how levels and noise are drawn for training;
    the estimate of x from the network's output, and the loss per pixel.

    `draw_noise(like, level, gen)` returns noise for a batch; `estimate(output, state, level)` and
    `loss(output, state, level, x, noise)` take tensors (B, 2, H, W) and levels (B, 1, 1, 1).
    `levels` are those of a painting that is not asked for others.
    """

    name: ObjectiveName
    alpha: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]
    draw_levels: Callable[[int, torch.Generator], Tensor]
    draw_noise: Callable[[Tensor, Tensor, torch.Generator], Tensor]
    estimate: Callable[[Tensor, Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    levels: Levels = Levels()

    def corrupt(self, x: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """The state at `level` (B, 1, 1, 1)."""
        return self.alpha(level) * x + self.sigma(level) * noise


def _flow_levels(count: int, gen: torch.Generator) -> Tensor:
    """Logit-normal levels (Esser et al., arXiv 2403.03206), some of them 1."""
    levels = torch.sigmoid(torch.randn(count, generator=gen))
    pure = torch.rand(count, generator=gen) < PURE_NOISE_SHARE
    return torch.where(pure, 1.0, levels)


def _plain_noise(like: Tensor, _: Tensor, gen: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=gen).to(like)


def _flow_noise(like: Tensor, level: Tensor, gen: torch.Generator) -> Tensor:
    """Normal noise; at level 1 some have none at all."""
    blank = torch.rand(len(like), generator=gen) < BLANK_SHARE
    shown = 1 - (blank.to(level).view_as(level) * (level == 1))
    return _plain_noise(like, level, gen) * shown


def _flow_loss(output: Tensor, _: Tensor, level: Tensor, x: Tensor, __: Tensor) -> Tensor:
    return ((output - x) / level.clamp_min(LEAST_LEVEL)).square()


def _betas() -> Tensor:
    return torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)


def _alpha_bar(level: Tensor) -> Tensor:
    """The schedule's cumulative product at step round(level * STEPS); 1 at level 0."""
    bars = torch.cat([torch.ones(1, dtype=torch.float64), (1 - _betas()).cumprod(0)])
    return bars.to(level.device)[(level * STEPS).round().long()]


def _ddpm_alpha(level: Tensor) -> Tensor:
    return _alpha_bar(level).sqrt().to(level.dtype)


def _ddpm_sigma(level: Tensor) -> Tensor:
    return (1 - _alpha_bar(level)).sqrt().to(level.dtype)


def _ddpm_levels(count: int, gen: torch.Generator) -> Tensor:
    return torch.randint(1, STEPS + 1, (count,), generator=gen) / STEPS


def _ddpm_estimate(output: Tensor, state: Tensor, level: Tensor) -> Tensor:
    estimate = (state - _ddpm_sigma(level) * output) / _ddpm_alpha(level).clamp_min(1e-3)
    return estimate.clamp(-1.5, 1.5)  # near pure noise a small error of noise is a large one of x


def _ddpm_loss(output: Tensor, _: Tensor, __: Tensor, ___: Tensor, noise: Tensor) -> Tensor:
    return (output - noise).square()


def _regression_loss(output: Tensor, _: Tensor, __: Tensor, x: Tensor, ___: Tensor) -> Tensor:
    return (output - x).square()


OBJECTIVES: Mapping[ObjectiveName, Objective] = {
    "flow": Objective(
        name="flow",
        alpha=lambda level: 1 - level,
        sigma=lambda level: level,
        draw_levels=_flow_levels,
        draw_noise=_flow_noise,
        estimate=lambda output, _, __: output,
        loss=_flow_loss,
        # benchmarks/painter_settings.py and painter_levels.py
        levels=Levels(power=3.0, lowest=LEAST_LEVEL),
    ),
    "ddpm": Objective(
        name="ddpm",
        alpha=_ddpm_alpha,
        sigma=_ddpm_sigma,
        draw_levels=_ddpm_levels,
        draw_noise=_plain_noise,
        estimate=_ddpm_estimate,
        loss=_ddpm_loss,
    ),
    "regression": Objective(
        name="regression",
        alpha=lambda level: 1 - level,
        sigma=lambda level: level,
        draw_levels=lambda count, _: torch.ones(count),
        draw_noise=lambda like, _, __: torch.zeros_like(like),
        estimate=lambda output, _, __: output,
        loss=_regression_loss,
    ),
}
