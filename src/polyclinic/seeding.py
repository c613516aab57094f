"""Seeds that depend on what is computed, not on what was computed before.

Every unit of work (a site's training in a stage, an epoch of pre-training, an evaluation) derives
its own seed from its name. So a run that was killed and resumed draws the same numbers as one
that was not, and sites may train in any order or in parallel processes.
"""

import hashlib

import torch


def derive(*parts: int | str) -> int:
    """A 63-bit seed from `parts`, e.g. `derive(seed, "universal", stage, "blood")`."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive(*parts)`."""
    return torch.Generator().manual_seed(derive(*parts))
