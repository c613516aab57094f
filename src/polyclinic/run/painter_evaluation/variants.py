"""The ways of painting that are compared: each a name and a function from an edit to its result."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.errors import ConfigError
from polyclinic.inpaint.baselines import BASELINES, Infill
from polyclinic.inpaint.conditioning import Request
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Settings, paint_sequences
from polyclinic.inpaint.regions import Region
from polyclinic.inpaint.repaint import JUMP, RESAMPLINGS, repaint_calls, repaint_request
from polyclinic.run.painter_evaluation.plan import PlannedEdit
from polyclinic.seeding import generator

Volumes = Mapping[int, NDArray[np.float32]]
"""Slices (Z, H, W) of each sequence, scaled intensities."""


@dataclass(frozen=True)
class PaintedEdit:
    """`volumes` with the regions painted; `realised` int8 (Z, H, W) as in `painting.Painted`; and
    how often the network was asked for all of it."""

    volumes: dict[int, NDArray[np.float32]]
    realised: NDArray[np.int8]
    calls: int = 0


class Paint(Protocol):
    """The signature that all ways of painting share."""

    def __call__(
        self, volumes: Volumes, regions: list[Region], head_px: float, seed: int
    ) -> PaintedEdit:
        """Sequences of a case, with `regions`, one a slice; see `painting.paint_sequences`."""
        ...


@dataclass(frozen=True)
class Variant:
    """`calls` of the network a slice and sequence, of what takes most: a tumour, not in a box.
    `about` is what decides its results. `tumours`: components can be asked for; `varies`: another
    seed gives another image; `repeats`: edits that ask for several seeds get them, else one;
    `limit`: only the first so many of the edits that it can paint."""

    name: str
    paint: Paint
    calls: int
    about: Mapping[str, Any] = field(default_factory=dict)
    tumours: bool = True
    varies: bool = True
    repeats: bool = True
    limit: int | None = None

    def chooses(self, edits: Sequence[PlannedEdit]) -> list[PlannedEdit]:
        """The edits that it paints."""
        possible = [edit for edit in edits if self.tumours or edit.kind != "tumour"]
        return possible[: self.limit]


def diffusion(
    name: str,
    painter: Painter,
    settings: Settings,
    *,
    repeats: bool = True,
    limit: int | None = None,
) -> Variant:
    """A painter as `settings` say; the seed comes from each edit."""

    def painted(volumes: Volumes, regions: list[Region], head_px: float, seed: int) -> PaintedEdit:
        mine = replace(settings, seed=seed)
        with _counted(painter.network) as asked:
            found, realised = paint_sequences(painter, volumes, regions, head_px, mine)
        return PaintedEdit(found, realised, len(asked))

    varies = settings.mode == "sample"
    guided = varies and settings.guidance != 1
    once = settings.steps if varies else painter.mean_steps(settings.steps)
    about = {
        "painter": painter.digest,
        "objective": painter.objective.name,
        "settings": asdict(settings.said_for(painter.objective)),
    }
    evaluations = 2 * once if guided or not varies else once
    return Variant(name, painted, evaluations, about, varies=varies, repeats=repeats, limit=limit)


@contextmanager
def _counted(network: nn.Module) -> Iterator[list[int]]:
    """A list that grows by one whenever the network is asked in the block."""
    asked: list[int] = []
    hook = network.register_forward_hook(lambda *_: asked.append(1))
    try:
        yield asked
    finally:
        hook.remove()


def regressor(name: str, painter: Painter) -> Variant:
    """The same network trained by plain squared error: it paints without steps, one image only.

    Raises `ConfigError` for a painter that diffuses.
    """
    if painter.objective.name != "regression":
        raise ConfigError(
            f"{name}: expected a painter trained with the objective `regression`, got one trained "
            f"with `{painter.objective.name}`"
        )
    return diffusion(name, painter, Settings(mode="mean"))


def repainted(
    name: str,
    painter: Painter,
    steps: int,
    resamplings: int = RESAMPLINGS,
    jump: int = JUMP,
    limit: int | None = None,
) -> Variant:
    """RePaint, as published, so without feather and grain: with a `ddpm` painter that is told
    nothing of the surroundings; tumour-free only."""
    if painter.objective.name != "ddpm":
        raise ConfigError(
            f"{name}: expected a painter trained with the objective `ddpm`, got one trained with "
            f"`{painter.objective.name}`"
        )

    def painted(volumes: Volumes, regions: list[Region], head_px: float, seed: int) -> PaintedEdit:
        walker = _Walker(
            painter.network,
            painter.objective,
            painter.digest,
            walk=(steps, resamplings, jump),
            seed=seed,
        )
        plain = Settings(steps=1, seed=seed, feather=False, grain=False)
        with _counted(painter.network) as asked:
            found, realised = paint_sequences(walker, volumes, regions, head_px, plain)
        return PaintedEdit(found, realised, len(asked))

    about = {"painter": painter.digest, "walk": [steps, resamplings, jump]}
    evaluations = repaint_calls(steps, resamplings, jump)
    return Variant(name, painted, evaluations, about, tumours=False, repeats=False, limit=limit)


def baseline(name: str, infill: Infill) -> Variant:
    """A way to fill in that needs no training; tumour-free only."""

    def painted(volumes: Volumes, regions: list[Region], head_px: float, seed: int) -> PaintedEdit:
        del head_px, seed
        fill_maps = np.stack([region.fill_map for region in regions])
        found = {number: infill(slices, fill_maps >= 0) for number, slices in volumes.items()}
        return PaintedEdit(found, fill_maps)

    return Variant(name, painted, calls=0, tumours=False, varies=False)


def baselines() -> list[Variant]:
    """All of `BASELINES`."""
    return [baseline(name, infill) for name, infill in BASELINES.items()]


def variants_of(painter: Painter, steps: int) -> list[Variant]:
    """What a painter can do in so many steps, the first one being what it does by default."""
    name = painter.objective.name
    if name == "regression":
        return [regressor("regression", painter)]
    return [
        diffusion(f"{name}, {steps} steps", painter, Settings(steps=steps)),
        diffusion(f"{name}, mean", painter, Settings(steps=steps, mode="mean")),
    ]


@dataclass(frozen=True)
class _Walker(Painter):
    """A painter whose one estimate, from noise, is the end of RePaint's whole walk: so RePaint
    works on the same crops as every other variant."""

    walk: tuple[int, int, int] = (250, RESAMPLINGS, JUMP)
    seed: int = 0

    def estimate(self, state: Tensor, level: float, request: Request, guidance: float) -> Tensor:
        """The image that the walk ends with, whatever the level and the guidance."""
        del level, guidance
        steps, resamplings, jump = self.walk
        plain = Painter(self.network, self.objective, self.digest)
        gen = generator(self.seed, "repaint")
        return repaint_request(plain, request, state, steps, gen, resamplings, jump)
