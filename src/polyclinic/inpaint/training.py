"""Training a painter: one loop for both objectives, resumable at every checkpoint, bit for bit.

Every batch, noise and level follow from the seed and the number of the step, so what a checkpoint
needs is weights, their running average, and the optimiser's moments.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from polyclinic.errors import ConfigError, RunError
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.crops import Batch, Crops, Views
from polyclinic.inpaint.network import SIZES, PainterNetwork, PainterSize, build_network
from polyclinic.inpaint.objectives import OBJECTIVES, Objective, ObjectiveName
from polyclinic.inpaint.regions import Mixture
from polyclinic.models.device import autocast, device
from polyclinic.models.state import State, load_into, load_state, save_state, state_of, under
from polyclinic.seeding import generator

LEARNING_RATES: Mapping[PainterSize, float] = {"small": 5e-4, "large": 2e-4}
MIN_PIXELS = 32
"""A region counts as at least so many pixels: the loss of a few pixels is mostly noise."""


@dataclass(frozen=True)
class PaintPlan:
    """How a painter is trained."""

    size: PainterSize = "small"
    objective: ObjectiveName = "flow"
    steps: int = 12_000
    batch_size: int = 16
    learning_rate: float | None = None  # that of the size in `LEARNING_RATES`
    weight_decay: float = 0.01
    warm_up: int = 200  # steps
    decay_from: float = 0.7  # share of the steps after which the learning rate falls to 0
    average: float = 0.999  # of the weights, an exponential moving one
    tumour_map_weight: float = 0.5  # of the loss, against the image's
    clip: float = 1.0  # norm of the gradient
    seed: int = 0
    views: Views = field(default_factory=Views)
    mixture: Mixture = field(default_factory=Mixture)

    @property
    def peak_rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or LEARNING_RATES[self.size]


class Trainer:
    """The state of a training: network, running average, optimiser, number of steps taken."""

    def __init__(self, cases: list[Case], plan: PaintPlan) -> None:
        self.plan = plan
        self.config = SIZES[plan.size]
        self.objective = OBJECTIVES[plan.objective]
        self.crops = Crops(cases, self.config, plan.seed, plan.views, plan.mixture)
        self.network = build_network(self.config, plan.seed).to(device())
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            plan.peak_rate,
            betas=(0.9, 0.99),
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self.step = 0

    def start_from(self, network: PainterNetwork) -> None:
        """Begin with the weights of a trained network; `ConfigError` if it is of another size."""
        if network.config != self.config:
            raise ConfigError(
                f"the painter to start from is not of the size {self.plan.size}; choose another "
                "--size, or a painter of that size"
            )
        for module in (self.network, self.average):
            load_into(module, state_of(network))

    def run(self, steps: int) -> Iterator[float]:
        """Take `steps` more steps, or as many as are left; yields the loss of each."""
        until = min(self.step + steps, self.plan.steps)
        with ThreadPoolExecutor(1) as ahead:  # the next batch is cut while this one is trained on
            waiting = ahead.submit(self.crops.batch, self.step, self.plan.batch_size)
            while self.step < until:
                batch = waiting.result()
                if self.step + 1 < until:
                    waiting = ahead.submit(self.crops.batch, self.step + 1, self.plan.batch_size)
                yield self._step(batch)

    def _step(self, batch: Batch) -> float:
        plan = self.plan
        for group in self.optimiser.param_groups:
            group["lr"] = plan.peak_rate * rate(self.step, plan)
        gen = generator(plan.seed, "noise", self.step)
        loss = region_loss(
            self.network, self.objective, to_device(batch), gen, plan.tumour_map_weight
        )
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), plan.clip)
        self.optimiser.step()
        keep = min(plan.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - keep
            )
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs; the file is whole or absent."""
        state: State = {"step": torch.tensor(self.step)}
        for part, module in (("network", self.network), ("average", self.average)):
            state |= {f"{part}.{name}": value for name, value in state_of(module).items()}
        moments = self.optimiser.state_dict()["state"]
        for number, values in moments.items():
            state |= {f"moment.{number}.{key}": value.cpu() for key, value in values.items()}
        save_state(state, path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote; `RunError` if it belongs to another plan."""
        state = load_state(path)
        try:
            for part, module in (("network", self.network), ("average", self.average)):
                load_into(module, under(state, part + "."))
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in under(state, "moment.").items():
                number, _, key = name.partition(".")
                moments.setdefault(int(number), {})[key] = value
            if moments:
                groups = self.optimiser.state_dict()["param_groups"]
                self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise RunError(
                f"{path}: belongs to another training ({' '.join(str(error).split())[:80]}); "
                "resume with the settings that it began with, or choose another --out"
            ) from None


def region_loss(
    network: PainterNetwork,
    objective: Objective,
    batch: Batch,
    gen: torch.Generator,
    tumour_map_weight: float,
    levels: Tensor | None = None,
) -> Tensor:
    """The objective's loss over the pixels that are diffused, each crop counting alike."""
    x, request = batch.x, batch.request
    count = len(x)
    level = objective.draw_levels(count, gen) if levels is None else levels
    level = level.to(x.device).view(-1, 1, 1, 1)
    noise = objective.draw_noise(x, level, gen)
    state = objective.corrupt(x, noise, level)
    with autocast():
        output = network(state, level.view(-1), request)
    per_pixel = objective.loss(output.float(), state, level, x, noise)
    weight = request.diffused_mask * x.new_tensor([1.0, tumour_map_weight]).view(1, 2, 1, 1)
    per_crop = (per_pixel * weight).sum((1, 2, 3))
    return (per_crop / request.fill_mask.sum((1, 2, 3)).clamp_min(MIN_PIXELS)).mean()


def rate(step: int, plan: PaintPlan) -> float:
    """Share of the learning rate: warm-up, constant, then a half cosine to 0."""
    warm = min(1.0, (step + 1) / (1 + plan.warm_up))
    start = plan.decay_from * plan.steps
    if step < start:
        return warm
    share = (step - start) / max(1.0, plan.steps - start)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def to_device(batch: Batch) -> Batch:
    """The batch on the device that computes."""
    return Batch(batch.x.to(device()), batch.request.to(device()))
