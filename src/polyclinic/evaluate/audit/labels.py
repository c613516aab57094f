"""Label inference: which classes are in a batch, from the update that it made.

Two attackers. One sees the gradient of the last layer's bias, which is the mean of what was
predicted minus what was true. The other sees the encoder's change alone, simulates updates of
batches whose labels it knows, and learns to read them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_RIDGE = 1e-3  # of the mean squared length of an update
_SUM = 10.0  # weight of the rule that shares add up to 1


def label_of_one(bias_gradient: Tensor) -> int:
    """The class of the one image in a batch, from the gradient (K,) of cross-entropy by the bias.

    Zhao, Mopuri, Bilen 2020, "iDLG", section 3: probability minus truth is negative for the true
    class alone. An optimiser that keeps the gradient's sign changes nothing.
    """
    return int(bias_gradient.argmin())


def counts_from_head(bias_gradient: Tensor, predicted: Tensor, batch: int) -> Tensor:
    """How many images of each class were in a batch, (K,), from the gradient (K,) by the bias.

    The gradient is the mean prediction minus the share of each class. The attacker knows the model
    but not the images; `predicted` (K, K) is its mean prediction for other images of each class, a
    row a class, so a mean prediction follows from the shares. Solved for shares that are not
    negative and add up to 1, by least squares. Wainakh et al. 2022, "User-Level Label Leakage from
    Gradients in Federated Learning", start from the same sum.
    """
    from scipy.optimize import nnls

    classes = len(bias_gradient)
    system = torch.cat(
        [
            predicted.double().T - torch.eye(classes, dtype=torch.float64),
            _SUM * torch.ones(1, classes),
        ]
    )
    right = torch.cat([bias_gradient.double(), torch.tensor([_SUM])])
    shares, _ = nnls(system.numpy(), right.numpy())
    return whole_counts(torch.from_numpy(shares), batch)


def counts_from_updates(update: Tensor, simulated: Tensor, counts: Tensor, batch: int) -> Tensor:
    """How many images of each class were in a batch, (K,), from an update (P,) of any kind.

    `simulated` (S, P) are the attacker's own updates, of batches with `counts` (S, K). Ridge
    regression from updates to counts, in its dual form: P is far larger than S.
    """
    centre, middle = simulated.mean(0), counts.float().mean(0)
    rows = (simulated - centre).double()
    gram = rows @ rows.T
    ridge = _RIDGE * float(gram.diagonal().mean()) + 1e-30
    weights = torch.linalg.solve(
        gram + ridge * torch.eye(len(gram), dtype=gram.dtype), (counts - middle).double()
    )
    found = (rows @ (update - centre).double()) @ weights + middle
    return whole_counts(found, batch)


def whole_counts(shares: Tensor, batch: int) -> Tensor:
    """Whole numbers that add up to `batch`, (K,), in proportion to `shares`, negative ones as 0.

    Largest remainders; equal shares where none is above 0.

    >>> whole_counts(torch.tensor([0.5, 0.3, -0.1]), 4).tolist()
    [2, 2, 0]
    """
    positive = shares.double().clamp_min(0)
    if not bool(positive.sum() > 0):
        positive = torch.ones_like(positive)
    exact = positive / positive.sum() * batch
    counts = exact.floor().long()
    left = batch - int(counts.sum())
    order = (exact - counts).argsort(descending=True, stable=True)
    counts[order[:left]] += 1
    return counts


def overlap(counts: Tensor, truth: Tensor) -> float:
    """Share of a batch whose labels are accounted for: the sum of the smaller counts, 0..1."""
    return float(torch.minimum(counts, truth).sum()) / max(1, int(truth.sum()))


def mean_interval(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of independent repetitions, and the 95 % percentile interval of a bootstrap of them."""
    found = torch.tensor(list(values), dtype=torch.float64)
    if len(found) == 0:
        return math.nan, math.nan, math.nan
    gen = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(found), (resamples, len(found)), generator=gen)
    means = found[drawn].mean(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(found.mean()), low, high
