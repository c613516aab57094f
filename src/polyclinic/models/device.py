"""What the machine computes fastest with: device, threads, and the precision that pays there."""

import functools
import os
import platform
import time
from contextlib import AbstractContextManager, nullcontext

import torch

from polyclinic.errors import ConfigError
from polyclinic.models.encoder import build_encoder


def device() -> torch.device:
    """The first CUDA device if there is one, else the CPU; POLYCLINIC_DEVICE overrides."""
    name = os.environ.get("POLYCLINIC_DEVICE")
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ConfigError(
            f"POLYCLINIC_DEVICE: expected a device such as cpu or cuda:0, got {name!r}"
        ) from None


@functools.cache
def precision(kind: str | None = None) -> torch.dtype:
    """bfloat16 where it pays, else float32; POLYCLINIC_PRECISION (float32, bfloat16) overrides.

    GPUs with bfloat16 use it. On a CPU it pays only with hardware support (AVX-512 BF16, AMX),
    and without that costs 10 to 20 times: one training step of each is timed to decide, and
    bfloat16 must win clearly, so that noise cannot change the choice between two runs.
    """
    chosen = os.environ.get("POLYCLINIC_PRECISION")
    if chosen:
        known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        if chosen not in known:
            raise ConfigError(
                f"POLYCLINIC_PRECISION: expected one of {', '.join(known)}, got {chosen!r}"
            )
        return known[chosen]
    if (kind or device().type) == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    seconds = {dtype: _step_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    pays = seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]
    return torch.bfloat16 if pays else torch.float32


def autocast() -> AbstractContextManager[object]:
    """The context in which training and inference run their forward passes."""
    dtype = precision()
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device().type, dtype=dtype)


def describe() -> dict[str, str | int]:
    """The machine and versions, for a run's record."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
        "precision": str(precision()).removeprefix("torch."),
    }


def _step_seconds(dtype: torch.dtype) -> float:
    encoder = build_encoder("small", seed=0)
    images = torch.zeros(8, 3, 32, 32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        with torch.enable_grad():  # the caller may be at inference
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = encoder.embed(images).square().mean()
            loss.backward()
        best = min(best, time.perf_counter() - start)
    return best
