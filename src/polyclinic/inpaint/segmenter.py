"""An independent judge: finds components in axial slices, and knows nothing of the painter.

It measures whether painted components look like real ones, and it is what the scarcity study
trains with and without painted cases. The `INPUTS` channels of its input:

    0..4   a sequence each, in the order of `SEQUENCES`, and the unknown one; 0 where missing
    5..9   1 throughout where that sequence is there, else 0
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.components import COMPONENTS, SEQUENCES
from polyclinic.inpaint.intensity import BLACK
from polyclinic.models.device import autocast, device
from polyclinic.models.state import load_into, load_state, save_state, state_of
from polyclinic.seeding import derive

KNOWN_SEQUENCES = len(SEQUENCES) + 1
"""The unknown one has channels of its own."""
INPUTS = 2 * KNOWN_SEQUENCES
STRIDE = 16
"""Sides of what the network sees are multiples of this many pixels."""
PATCHES = (1, 2, 4)
"""Foldings that the stride allows."""
LEVELS = ("conv_0", "down_1", "down_2", "down_3", "down_4")
"""The way down, as MONAI's network names its levels."""
CHUNK = 16
"""Slices that are segmented at once."""

Number = TypeVar("Number", bound=np.generic)
Told = Callable[[int, float], None]
"""Is told the number of steps taken and the loss of the last one."""


@dataclass(frozen=True)
class Geometry:
    """Ranges of random views of a slice."""

    flip: float = 0.5  # share that is mirrored left to right
    rotation: float = 15.0  # degrees, either way
    zoom: float = 0.15  # natural logarithm, either way
    contrast: float = 0.1  # relative, either way
    brightness: float = 0.1  # of the range -1..1, either way


@dataclass(frozen=True)
class SegmentPlan:
    """How a segmenter is built and trained; `geometry` None trains on the slices as they are."""

    features: tuple[int, ...] = (16, 32, 64, 96, 128, 16)  # of each level, and of the last layer
    steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    tumour_slices: float = 0.7  # share of slices that show a tumour, where there are both kinds
    dropped: float = 0.25  # chance of each sequence to be hidden; one always stays
    geometry: Geometry | None = None
    patch: int = 1  # px; squares of this side are folded into channels: 2 costs a quarter

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ConfigError(
                f"segmenter: expected at least 1 step and 1 slice a batch, got {self.steps} and "
                f"{self.batch_size}"
            )
        if self.patch not in PATCHES:
            raise ConfigError(f"patch: expected one of {PATCHES}, got {self.patch}")


@dataclass(frozen=True)
class Segmenter:
    """A trained network. `features` are its widths and `patch` its folding, as in `SegmentPlan`."""

    network: nn.Module
    features: tuple[int, ...]
    patch: int = 1

    @torch.no_grad()
    def predict(self, volumes: dict[int, NDArray[np.float32]]) -> NDArray[np.uint8]:
        """Components uint8 (Z, H, W) of scaled sequences (Z, H, W), numbered as in `Case.volumes`.

        Raises `DataError` where there is none, one is unknown, or shapes differ.
        """
        depth, height, width = _shape(volumes)
        size = _rounded(height, self.patch), _rounded(width, self.patch)
        parts = []
        for start in range(0, depth, CHUNK):
            planes = {n: volume[start : start + CHUNK] for n, volume in volumes.items()}
            images = np.stack(
                [
                    network_input(
                        {n: _fitted(stack[z], size, BLACK) for n, stack in planes.items()}
                    )
                    for z in range(min(CHUNK, depth - start))
                ]
            )
            with autocast():
                logits = self.network(torch.from_numpy(images).to(device()))
            parts.append(logits.float().argmax(1).to(torch.uint8).cpu().numpy())
        found = np.concatenate(parts)
        return np.stack([_fitted(plane, (height, width), 0) for plane in found])

    @torch.no_grad()
    def describe(
        self, plane: NDArray[np.float32], region: NDArray[np.bool_], sequence: int
    ) -> NDArray[np.float64]:
        """Features (D,) of a region (H, W) in a plane (H, W) of one sequence: those of each level
        of the way down, from the finest on, averaged over the region's share of each place."""
        height, width = plane.shape
        size = _rounded(height, self.patch), _rounded(width, self.patch)
        image = network_input({sequence: _fitted(plane, size, BLACK)})
        inside = torch.from_numpy(_fitted(region, size, False)).float()[None, None]
        levels: list[Tensor] = []
        modules = dict(self.network.named_modules())
        hooks = [
            next(
                module for name, module in modules.items() if name.endswith(level)
            ).register_forward_hook(lambda _, __, output: levels.append(output))
            for level in LEVELS
        ]
        try:
            with autocast():
                self.network(torch.from_numpy(image[None]).to(device()))
        finally:
            for hook in hooks:
                hook.remove()
        found = []
        for level in levels:
            share = F.adaptive_avg_pool2d(inside.to(level.device), (level.shape[2], level.shape[3]))
            found.append((level.float() * share).sum((2, 3))[0] / share.sum())
        features: NDArray[np.float64] = torch.cat(found).cpu().numpy().astype(np.float64)
        return features


class Slices:
    """Random whole slices of cases: the number of a batch and a seed say what is in it.

    First it is drawn whether a slice shows a tumour, then a case that has such slices, by the
    weights, then one of these. So cases that have but one kind change nothing in the share of each
    kind. Raises `DataError` without cases, `ConfigError` where weights do not fit them.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        plan: SegmentPlan,
        *seed: int | str,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not cases:
            raise DataError("no case to train a segmenter on; expected at least 1")
        self.cases, self.plan, self.seed = cases, plan, seed
        self.size = (
            _rounded(max(case.components.shape[1] for case in cases), plan.patch),
            _rounded(max(case.components.shape[2] for case in cases), plan.patch),
        )
        shown = [(case.components > 0).any((1, 2)) for case in cases]
        self.slices = {kind: [np.flatnonzero(z == kind) for z in shown] for kind in (True, False)}
        shares = _shares(weights, len(cases))
        self.shares = {
            kind: shares * [len(z) > 0 for z in slices] for kind, slices in self.slices.items()
        }

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch `number`, on the CPU: images (B, `INPUTS`, H, W), components int64 (B, H, W)."""
        rng = np.random.default_rng(derive(*self.seed, "slices", number))
        images, targets = zip(*(self._slice(rng) for _ in range(self.plan.batch_size)), strict=True)
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets)).long()

    def _slice(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        plan = self.plan
        of_tumour = bool(rng.random() < plan.tumour_slices)
        if not self.shares[of_tumour].any():
            of_tumour = not of_tumour
        shares = self.shares[of_tumour]
        number = int(rng.choice(len(self.cases), p=shares / shares.sum()))
        case, slices = self.cases[number], self.slices[of_tumour][number]
        z = int(slices[rng.integers(len(slices))])
        kept = [n for n in case.volumes if rng.random() >= plan.dropped]
        kept = kept or [int(rng.choice(list(case.volumes)))]
        planes = {n: _fitted(case.volumes[n][z], self.size, BLACK) for n in kept}
        target = _fitted(case.components[z], self.size, 0)
        if plan.geometry is not None:
            planes, target = _view(planes, target, plan.geometry, rng)
        return network_input(planes), target


def train_segmenter(
    cases: Sequence[Case],
    plan: SegmentPlan,
    *seed: int | str,
    weights: Sequence[float] | None = None,
    tell: Told | None = None,
) -> Segmenter:
    """Train on whole slices with cross-entropy and soft Dice (after Milletari et al., arXiv
    1606.04797, without the squares in their denominator).

    `weights`, one a case, say how often its slices are drawn, whatever their number, among those
    that show a tumour and among the others: real and painted cases are mixed by them. The same
    arguments give the same network on the same machine. Raises `DataError`, `ConfigError`, and
    `RunError` where the loss is not finite.
    """
    slices = Slices(cases, plan, *seed, weights=weights)
    network = _build(plan.features, plan.patch, *seed).to(device()).train()
    optimiser = torch.optim.AdamW(
        network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.learning_rate, total_steps=plan.steps + 1, pct_start=0.1
    )
    for step in range(plan.steps):
        images, targets = (tensor.to(device()) for tensor in slices.batch(step))
        with autocast():
            logits = network(images)
        loss = segmentation_loss(logits.float(), targets)
        if not bool(loss.isfinite()):
            raise RunError(
                f"segmenter: the loss of step {step} is NaN or infinite; check the cases' "
                "intensities, or lower the learning rate"
            )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if tell is not None:
            tell(step + 1, float(loss.detach()))
    return Segmenter(network.eval(), plan.features, plan.patch)


def rare_first(cases: Sequence[Case]) -> list[float]:
    """Weights for `train_segmenter` by which each component comes from as many drawn cases as any
    other: a judge that meets a rare one rarely never finds it. Cases without a tumour count as
    those of one more."""
    shown = [{int(c) for c in np.unique(case.components) if c} or {0} for case in cases]
    counts = {c: sum(c in mine for mine in shown) for mine in shown for c in mine}
    return [sum(1 / counts[c] for c in mine) for mine in shown]


def count_overlaps(segmenter: Segmenter, cases: Sequence[Case]) -> NDArray[np.int64]:
    """What Dice needs, case by case: int64 (N, `len(COMPONENTS)`, 3).

    Row 0 is the whole tumour, all its components merged; row c is component c. The last axis is
    (intersection, found, true), in voxels of the whole volume, as `evaluate.metrics` counts them.
    """
    counts = np.zeros((len(cases), len(COMPONENTS), 3), np.int64)
    for row, case in zip(counts, cases, strict=True):
        found, true = segmenter.predict(case.volumes), case.components
        for number in range(len(COMPONENTS)):
            here = found == number if number else found > 0
            there = true == number if number else true > 0
            row[number] = [np.count_nonzero(m) for m in (here & there, here, there)]
    return counts


def segmentation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy plus 1 - Dice, averaged over the components that the batch shows.

    `logits` (B, C, H, W), `targets` int64 (B, H, W). A component that no slice of the batch has
    would add a constant that hides the others.
    """
    truth = F.one_hot(targets, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    shares = logits.softmax(1)
    overlap = (shares * truth).sum((0, 2, 3))
    total = (shares + truth).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (total + 1)
    present = truth.sum((0, 2, 3)) > 0
    return F.cross_entropy(logits, targets) + 1 - dice[present].mean()


def network_input(planes: dict[int, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The input (`INPUTS`, H, W) for the sequences that there are."""
    shape = next(iter(planes.values())).shape
    channels = np.zeros((INPUTS, *shape), np.float32)
    for number, plane in planes.items():
        channels[number] = plane
        channels[KNOWN_SEQUENCES + number] = 1
    return channels


def save_segmenter(segmenter: Segmenter, path: Path) -> None:
    """Write the weights and everything that `load_segmenter` needs."""
    about = json.dumps({"features": segmenter.features, "patch": segmenter.patch})
    save_state(state_of(segmenter.network), path, {"segmenter": about})


def load_segmenter(path: Path) -> Segmenter:
    """The segmenter in `path`; `RunError` if the file is not one."""
    state = load_state(path)
    try:
        with safe_open(path, "pt") as stored:
            about = json.loads((stored.metadata() or {})["segmenter"])
        features = tuple(int(width) for width in about["features"])
        patch = int(about.get("patch", 1))
        network = _build(features, patch, 0)
        load_into(network, state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{path}: holds no segmenter of this version ({' '.join(str(error).split())[:100]}); "
            "expected a file that `save_segmenter` wrote"
        ) from None
    return Segmenter(network.to(device()).eval(), features, patch)


def _build(features: tuple[int, ...], patch: int, *seed: int | str) -> nn.Module:
    """A U-Net with weights drawn from `seed`; about 0.9 million with the plan's own widths."""
    from monai.networks.nets.basic_unet import BasicUNet

    if len(features) != 6 or any(width % 8 or width < 8 for width in features):
        raise ConfigError(f"features: expected six multiples of 8, got {features}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*seed, "segmenter"))
        # groups, not instances: a slice of 16 px is a single pixel at the deepest level
        network: nn.Module = BasicUNet(
            spatial_dims=2,
            in_channels=INPUTS * patch**2,
            out_channels=len(COMPONENTS) * patch**2,
            features=features,
            norm=("group", {"num_groups": 4}),
        )
    if patch == 1:
        return network
    return nn.Sequential(nn.PixelUnshuffle(patch), network, nn.PixelShuffle(patch))


def _shares(weights: Sequence[float] | None, count: int) -> NDArray[np.float64]:
    if weights is None:
        return np.full(count, 1 / count)
    found = np.asarray(weights, np.float64)
    if found.shape != (count,) or not np.isfinite(found).all() or (found < 0).any():
        raise ConfigError(
            f"weights: expected {count} numbers that are not negative, one a case, got {weights}"
        )
    if found.sum() == 0:
        raise ConfigError("weights: all are 0; expected one case at least to train on")
    shares: NDArray[np.float64] = found / found.sum()
    return shares


def _shape(volumes: dict[int, NDArray[np.float32]]) -> tuple[int, int, int]:
    shapes = {number: volume.shape for number, volume in volumes.items()}
    known = all(0 <= number < KNOWN_SEQUENCES for number in shapes)
    if not known or len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 3:
        raise DataError(
            f"sequences and shapes {shapes}; expected at least one of the sequences 0 to "
            f"{KNOWN_SEQUENCES - 1}, all of one shape (Z, H, W)"
        )
    depth, height, width = next(iter(shapes.values()))
    return depth, height, width


def _rounded(side: int, patch: int) -> int:
    """At least a pixel is left at the deepest level; an odd side is mended on the way up."""
    return max(-(-side // STRIDE), patch) * STRIDE


def _fitted(plane: NDArray[Number], size: tuple[int, int], outside: float) -> NDArray[Number]:
    """`plane` in the middle of an array of `size`, cut or filled with `outside` on all sides."""
    fitted = np.full(size, outside, plane.dtype)
    sources, places = [], []
    for side, wanted in zip(plane.shape, size, strict=True):
        start = int((wanted - side) / 2)  # below 0 where it is cut; towards 0, so that it is undone
        sources.append(slice(max(0, -start), max(0, -start) + min(side, wanted)))
        places.append(slice(max(0, start), max(0, start) + min(side, wanted)))
    fitted[tuple(places)] = plane[tuple(sources)]
    return fitted


def _view(
    planes: dict[int, NDArray[np.float32]],
    target: NDArray[np.uint8],
    geometry: Geometry,
    rng: np.random.Generator,
) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.uint8]]:
    """A random view of a slice: the same turn for all sequences, contrast of its own for each."""
    angle = np.deg2rad(rng.uniform(-geometry.rotation, geometry.rotation))
    scale = np.exp(rng.uniform(-geometry.zoom, geometry.zoom))
    mirror = -1.0 if rng.random() < geometry.flip else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.diag([1.0, mirror])
    middle = (np.array(target.shape) - 1) / 2
    offset = middle - matrix @ middle
    seen = {}
    for number, plane in planes.items():
        gain = 1 + rng.uniform(-geometry.contrast, geometry.contrast)
        shift = rng.uniform(-geometry.brightness, geometry.brightness)
        turned = ndimage.affine_transform(plane, matrix, offset, order=1, cval=BLACK)
        seen[number] = (turned * gain + shift).astype(np.float32)
    labels: NDArray[np.uint8] = ndimage.affine_transform(target, matrix, offset, order=0, cval=0)
    return seen, labels
