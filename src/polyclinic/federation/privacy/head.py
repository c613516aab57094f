"""A head for training under differential privacy: nothing in it looks at other images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyclinic.data.dataset import Task
from polyclinic.models.encoder import EncoderConfig, pool
from polyclinic.models.heads import build_head


class ImageNormalisedHead(nn.Module):
    """A linear map of the pooled embedding, standardised within each image: maps -> (B, outputs).

    The usual head normalises over the batch: there an image changes the gradients of all others,
    and clipping them one by one bounds nothing. This one (layer normalisation, Ba et al. 2016)
    uses the numbers of one embedding alone. The linear map starts at zero, so that the first steps
    move the head before they move the encoder.
    """

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(config.embedding, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Pool every map, standardise each embedding, apply the linear layer."""
        embedding = pool(maps)
        out: Tensor = self.linear(F.layer_norm(embedding, embedding.shape[1:]))
        return out


def private_head(task: Task, classes: int, config: EncoderConfig) -> nn.Module:
    """A fresh head; that of segmentation has no statistics over images anyway."""
    if task == "segmentation":
        return build_head(task, classes, config, seed=0)
    return ImageNormalisedHead(config, classes)


def neutral_weights(classes: int) -> Tensor:
    """Weights of the loss that come from no image: all classes count alike, (K,)."""
    return torch.ones(classes)
