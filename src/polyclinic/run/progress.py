"""What a run tells while it works. How it is shown (text, JSON lines, not at all) is the CLI's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "prepare",
    "mim",
    "train",
    "distil",
    "probe",
    "fine-tune",
    "report",
    "paint",
    "augment",
    "evaluate",
    "check",
    "adopt",
    "predict",
    "export",
    "judge",
    "fetch",
]


@dataclass(frozen=True)
class Progress:
    """One step of a run. `done` is the share of the whole run's estimated work, 0..1."""

    phase: Phase
    done: float
    method: str = ""
    seed: int | None = None
    stage: int | None = None  # 1-based
    stages: int | None = None
    site: str = ""
    loss: float | None = None
    seconds_left: float | None = None
    message: str = ""  # a finding or a notice worth a line of its own


Tell = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Tell nobody."""
