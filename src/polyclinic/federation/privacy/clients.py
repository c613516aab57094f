"""Differential privacy of whole sites, at the server (McMahan et al. 2018, algorithm 1).

A unit is everything that one site ever sends. The server is trusted with the changes; what the
guarantee is about is the encoder that it makes of them.
"""

from collections.abc import Sequence

import torch

from polyclinic.config import PrivacyConfig
from polyclinic.federation.privacy.account import budget, opened
from polyclinic.federation.privacy.accounting import Steps, noise_for
from polyclinic.federation.privacy.mechanism import clipped_sum, privatised
from polyclinic.models.state import State


def noisy_mean(
    changes: Sequence[State],
    sites: int,
    privacy: PrivacyConfig,
    stages: int,
    memory: State,
    *name: int | str,
) -> tuple[State, State]:
    """The changes, each shortened to `privacy.site_clip`, as a mean with noise: (mean, account).

    All sites have the same weight, 1 / `sites`, where `sites` counts those that were asked: an
    absent one counts as a change of zero. The noise is such that `stages` stages in which every
    site takes part spend `privacy.site_epsilon`; so sampling does not help, and few sites mean
    much noise. `memory` holds the account of the stages before, under names that go into the
    returned one. Raises `PrivacyError` where this stage would exceed the budget.
    """
    account = opened(memory, budget(privacy, of_sites=True), "the server")
    noise = noise_for(privacy.site_epsilon, privacy.delta, 1.0, stages)
    after = account.charged(Steps(noise, 1.0, 1), "the server")
    names = sorted(changes[0])  # not in the order of a checkpoint: noise goes by it
    total = clipped_sum(
        [torch.stack([change[key] for change in changes]) for key in names],
        torch.arange(len(changes)),
        len(changes),
        privacy.site_clip,
    )
    mean = privatised(
        total,
        *name,
        account.steps,
        noise=noise,
        clip=privacy.site_clip,
        expected=float(sites),
        secret=account.secret,
    )
    return dict(zip(names, mean, strict=True)), after.tensors()
