"""Updates of a site's own training, step by step, and the images that go into them."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic.config import PrivacyConfig
from polyclinic.data.dataset import SiteData
from polyclinic.federation.aggregation import subtract
from polyclinic.federation.privacy.head import private_head
from polyclinic.models.device import device
from polyclinic.models.encoder import Encoder, Preset
from polyclinic.models.heads import build_head
from polyclinic.models.loading import encoder_with
from polyclinic.models.state import State, load_into, state_of
from polyclinic.models.training import Batches, TrainPlan, fit_head, train
from polyclinic.seeding import generator


def view_of(site: SiteData, row: int, size: int) -> Tensor:
    """A view (1, C, size, size) of one image, in 0..1, as training draws it."""
    batches = Batches(narrowed(site, np.array([row])), TrainPlan(size, 1, 1, 1, 1, 1.0, 0.0))
    return batches.draw(torch.tensor([row]), generator("audit view", row))[0]


def fitted_head(
    site: SiteData, preset: Preset, received: State, plan: TrainPlan, *seed: int | str
) -> State:
    """The head that a site fits to the encoder that it received, before it trains."""
    encoder = encoder_with(preset, received)
    head = build_head(site.task, len(site.classes), encoder.config, seed=0).to(device())
    fit_head(encoder, head, site, plan, *seed)
    return state_of(head)


def steps_change(
    site: SiteData,
    preset: Preset,
    received: State,
    head_state: State,
    plan: TrainPlan,
    *seed: int | str,
) -> State:
    """The encoder's change by the site's own training on its training split, from a given head."""
    encoder, head = network(site, preset, received, head_state)
    train(encoder, head, site, plan, *seed)
    return subtract(state_of(encoder), received)


def bias_gradient(
    site: SiteData, preset: Preset, received: State, head_state: State, rows: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """The gradient (K,) by the bias of the head for a batch, and the mean prediction for it, (K,).

    Plain cross-entropy on whole images, the head with its running statistics.
    """
    encoder, head = network(site, preset, received, head_state)
    images = (torch.from_numpy(site.images[rows]).float() / 255).to(device())
    targets = torch.from_numpy(site.targets[rows]).to(device())
    outputs = head.eval()(encoder(images), (images.shape[2], images.shape[3]))
    loss = nn.functional.cross_entropy(outputs, targets)
    bias = dict(head.named_parameters())["linear.bias"]
    (gradient,) = torch.autograd.grad(loss, [bias])
    return gradient.cpu(), outputs.detach().softmax(1).mean(0).cpu()


def strangers(site: SiteData, size: int, number: int, *seed: int | str) -> Tensor:
    """Views (U, C, size, size) of images of the site that train nothing: at most `number`."""
    rows = np.concatenate([site.split["val"], site.split["test"]])
    plan = TrainPlan(size, 1, 1, 0, 1, 1.0, 0.0)
    batches = Batches(narrowed(site, rows), plan)
    gen = generator("strangers", *seed)
    order = torch.randperm(len(rows), generator=gen)
    drawn = torch.from_numpy(rows)[order].repeat(math.ceil(number / len(rows)))[:number]
    return batches.draw(drawn, gen)[0].cpu()


def narrowed(site: SiteData, rows: NDArray[np.int64]) -> SiteData:
    """The site with `rows` as its training split."""
    return replace(site, split={**site.split, "train": rows})


def plain(plan: TrainPlan) -> TrainPlan:
    """The plan without differential privacy."""
    return replace(plan, privacy=PrivacyConfig())


def network(
    site: SiteData,
    preset: Preset,
    received: Mapping[str, Tensor],
    head_state: State,
    *,
    private: bool = False,
) -> tuple[Encoder, nn.Module]:
    """Encoder and head with given weights; `private` is the head of training by DP-SGD."""
    encoder = encoder_with(preset, received)
    head: nn.Module = build_head(site.task, len(site.classes), encoder.config, seed=0)
    if private:
        head = private_head(site.task, len(site.classes), encoder.config)
    load_into(head, head_state)
    return encoder, head.to(device())
