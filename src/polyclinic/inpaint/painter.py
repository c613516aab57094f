"""A trained painter: network, objective and what it was trained on, in one file of weights."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyclinic.data.dataset import SPLITS
from polyclinic.errors import ConfigError, RunError
from polyclinic.inpaint.conditioning import DIFFUSED, Request
from polyclinic.inpaint.network import NetworkConfig, PainterNetwork, build_network
from polyclinic.inpaint.objectives import OBJECTIVES, Objective
from polyclinic.models.device import autocast, device
from polyclinic.models.state import State, load_into, load_state, save_state, state_of

MEAN_CALLS = 2
"""How often `Painter.mean` asks the network: for the request, and for its mirror image."""


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
        w + 1 in the place of w).
        """
        levels = torch.full((len(state),), level, device=state.device)
        asked = self._estimate(state, levels, request)
        if guidance == 1:
            return asked
        free = self._estimate(state, levels, request.hidden())
        guided = free[:, :1] + guidance * (asked[:, :1] - free[:, :1])
        return torch.cat([guided, asked[:, 1:]], dim=1)

    @torch.no_grad()
    def mean(self, request: Request) -> Tensor:
        """The mean of all images and tumour maps that fit a request, (B, 2, H, W).

        At level 1 the state says nothing about the image, so that the least-squares estimate is
        their mean; it is taken from a state of 0, and averaged with that of the mirrored request.
        A network that predicts noise cannot give it: `ConfigError`.
        """
        if self.objective.name == "ddpm":
            raise ConfigError(
                "mode: `mean` needs a painter trained with the objective `flow` or `regression`"
            )
        nothing = torch.zeros_like(request.known).repeat(1, DIFFUSED, 1, 1)
        here = self.estimate(nothing, 1.0, request, guidance=1.0)
        mirrored = self.estimate(nothing, 1.0, request.mirrored(), guidance=1.0)
        return (here + mirrored.flip(-1)) / 2

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
    return Painter(network, objective, _digest(state), card)


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


def _digest(state: State) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
