"""What passed between sites and server in a stage, in numbers and in words."""

from collections.abc import Mapping
from typing import Any


def traffic(stage: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes that the sites of a stage's record sent, and that they received."""
    sites = stage["sites"].values()
    return sum(s.get("bytes_up", 0) for s in sites), sum(s.get("bytes_down", 0) for s in sites)


def in_words(up: int, down: int) -> str:
    """Bytes of both directions; empty where nothing passed.

    >>> in_words(1_234_000, 900)
    '1.2 MB up, 900 B down'
    """
    return f"{data_size(up)} up, {data_size(down)} down" if up or down else ""


def data_size(size: float) -> str:
    """Bytes in decimal units.

    >>> data_size(12_345)
    '12.3 kB'
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
