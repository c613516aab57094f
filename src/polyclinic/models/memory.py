"""How much memory a process needed, and what to say when there was not enough."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from polyclinic.errors import RunError


@contextlib.contextmanager
def shortage_explained() -> Iterator[None]:
    """Make a lack of memory, of which PyTorch and NumPy tell in three ways, a `RunError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not short and "DefaultCPUAllocator" not in str(error):
            raise
        where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        raise RunError(
            f"out of memory on {where}; use fewer jobs and continue with --resume, or start a new "
            "run with a smaller local.batch_size, mim.batch_size or data.image_size"
        ) from error


@contextlib.contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Measure the process's peak resident memory in a block: a list that receives MiB.

    Linux can start the measurement anew; elsewhere it is the peak since the process began.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    peak: list[float] = []
    yield peak
    try:
        status = Path("/proc/self/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        peak.append(int(kib) / 2**10)
    except (OSError, StopIteration):
        import resource

        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak.append(highest / (2**20 if sys.platform == "darwin" else 2**10))
