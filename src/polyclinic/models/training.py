"""Supervised training on one site's data: head on frozen features, head and encoder, prediction.

Federated rounds, working alone, and fine-tuning in the evaluation all run through these three
functions, so that they differ in nothing but their plan.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.config import DataConfig, LocalConfig, PrivacyConfig
from polyclinic.data.dataset import SiteData, Split
from polyclinic.data.transforms import Augmentation, apply_views, sample_views
from polyclinic.errors import RunError
from polyclinic.models.device import autocast, device
from polyclinic.models.encoder import Features, pool
from polyclinic.models.heads import LOSSES, PREDICTIONS, PooledHead, target_weights
from polyclinic.models.pretraining import PretrainPlan
from polyclinic.seeding import generator


@dataclass(frozen=True)
class TrainPlan:
    """One stretch of supervised training."""

    size: int  # px; side of the views that are trained on
    epochs: int
    min_steps: int  # batches an epoch at least: a small site's images come up repeatedly
    max_steps: int  # batches an epoch at most; 0 for no limit
    batch_size: int
    learning_rate: float
    weight_decay: float
    dense_head_epochs: int = 1  # of a segmentation head on frozen features
    head_first: bool = False  # fit the head again at the beginning of every stage
    schedule: Literal["constant", "cosine"] = "constant"
    anchor: Literal["none", "proximal", "feature"] = "none"
    anchor_weight: float = 0.0
    stages: int = 1  # that share a privacy budget
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)  # of a federation's stage
    own_norms: bool = False  # a site keeps the encoder's normalisation to itself
    guard: bool = False  # a site also trains by itself, and tells what it gains
    masking: PretrainPlan | None = None  # train without labels, by masked image modelling


def site_plan(data: DataConfig, local: LocalConfig) -> TrainPlan:
    """A site's training as configured, without what a method or a protocol asks for besides."""
    return TrainPlan(
        size=data.image_size,
        epochs=local.epochs,
        min_steps=local.min_steps,
        max_steps=local.max_steps,
        batch_size=local.batch_size,
        learning_rate=local.learning_rate,
        weight_decay=local.weight_decay,
        dense_head_epochs=local.dense_head_epochs,
    )


def train(
    encoder: Features, head: nn.Module, site: SiteData, plan: TrainPlan, *seed: int | str
) -> float:
    """Train head and encoder in place on the site's training split; returns the mean loss.

    The anchor keeps the encoder near where it started: `proximal` adds
    weight / 2 * |theta - theta_0|^2 (FedProx, Li et al. 2020, equation 2), `feature` adds
    weight * |embed(x) - embed_0(x)|^2 / |embed_0(x)|^2.
    """
    start = copy.deepcopy(encoder).requires_grad_(False) if plan.anchor != "none" else None
    received = [] if start is None else list(start.parameters())
    parameters = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    batches = Batches(site, plan)
    head.train()
    total, count = 0.0, 0
    for step, (images, targets) in enumerate(batches.epochs(plan.epochs, *seed)):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * rate_share(step, batches.steps(plan.epochs), plan)
        with autocast():
            maps = encoder(images)
            loss = batches.loss(head(maps, _size(images)), targets)
            penalty = loss.new_zeros(())
            if plan.anchor == "proximal":
                squares = zip(encoder.parameters(), received, strict=True)
                penalty = sum(((p - q).square().sum() for p, q in squares), penalty) / 2
            elif start is not None:
                with torch.no_grad():
                    before = pool(start(images))
                change = (pool(maps) - before).square().sum(1)
                penalty = (change / before.square().sum(1).clamp_min(1e-6)).mean()
        optimiser.zero_grad()
        (loss + plan.anchor_weight * penalty).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        total += float(loss.detach())
        count += 1
    remeasure(encoder, head, site)
    return total / max(count, 1)


def remeasure(encoder: Features, head: nn.Module, site: SiteData) -> None:
    """Set the statistics of a pooled head: running ones lag behind an encoder that moves."""
    if isinstance(head, PooledHead):
        head.measure(embed(encoder, site.images, rows=site.split["train"]))


def fit_head(
    encoder: Features, head: nn.Module, site: SiteData, plan: TrainPlan, *seed: int | str
) -> None:
    """Train the head alone, in place, on the frozen encoder's features.

    A pooled head is fitted to convergence (L-BFGS, L2 penalty) on the features of the images and
    of two random views of each, like those it will meet in training; a segmentation head sees
    new views in each of `plan.dense_head_epochs`.
    """
    batches = Batches(site, plan)
    if isinstance(head, PooledHead):
        features, targets = _views_embedded(encoder, batches, site, *seed)
        _fit_pooled(head, features, lambda outputs: batches.loss(outputs, targets))
        return
    head.train()
    steps = batches.steps(plan.dense_head_epochs)
    optimiser = torch.optim.AdamW(head.parameters(), weight_decay=1e-4, fused=True)
    for step, (images, label_maps) in enumerate(
        batches.epochs(plan.dense_head_epochs, *seed, "head")
    ):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / steps))
        with autocast():
            with torch.no_grad():
                maps = encoder(images)
            loss = batches.loss(head(maps, _size(images)), label_maps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def _views_embedded(
    encoder: Features, batches: "Batches", site: SiteData, *seed: int | str
) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(site.split["train"])
    targets = batches.targets[rows].to(device())
    features = [embed(encoder, site.images, rows=site.split["train"])]
    for view in range(2):
        gen = generator(*seed, "head", view)
        for part in rows.split(128):
            with autocast():
                features.append(encoder.embed(batches.draw(part, gen)[0]).float())
    return torch.cat(features), targets.repeat(3, *[1] * (targets.ndim - 1))


def rate_share(step: int, steps: int, plan: TrainPlan) -> float:
    """Share of the learning rate: a short warm-up, then constant or falling as a cosine.

    A fresh Adam moves every weight by the full rate at first; without the warm-up a few steps
    undo what the encoder knew.
    """
    warm = min(1.0, (step + 1) / (1 + min(10, steps // 4)))
    if plan.schedule == "constant":
        return warm
    return warm * max(0.01, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _fit_pooled(head: PooledHead, features: Tensor, loss_of: Callable[[Tensor], Tensor]) -> None:
    head.measure(features)
    head.eval()
    x = head.norm(features)
    optimiser = torch.optim.LBFGS(
        head.linear.parameters(), max_iter=60, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of(head.linear(x)) + 0.02 * head.linear.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)


@torch.no_grad()
def predict(
    encoder: Features, head: nn.Module, site: SiteData, split: Split, batch_size: int = 64
) -> NDArray[np.generic]:
    """Probabilities (N, K), values (N,), or label maps (N, S, S) for the images of a split.

    Raises `RunError` where the network's outputs are not finite: a label map would hide it.
    """
    head.eval()
    # only regression needs them to predict, and label maps take long to count
    weights = site_weights(site) if site.task == "regression" else torch.empty(0)
    parts = []
    for images in _chunks(site.images, batch_size, site.split[split]):
        with autocast():
            outputs = head(encoder(images), _size(images))
        if not bool(outputs.isfinite().all()):
            raise RunError(
                f"site '{site.name}': the model's outputs are NaN or infinite, so its training "
                "diverged; lower the learning rates in the configuration and start again"
            )
        parts.append(PREDICTIONS[site.task](outputs.float(), weights).cpu())
    out: NDArray[np.generic] = torch.cat(parts).numpy()
    return out


@torch.no_grad()
def embed(
    encoder: Features,
    images: NDArray[np.uint8],
    batch_size: int = 128,
    rows: NDArray[np.int64] | None = None,
) -> Tensor:
    """Pooled embeddings, float32 (N, embedding), of uint8 images (N, C, S, S), or some `rows`.

    A batch at a time is read, so that images that lie on a disk can stay there.
    """
    parts = []
    for batch in _chunks(images, batch_size, rows):
        with autocast():
            parts.append(encoder.embed(batch).float())
    return torch.cat(parts)


def site_weights(site: SiteData) -> Tensor:
    """`target_weights` of the site's training split, on the device."""
    targets = torch.from_numpy(site.targets[site.split["train"]])
    return target_weights(site.task, targets, len(site.classes)).to(device())


class Batches:
    """A site's training split as shuffled batches of random views."""

    def __init__(self, site: SiteData, plan: TrainPlan) -> None:
        self.plan = plan
        self.task = site.task
        self.side = site.images.shape[-1]
        self.images = torch.from_numpy(site.images)
        self.targets = torch.from_numpy(site.targets)
        self.weights = site_weights(site)
        self.size = min(plan.size, self.side)
        # images larger than a view give several views an epoch: about half of their area
        rows = site.split["train"]
        views = max(1, round((self.side / self.size) ** 2 / 2))
        least = math.ceil(plan.min_steps * plan.batch_size / len(rows))
        self.rows = torch.from_numpy(rows).repeat(max(views, least))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's loss with the site's weights."""
        return LOSSES[self.task](outputs, targets, self.weights)

    def steps(self, epochs: int) -> int:
        """Number of batches in `epochs`."""
        # a batch that is not full is left out: batch normalisation needs its company
        steps = max(1, len(self.rows) // self.plan.batch_size)
        return epochs * (min(steps, self.plan.max_steps) if self.plan.max_steps else steps)

    def epochs(self, epochs: int, *seed: int | str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, targets) for `epochs`, each shuffled and augmented from `seed`."""
        for epoch in range(epochs):
            gen = generator(*seed, epoch)
            order = self.rows[torch.randperm(len(self.rows), generator=gen)]
            for rows in order.split(self.plan.batch_size)[: self.steps(1)]:
                yield self.draw(rows, gen)

    def draw(self, rows: Tensor, gen: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random views of `rows`: images float 0..1 (B, C, size, size) and targets."""
        views = sample_views(len(rows), self.side, self.size, _VIEWS, gen)
        label_maps = self.targets[rows] if self.task == "segmentation" else None
        images, cut = apply_views(self.images[rows], views, self.size, label_maps)
        targets = self.targets[rows] if cut is None else cut
        return images.to(device()), targets.to(device())


_VIEWS = Augmentation()


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]


def _chunks(
    images: NDArray[np.uint8], batch_size: int, rows: NDArray[np.int64] | None = None
) -> Iterator[Tensor]:
    for start in range(0, len(images if rows is None else rows), batch_size):
        part = slice(start, start + batch_size)
        chunk = images[part if rows is None else rows[part]]
        yield torch.from_numpy(chunk).to(device()).float() / 255
