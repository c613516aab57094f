"""Memory: its peak in a block, in MiB on every system, and what a lack of it is called."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from polyclinic.errors import RunError
from polyclinic.models.memory import peak_memory, shortage_explained

ALLOCATE = """
from polyclinic.models.memory import peak_memory
with peak_memory() as small:
    pass
with peak_memory() as large:
    block = bytearray(80 << 20)
    block[::4096] = b"x" * len(block[::4096])
print(large[0] - small[0])
"""


def test_peak_memory_sees_an_allocation():
    # in a process of its own: from one that has run for minutes, the system takes pages back
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE], capture_output=True, text=True, timeout=120, check=True
    )
    assert 60 < float(done.stdout) < 200


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 2**20), ("freebsd14", 2**10)])
def test_peak_memory_is_in_mib_where_there_is_no_proc(monkeypatch, platform, unit):
    def absent(*_, **__):
        raise FileNotFoundError

    class Usage:
        ru_maxrss = 300 * unit

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(Path, "write_text", absent)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: Usage)
    with peak_memory() as peak:
        pass
    assert peak == [300]


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (MemoryError(), "this machine"),
        (torch.OutOfMemoryError("CUDA out of memory"), "the GPU"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "this machine"),
    ],
    ids=repr,
)
def test_too_little_memory_is_said_plainly(error, where):
    with (
        pytest.raises(RunError, match=f"out of memory on {where}; use fewer jobs .* --resume"),
        shortage_explained(),
    ):
        raise error


def test_an_allocation_that_is_too_large_is_too_little_memory():
    with pytest.raises(RunError, match="out of memory on this machine"), shortage_explained():
        torch.empty(2**60)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), shortage_explained():
        raise RuntimeError("shapes differ")
