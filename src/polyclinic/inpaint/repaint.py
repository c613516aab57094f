"""RePaint: inpainting by a diffusion model that was not told what surrounds the region.

Lugmayr et al., arXiv 2201.09865, algorithm 1. What differs from painting with the conditional
network:

- There, the surroundings, the fill mask and the request are channels of the input, and one walk
  from noise to image suffices. Here the same weights see a crop that is noise throughout: the fill
  mask covers it all, the known image and the request are empty, the sequence is unknown.
- The surroundings come in from outside the network. At every level the known pixels are replaced
  by the real ones with that level's noise.
- Painted and known pixels then agree only roughly, so the walk goes back up by some steps and down
  again, several times at each place: about `resamplings` times as many evaluations.

The network learned with fill regions that leave surroundings to see; a crop without any is at the
border of what it knows. A comparison says that next to its figures.
"""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from polyclinic.errors import ConfigError
from polyclinic.inpaint.components import TUMOUR_FREE
from polyclinic.inpaint.conditioning import Request
from polyclinic.inpaint.objectives import Objective
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.samplers import Estimate, ancestral_step, coefficients

RESAMPLINGS = 10
"""How often a stretch is walked down: r in the paper."""
JUMP = 10
"""Steps that each walk back goes up: j in the paper."""


def repaint(
    estimate: Estimate,
    noise: Tensor,
    objective: Objective,
    steps: int,
    gen: torch.Generator,
    known: Tensor,
    known_mask: Tensor,
    resamplings: int = RESAMPLINGS,
    jump: int = JUMP,
) -> Tensor:
    """x (B, 2, H, W) from `noise` of that shape; `gen` draws what is added on the way.

    `known` (B, C, H, W) holds the image where `known_mask`, of the same shape, is 1; C is 1 or 2,
    1 standing for both channels. `resamplings` is how often each stretch of `jump` steps is walked
    down. Raises `ConfigError` where one of the numbers is below 1.
    """
    state = noise
    for here, there in itertools.pairwise(walk(steps, resamplings, jump)):
        level, next_level = here / steps, there / steps
        if there > here:
            state = _renoise(objective, state, level, next_level, gen)
        else:
            x = estimate(state, level)
            state = ancestral_step(objective, state, x, level, next_level, gen)
            alpha, sigma = coefficients(objective, next_level, state)
            seen = alpha * known + sigma * torch.randn(state.shape, generator=gen).to(state)
            state = torch.where(known_mask > 0, seen, state)
    return state


def walk(steps: int, resamplings: int, jump: int) -> list[int]:
    """The steps that are visited, from `steps` (noise) to 0 (the image).

    At every multiple of `jump` it goes back up, `resamplings` - 1 times; a `jump` of 1 gives
    algorithm 1. Raises `ConfigError` where one of the numbers is below 1.
    """
    for name, number in (("steps", steps), ("resamplings", resamplings), ("jump", jump)):
        if number < 1:
            raise ConfigError(f"{name}: expected 1 or more, got {number}")
    left = dict.fromkeys(range(jump, steps - jump + 1, jump), resamplings - 1)
    places = [steps]
    while places[-1] > 0:
        here = places[-1]
        if left.get(here, 0):
            left[here] -= 1
            places.append(here + jump)
        else:
            places.append(here - 1)
    return places


def repaint_calls(steps: int, resamplings: int = RESAMPLINGS, jump: int = JUMP) -> int:
    """How often the network is asked (NFE)."""
    places = walk(steps, resamplings, jump)
    return sum(there < here for here, there in itertools.pairwise(places))


def unconditional(request: Request) -> Request:
    """A request for the same crops that tells nothing: neither surroundings nor what to paint."""
    return replace(
        request,
        known=torch.zeros_like(request.known),
        fill_map=torch.full_like(request.fill_map, TUMOUR_FREE),
        boxed=torch.zeros_like(request.boxed),
        beside=torch.zeros_like(request.beside),
        has_beside=torch.zeros_like(request.has_beside),
        other=torch.zeros_like(request.other),
        has_other=torch.zeros_like(request.has_other),
    ).hidden()


def repaint_request(
    painter: Painter,
    request: Request,
    noise: Tensor,
    steps: int,
    gen: torch.Generator,
    resamplings: int = RESAMPLINGS,
    jump: int = JUMP,
) -> Tensor:
    """The crops of `request` with tumour-free tissue in its fill regions, (B, 2, H, W).

    The tumour map is -1 throughout: RePaint cannot be asked for components. Raises `ConfigError`
    for a painter that does not predict noise.
    """
    if painter.objective.name != "ddpm":
        raise ConfigError(
            "repaint: expected a painter trained with the objective `ddpm`, got one trained with "
            f"`{painter.objective.name}`"
        )
    nothing = unconditional(request)
    x = repaint(
        lambda state, level: painter.estimate(state, level, nothing, guidance=1.0),
        noise,
        painter.objective,
        steps,
        gen,
        known=request.known,
        known_mask=1 - request.fill_mask,
        resamplings=resamplings,
        jump=jump,
    )
    return torch.cat([x[:, :1], torch.full_like(x[:, 1:], -1.0)], dim=1)


def _renoise(
    objective: Objective, state: Tensor, level: float, higher: float, gen: torch.Generator
) -> Tensor:
    """A state at `higher`, drawn given the state at `level`: the noise that lies between."""
    alpha, sigma = coefficients(objective, level, state)
    alpha_higher, sigma_higher = coefficients(objective, higher, state)
    kept = alpha_higher / alpha
    added = (sigma_higher**2 - (kept * sigma) ** 2).clamp_min(0).sqrt()
    return kept * state + added * torch.randn(state.shape, generator=gen).to(state)
