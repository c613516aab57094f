"""Which canaries are in an update: the scores from which epsilon is bounded from below."""

import torch
from torch import Tensor

from polyclinic.errors import PrivacyError

_RIDGE = 1e-3


def inclusion_scores(update: Tensor, canaries: Tensor) -> Tensor:
    """How much of each canary is in an update, (m,): higher where it is more likely in.

    `update` (P,) points the way the weights would go, `canaries` (m, P) where each canary would
    push them. Least squares with a small ridge, so that what canaries have in common is not counted
    for each of them; in its dual form, as P is far larger than m.
    """
    if not bool(update.isfinite().all()):
        raise PrivacyError("canaries: the update holds NaN or infinity; nothing can be read of it")
    rows = canaries.double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    gram = rows @ rows.T
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    scores: Tensor = torch.linalg.solve(gram + _RIDGE * eye, rows @ update.double())
    return scores
