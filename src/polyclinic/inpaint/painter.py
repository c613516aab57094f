"""A trained painter: network, objective and what it was trained on, in one file of weights."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyclinic.data.dataset import SPLITS
from polyclinic.errors import RunError
from polyclinic.inpaint.components import TUMOUR_FREE
from polyclinic.inpaint.conditioning import DIFFUSED, Request
from polyclinic.inpaint.network import NetworkConfig, PainterNetwork, build_network
from polyclinic.inpaint.objectives import OBJECTIVES, Levels, Objective
from polyclinic.inpaint.samplers import ddim
from polyclinic.models.device import autocast, device
from polyclinic.models.state import digest_of, load_into, load_state, save_state, state_of
from polyclinic.seeding import generator

WEIGHTS = "painter.safetensors"
"""The file of weights in the directory of a run."""


@dataclass(frozen=True)
class Painter:
    """`digest` is the SHA-256 of its weights; `card` says more about its training, for people."""

    network: PainterNetwork
    objective: Objective
    digest: str
    card: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def estimate(self, state: Tensor, level: float, request: Request, guidance: float) -> Tensor:
        """What the image and the tumour map are, (B, 2, H, W), given the state at `level`.

        `guidance` is the weight of classifier-free guidance: 1 follows the request, more
        exaggerates it at the price of a second evaluation (arXiv 2207.12598, equation 6, with
        w + 1 in the place of w). It is for what is asked to be a tumour: tumour-free tissue is the
        usual case, and exaggerated it looks like none.
        """
        levels = torch.full((len(state),), level, device=state.device)
        asked = self._estimate(state, levels, request)
        tumour = (request.fill_map > TUMOUR_FREE).unsqueeze(1)
        if guidance == 1 or not bool(tumour.any()):
            return asked
        free = self._estimate(state, levels, request.hidden())
        guided = free[:, :1] + guidance * (asked[:, :1] - free[:, :1])
        return torch.cat([torch.where(tumour, guided, asked[:, :1]), asked[:, 1:]], dim=1)

    def sample(
        self, request: Request, noise: Tensor, steps: int, levels: Levels, *, guidance: float = 1.0
    ) -> Tensor:
        """One of the images and tumour maps that fit a request, (B, 2, H, W), begun with `noise`
        of that shape."""
        return ddim(
            lambda state, level: self.estimate(state, level, request, guidance),
            noise,
            self.objective,
            steps,
            levels,
        )

    @torch.no_grad()
    def mean(self, request: Request, steps: int, levels: Levels) -> Tensor:
        """The mean of all images and tumour maps that fit a request, (B, 2, H, W), estimated.

        Two samples of `steps` steps are averaged. They begin with opposite noise (antithetic
        variates, Hammersley and Morton 1956), always the same, and the second is of the mirrored
        request: to first order, noise cancels out. That is nearer to the truth than the estimate at
        level 1, which is the mean by definition, but hard to learn.

        Where noise has no part, both begin with a state of 0: with `regression`, which takes one
        step whatever `steps` says, and in a single step of a `flow`, which was trained on that too.
        """
        count, gen = self.mean_steps(steps), generator("mean")
        noise = torch.randn(len(request.known), DIFFUSED, *request.known.shape[2:], generator=gen)
        if count == 1 and self.objective.name != "ddpm":
            noise = torch.zeros_like(noise)
        noise = noise.to(request.known)
        here = self.sample(request, noise, count, levels)
        mirrored = self.sample(request.mirrored(), -noise.flip(-1), count, levels)
        return (here + mirrored.flip(-1)) / 2

    def mean_steps(self, steps: int) -> int:
        """How many steps each of the two samples of `mean` takes, if asked for `steps`."""
        return 1 if self.objective.name == "regression" else steps

    def _estimate(self, state: Tensor, levels: Tensor, request: Request) -> Tensor:
        with autocast():
            output = self.network(state, levels, request)
        return self.objective.estimate(output.float(), state, levels.view(-1, 1, 1, 1))


def save_painter(painter: Painter, path: Path) -> None:
    """Write the weights, in half precision, and everything that `load_painter` needs."""
    state = {name: value.half() for name, value in state_of(painter.network).items()}
    about = {
        "network": asdict(painter.network.config),
        "objective": painter.objective.name,
        "card": painter.card,
    }
    save_state(state, path, {"painter": json.dumps(about)})


def load_painter(path: Path) -> Painter:
    """The painter in `path`; `RunError` if the file is not one."""
    state = load_state(path)
    try:
        with safe_open(path, "pt") as stored:
            about = json.loads((stored.metadata() or {})["painter"])
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in about["network"].items()
        }
        network = build_network(NetworkConfig(**settings), seed=0)
        load_into(network, {name: value.float() for name, value in state.items()})
        objective = OBJECTIVES[about["objective"]]
        card = about["card"]
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{path}: holds no painter of this version ({' '.join(str(error).split())[:100]}); "
            "expected a file that `polyclinic inpaint train` wrote"
        ) from None
    network.to(device()).eval()
    return Painter(network, objective, digest_of(state), card)


def weights_in(path: Path) -> Path | None:
    """The file of weights at `path`, or in the directory of a finished run there; None without."""
    found = path / WEIGHTS if path.is_dir() else path
    return found if found.is_file() else None


def splits_beside(weights: Path) -> dict[str, list[str]] | None:
    """The cases of each split of a painter's training, from `splits.json` beside its file of
    weights; None without one. `RunError` where that is damaged.

    The weights do not name them: people pass weights on, and a name may say who a patient is.
    """
    path = weights.with_name("splits.json")
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(found[name], list) for name in SPLITS):
            raise ValueError
        return {name: [str(key) for key in found[name]] for name in SPLITS}
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{path}: expected a list of cases for each of {', '.join(SPLITS)}; restore the "
            "file, or train again with another --out"
        ) from None
