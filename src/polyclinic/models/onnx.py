"""The encoder as ONNX, for programs that have no PyTorch."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyclinic.errors import ConfigError, RunError
from polyclinic.models.encoder import Encoder, pool

TOLERANCE = 1e-4
"""How far an output of the ONNX file may be from PyTorch's."""
SIZES = ((1, 16, 16), (2, 48, 48), (3, 37, 70))
"""Batch, height and width, px, at which the file is compared when it is written."""


class _WholeGraph(nn.Module):
    """The encoder with standardising and padding written so that sizes stay free."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) in 0..1 to the embedding, then one map a stage."""
        stride = self.encoder.config.stride
        x = (images - 0.5) / 0.25
        for axis in (2, 3):  # the edge again and again: what F.pad(mode="replicate") does
            length = images.shape[axis]
            padded = (length + stride - 1) // stride * stride
            x = x.index_select(axis, torch.arange(padded).clamp_max(length - 1))
        maps = self.encoder.stages(x)
        return (pool(maps), *maps)


def write_onnx(encoder: Encoder, path: Path) -> float:
    """Write `encoder` as an ONNX file and compare it with PyTorch; returns the largest difference.

    The input `images` is (B, 3, H, W) in 0..1 (grey images three times); the outputs are
    `embedding` (B, embedding) and `map_2`, `map_4`, ..., named after their strides, of images
    padded to a multiple of the encoder's stride. Raises `ConfigError` where the packages of the
    extra `onnx` are missing, and `RunError` where the two differ by more than `TOLERANCE`.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--onnx: the package {error.name} is missing; install polyclinic[onnx]"
        ) from None
    encoder = encoder.cpu().eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    stages = [f"map_{2 ** (i + 1)}" for i in range(len(encoder.config.widths))]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # the exporter talks to the terminal, and warns of its own future
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _WholeGraph(encoder),
                (torch.rand(2, 3, 41, 59),),
                str(path),
                input_names=["images"],
                output_names=["embedding", *stages],
                dynamic_shapes={"images": free},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = max(_difference(encoder, session, *size) for size in SIZES)
    if not largest <= TOLERANCE:
        raise RunError(
            f"{path}: the ONNX file differs from PyTorch by {largest:.2g}, more than {TOLERANCE}; "
            "export without --onnx, and report it with the versions of torch and onnxruntime"
        )
    return largest


@torch.no_grad()
def _difference(encoder: Encoder, session: Any, batch: int, height: int, width: int) -> float:
    generator = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 3, height, width, generator=generator)
    maps = encoder(images)
    outputs = session.run(None, {"images": images.numpy()})
    pairs = zip([pool(maps), *maps], map(torch.from_numpy, outputs), strict=True)
    return max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
