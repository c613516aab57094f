"""What the machine computes fastest with: device, threads, and the precision that pays there."""

import functools
import os
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from polyclinic.errors import ConfigError
from polyclinic.models.encoder import build_encoder

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FIXED: list[torch.dtype] = []


def device() -> torch.device:
    """The first CUDA device if there is one, else the CPU; POLYCLINIC_DEVICE overrides.

    Raises `ConfigError` where the named device cannot be used.
    """
    return _device(os.environ.get("POLYCLINIC_DEVICE"))


@functools.cache
def _device(name: str | None) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        float(torch.zeros((), device=found))  # that it can be named does not say that it computes
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise ConfigError(
            "POLYCLINIC_DEVICE: expected a device of this machine, such as cpu or cuda:0, "
            f"got {name!r} ({str(error).partition(chr(10))[0]:.80})"
        ) from None
    return found


def precision(kind: str | None = None) -> torch.dtype:
    """bfloat16 where it pays, else float32; POLYCLINIC_PRECISION (float32, bfloat16) overrides.

    GPUs with bfloat16 use it. On a CPU it pays only with hardware support (AVX-512 BF16, AMX),
    and without that costs 10 to 20 times: one training step of each is timed to decide, and
    bfloat16 must win clearly. The load of the machine may still change the choice, so a run
    makes it once: see `fixed_precision`.
    """
    return _FIXED[-1] if _FIXED else asked_precision() or _fastest(kind or device().type)


def asked_precision() -> torch.dtype | None:
    """What POLYCLINIC_PRECISION names, if it is set; `ConfigError` if that is none."""
    name = os.environ.get("POLYCLINIC_PRECISION")
    if name and name not in PRECISIONS:
        raise ConfigError(
            f"POLYCLINIC_PRECISION: expected one of {', '.join(PRECISIONS)}, got {name!r}"
        )
    return PRECISIONS[name] if name else None


@contextmanager
def fixed_precision(chosen: torch.dtype) -> Iterator[None]:
    """Compute in `chosen` in the block, whatever the environment or the clock say."""
    _FIXED.append(chosen)
    try:
        yield
    finally:
        _FIXED.pop()


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads in the block: sums of floats depend on how they are divided."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast() -> AbstractContextManager[object]:
    """The context in which training and inference run their forward passes."""
    dtype = precision()
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device().type, dtype=dtype)


def describe() -> dict[str, str | int]:
    """The machine and versions, for a run's record."""
    used = device()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(used) if used.type == "cuda" else used.type,
        "precision": str(precision()).removeprefix("torch."),
    }


@functools.cache
def _fastest(kind: str) -> torch.dtype:
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    seconds = {dtype: _step_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    pays = seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]
    return torch.bfloat16 if pays else torch.float32


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
