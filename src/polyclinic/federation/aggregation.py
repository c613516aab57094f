"""How the server makes one change of the encoder from the sites' changes. Pure functions.

Aggregators share one signature: (changes, weights) -> change. The server optimisers then treat
the aggregated change as a gradient (Reddi et al. 2021, algorithm 2).
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from polyclinic.models.state import State

Aggregator = Callable[[Sequence[State], Sequence[float]], State]


def mean(changes: Sequence[State], weights: Sequence[float]) -> State:
    """Weighted mean (FedAvg, McMahan et al. 2017, algorithm 1)."""
    total = sum(weights)
    return {
        name: torch.stack(
            [c[name] * (w / total) for c, w in zip(changes, weights, strict=True)]
        ).sum(0)
        for name in changes[0]
    }


def trimmed_mean(trim: float) -> Aggregator:
    """Mean of each coordinate without the `trim` share at either end (Yin et al. 2018, def. 2).

    At least one value remains; weights do not matter.
    """

    def aggregate(changes: Sequence[State], weights: Sequence[float]) -> State:  # noqa: ARG001
        cut = min(math.ceil(trim * len(changes)), (len(changes) - 1) // 2)
        return {
            name: torch.stack([c[name] for c in changes])
            .sort(0)
            .values[cut : len(changes) - cut]
            .mean(0)
            for name in changes[0]
        }

    return aggregate


def median(changes: Sequence[State], weights: Sequence[float]) -> State:  # noqa: ARG001
    """Median of each coordinate (Yin et al. 2018, def. 1); weights do not matter."""
    low, high = (len(changes) - 1) // 2, len(changes) // 2
    change = {}
    for name in changes[0]:  # not `quantile`: older versions refuse tensors of a large encoder
        ordered = torch.stack([c[name] for c in changes]).sort(0).values
        change[name] = (ordered[low] + ordered[high]) / 2
    return change


def krum(trim: float) -> Aggregator:
    """The change that lies nearest to its neighbours (Blanchard et al. 2017, section 4).

    With f distrusted sites of n (the `trim` share, rounded up, as far as n >= 2 f + 3 allows), a
    change's score is the sum of its squared distances to the n - f - 2 changes nearest to it, at
    least one; the lowest score is taken, the first of equals. Weights do not matter.
    """

    def aggregate(changes: Sequence[State], weights: Sequence[float]) -> State:  # noqa: ARG001
        n = len(changes)
        distrusted = max(0, min(math.ceil(trim * n), (n - 3) // 2))
        distances = torch.full((n, n), math.inf, dtype=torch.float64)  # nobody is near itself
        for i in range(n):
            for j in range(i):
                distances[i, j] = distances[j, i] = sum(
                    float((value.double() - changes[j][name].double()).square().sum())
                    for name, value in changes[i].items()
                )
        near = distances.sort(1).values[:, : max(1, n - distrusted - 2)]
        return dict(changes[int(near.sum(1).argmin())])

    return aggregate


WEIGHTINGS: dict[str, Callable[[float], float]] = {
    "size": lambda examples: examples,
    "sqrt-size": math.sqrt,
    "equal": lambda _: 1.0,
}
"""Weight of a site from its number of training images."""


def aggregator(name: str, trim: float) -> Aggregator:
    """The aggregator called `name`: mean, trimmed-mean, median or krum."""
    known = {
        "mean": mean,
        "median": median,
        "trimmed-mean": trimmed_mean(trim),
        "krum": krum(trim),
    }
    return known[name]


def add(encoder: Mapping[str, torch.Tensor], change: State) -> State:
    """`encoder` moved by `change`."""
    return {name: value + change[name] for name, value in encoder.items()}


def subtract(trained: Mapping[str, torch.Tensor], received: Mapping[str, torch.Tensor]) -> State:
    """The change that leads from `received` to `trained`."""
    return {name: trained[name] - value for name, value in received.items()}


def server_step(
    kind: str,
    encoder: State,
    change: State,
    memory: State,
    *,
    learning_rate: float,
    momentum: float,
) -> tuple[State, State]:
    """One step of the server's optimiser: (encoder, change, memory) -> (encoder, memory).

    `none` adds the change; `momentum` is SGD with momentum (FedAvgM, Hsu et al. 2019); `adam` is
    FedAdam (Reddi et al. 2021) with beta1 = `momentum`, beta2 = 0.99, tau = 1e-3. `memory` is
    empty at first.
    """
    if kind == "none":
        return add(encoder, change), memory
    first = {
        name: momentum * memory.get(f"first.{name}", torch.zeros_like(value)) + value
        for name, value in change.items()
    }
    kept = {f"first.{name}": value for name, value in first.items()}
    if kind == "momentum":
        step = first
    else:
        step = {}
        for name, value in change.items():
            second = 0.99 * memory.get(f"second.{name}", torch.zeros_like(value))
            second = second + 0.01 * value.square()
            kept[f"second.{name}"] = second
            step[name] = (1 - momentum) * first[name] / (second.sqrt() + 1e-3)
    return {n: v + learning_rate * step[n] for n, v in encoder.items()}, kept
