"""What a run tells while it works. How it is shown (text, JSON lines, not at all) is the CLI's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "prepare",
    "mim",
    "contrastive",
    "train",
    "distil",
    "probe",
    "fine-tune",
    "report",
    "paint",
    "augment",
    "edit",
    "evaluate",
    "check",
    "adopt",
    "predict",
    "export",
    "judge",
    "fetch",
    "audit",
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
    bytes_up: int | None = None  # at the end of a stage: what all sites sent in it
    bytes_down: int | None = None


Tell = Callable[[Progress], None]


MIN_SECONDS, MIN_SHARE = 3.0, 0.02
"""Work that must have been seen before it is said how long the rest takes."""


def time_left(
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[float], float | None]:
    """A function from the share that is done, 0..1, to the seconds that the rest will take.

    They are reckoned from the first call on, so that what happens only once, such as the start of
    processes, does not count. None while too little was seen to tell.
    """
    first: list[tuple[float, float]] = []

    def left(share: float) -> float | None:
        now = clock()
        if not first:
            first.append((now, share))
        seconds, grown = now - first[0][0], share - first[0][1]
        if seconds < MIN_SECONDS or grown < MIN_SHARE:
            return None
        return seconds / grown * max(0.0, 1 - share)

    return left


def message(progress: Progress) -> str:
    """What it has to say beyond how far the run is."""
    return progress.message


def silent(_: Progress) -> None:
    """Tell nobody."""
