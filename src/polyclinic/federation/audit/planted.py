"""Canaries in DP-SGD: planted by coin flips, sent through the mechanism or through a whole stage.

What is claimed of the mechanism can be broken on purpose, as mistakes would: `noise` and `clip` are
those that are claimed, and `Flaw` says what is done instead. An audit must catch it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from polyclinic.config import PrivacyConfig
from polyclinic.data.dataset import IGNORE, SiteData
from polyclinic.evaluate.audit.canaries import inclusion_scores
from polyclinic.federation.audit.stages import private_stage_of
from polyclinic.federation.privacy.accounting import Steps, epsilon_of
from polyclinic.federation.privacy.head import neutral_weights, private_head
from polyclinic.federation.privacy.mechanism import ImageGradients, Joined, clipped_sum, privatised
from polyclinic.federation.privacy.sgd import Sampling, sampling_of
from polyclinic.federation.privacy.units import units_of
from polyclinic.models.device import device
from polyclinic.models.encoder import Preset
from polyclinic.models.heads import LOSSES
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, load_into
from polyclinic.models.training import TrainPlan
from polyclinic.seeding import derive

_AT_ONCE = 256
_LONG = 1000.0  # gradients of canaries, in clips
_NEXT_TO_NOTHING = 1e-9  # the mechanism refuses noise of 0


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a mechanism: nothing, no noise, or no clipping."""

    noise: bool = True
    clipping: bool = True


SOUND = Flaw()
FLAWS = {"no noise": Flaw(noise=False), "no clipping": Flaw(clipping=False)}


@dataclass(frozen=True)
class Planted:
    """Scores of canaries (m,), which of them were in, and the epsilon that is claimed."""

    scores: NDArray[np.float64]
    included: NDArray[np.bool_]
    claimed: float
    delta: float


def mechanism_canaries(
    privacy: PrivacyConfig, noise: float, canaries: int, *seed: int | str, flaw: Flaw = SOUND
) -> Planted:
    """One step of the mechanism in which every unit takes part, on canaries of a number each.

    Canary i asks for one number of the sum, far more of it than the clip allows (Dirac canaries,
    Nasr et al. 2023, "Tight Auditing of Differentially Private Machine Learning"). `noise` is in
    clips. No step could tell more, so this is the sharpest audit of noise and clipping themselves.
    """
    included = _coins(canaries, *seed)
    done_noise, done_clip = _done(noise, privacy.clip, flaw)
    total = torch.zeros(canaries)
    for start in range(0, canaries, _AT_ONCE):
        numbers = [i for i in range(start, min(start + _AT_ONCE, canaries)) if included[i]]
        gradients = torch.zeros(len(numbers), canaries)
        gradients[torch.arange(len(numbers)), numbers] = _LONG * privacy.clip
        unit = torch.arange(len(numbers))
        (clipped,) = clipped_sum([gradients], unit, len(numbers), done_clip)
        total += clipped
    secret = derive("mechanism canaries", *seed).to_bytes(8, "big") * 4
    (released,) = privatised(
        [total], *seed, noise=done_noise, clip=done_clip, expected=canaries / 2, secret=secret
    )
    claimed = epsilon_of((Steps(noise, 1.0, 1),), privacy.delta)
    return Planted(released.double().numpy(), included, claimed, privacy.delta)


def stage_canaries(
    site: SiteData,
    preset: Preset,
    received: State,
    plan: TrainPlan,
    noise: float,
    canaries: int,
    *seed: int | str,
    flaw: Flaw = SOUND,
) -> Planted:
    """A whole stage of DP-SGD at a site, `canaries` of whose training images are noise.

    Their labels are random. What is seen is the encoder's change; the attacker is told the canaries
    and the head that the site has afterwards. Claimed is what the accountant says of this stage.
    """
    marked, rows = _with_canaries(site, canaries, *seed)
    included = _coins(canaries, *seed)
    keep = np.concatenate([site.split["train"][canaries:], rows[included]])
    part = replace(marked, split={**site.split, "train": np.sort(keep)})
    privacy = plan.privacy
    done_noise, done_clip = _done(noise, privacy.clip, flaw)
    done = replace(plan, privacy=replace(privacy, unit="record", clip=done_clip))
    sampling = sampling_of(marked, done, units_of(marked, "record"))
    # the rate must not tell how many canaries are in
    sampling = Sampling(units_of(part, "record"), sampling.rate, sampling.steps)
    stage = private_stage_of(part, preset, received, done, sampling, done_noise, *seed)
    gradients = _gradients(marked, preset, received, stage.head, rows)
    names = [name for name, _ in encoder_with(preset, received).named_parameters()]
    update = -torch.cat([stage.change[name].flatten() for name in names])
    scores = inclusion_scores(update, gradients).numpy()
    claimed = epsilon_of((Steps(noise, sampling.rate, sampling.steps),), privacy.delta)
    return Planted(scores, included, claimed, privacy.delta)


def _coins(canaries: int, *seed: int | str) -> NDArray[np.bool_]:
    return np.random.default_rng(derive("coins", *seed)).random(canaries) < 0.5


def _done(noise: float, clip: float, flaw: Flaw) -> tuple[float, float]:
    """Noise in clips and clip as they are applied, where noise and clip are claimed.

    Without clipping, the noise stays as wide as it was.
    """
    if not flaw.noise:
        return _NEXT_TO_NOTHING, clip
    if not flaw.clipping:
        return noise / (2 * _LONG), clip * 2 * _LONG
    return noise, clip


def _with_canaries(
    site: SiteData, canaries: int, *seed: int | str
) -> tuple[SiteData, NDArray[np.int64]]:
    """The site with noise as its first training images, their labels drawn, and their rows."""
    rng = np.random.default_rng(derive("canaries", *seed))
    rows = site.split["train"][:canaries]
    images, targets = np.array(site.images), np.array(site.targets)
    shape = images[rows].shape
    coarse = rng.integers(0, 256, (*shape[:2], shape[2] // 4 + 1, shape[3] // 4 + 1), np.uint8)
    images[rows] = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, : shape[2], : shape[3]]
    if site.task == "segmentation":
        drawn = rng.integers(0, len(site.classes), targets[rows].shape)
        targets[rows] = np.where(targets[rows] == IGNORE, IGNORE, drawn)
    else:
        targets[rows] = rng.permutation(targets[rows])
    return replace(site, images=images, targets=targets), rows


def _gradients(
    site: SiteData, preset: Preset, received: State, head_state: State, rows: NDArray[np.int64]
) -> torch.Tensor:
    """Where each canary would push the encoder's weights, (m, P)."""
    encoder = encoder_with(preset, received)
    head = private_head(site.task, len(site.classes), encoder.config).to(device())
    load_into(head, head_state)
    joined = Joined(encoder, head)
    weights = neutral_weights(len(site.classes)).to(device())
    number = len(list(encoder.parameters()))
    found = []
    with ImageGradients(joined) as gradients:
        for part in torch.from_numpy(rows).split(16):
            images = (torch.from_numpy(site.images[part.numpy()]).float() / 255).to(device())
            targets = torch.from_numpy(site.targets[part.numpy()]).to(device())
            outputs, _ = joined(images.requires_grad_())
            pairs = zip(outputs.split(1), targets.split(1), strict=True)
            losses = torch.stack([LOSSES[site.task](o, t, weights) for o, t in pairs])
            each = gradients.of(losses)[:number]
            found.append(torch.cat([g.flatten(1) for g in each], 1).cpu())
    return torch.cat(found)
