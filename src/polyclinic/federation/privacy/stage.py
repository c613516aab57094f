"""A site's stage under differential privacy: the only path from its images to what leaves.

Of the encoder's change, all is computed from noisy sums. Of the scalars that the schema has, none
is told: the loss and the validation scores come from images without noise. Images without noise
are also in the usual head, so a private one, trained in the same steps, takes its place.
"""

from collections.abc import Mapping

from torch import Tensor

from polyclinic.data.dataset import SiteData
from polyclinic.errors import PrivacyError
from polyclinic.federation.aggregation import subtract
from polyclinic.federation.knowledge import Knowledge, encode
from polyclinic.federation.ledger import digest
from polyclinic.federation.privacy.account import budget, opened, without_account
from polyclinic.federation.privacy.accounting import Steps, noise_for
from polyclinic.federation.privacy.head import private_head
from polyclinic.federation.privacy.sgd import sampling_of, train_privately
from polyclinic.federation.privacy.units import Units, units_of
from polyclinic.models.device import device
from polyclinic.models.encoder import Preset
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, load_into, state_of
from polyclinic.models.training import TrainPlan

UNTOLD: Mapping[str, float] = {
    "examples": 1.0,
    "loss": float("nan"),
    "received_score": float("nan"),
    "trained_score": float("nan"),
}
"""What a site tells in numbers under differential privacy: nothing."""


def private_stage(
    site: SiteData,
    preset: Preset,
    received: State,
    kept: Mapping[str, Tensor] | None,
    plan: TrainPlan,
    *seed: int | str,
) -> tuple[Knowledge, State]:
    """Train the received encoder for one stage: (what may leave, what stays at the site).

    What stays is the head and the site's account. Sampling and noise come from the account's
    secret, the seed, what was received and what was spent before: the same again for the same
    stage, and never the same for another. Raises `PrivacyError` before anything is computed from
    an image: where the budget would be exceeded, or the guarantee cannot be given at this site.
    """
    privacy, who = plan.privacy, f"site '{site.name}'"
    units = units_of(site, privacy.unit)
    require_guarantee(site, units, plan)
    before = opened(kept or {}, budget(privacy), who)
    sampling = sampling_of(site, plan, units)
    noise = privacy.noise or noise_for(
        privacy.epsilon, privacy.delta, sampling.rate, sampling.steps * plan.stages
    )
    account = before.charged(Steps(noise, sampling.rate, sampling.steps), who)
    encoder = encoder_with(preset, received)
    head = private_head(site.task, len(site.classes), encoder.config).to(device())
    if own := without_account(kept or {}):
        load_into(head, own)
    name = (*seed, digest(encode(received)), repr(plan), before.steps)
    train_privately(encoder, head, site, plan, sampling, noise, before.secret, *name)
    change = subtract(state_of(encoder), received)
    return Knowledge(change, UNTOLD), {**state_of(head), **account.tensors()}


def require_guarantee(site: SiteData, units: Units, plan: TrainPlan) -> None:
    """`PrivacyError` where the guarantee cannot be given at this site, whatever the noise."""
    if site.task == "regression":
        raise PrivacyError(
            f"site '{site.name}': regression scales its targets by the mean and spread of all of "
            "them, which differential privacy does not cover; expected classes or masks, or "
            "privacy.epsilon = 0"
        )
    if plan.privacy.delta * len(units) >= 1:
        raise PrivacyError(
            f"site '{site.name}': privacy.delta is {plan.privacy.delta:g}, and it has {len(units)} "
            f"units; expected less than {1 / len(units):.1g}, or one of them might go unprotected"
        )
