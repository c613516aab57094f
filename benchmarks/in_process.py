"""The small federation in Polyclinic's own in-process runner: one of the engines of `engines.py`.

    python benchmarks/in_process.py FOLDER WORKERS

FOLDER is as `blood_parts.py` makes it. Writes into it `polyclinic.safetensors` (the final encoder)
and `polyclinic.json` (when the first site began to train, when each stage ended).
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import blood_parts
from polyclinic.data.dataset import SiteData
from polyclinic.federation.exchange import Federation
from polyclinic.federation.methods import METHODS
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import Work, Workers
from polyclinic.models.state import save_state


class TimedWorkers(Workers):
    """Workers that note when each site began, and with how many threads."""

    def __init__(self, sites: dict[str, SiteData], jobs: int) -> None:
        super().__init__(sites, jobs)
        self.began: list[float] = []
        self.threads: set[int] = set()

    def map(
        self, work: Work, tasks: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[tuple[str, Any]]:
        """As `Workers.map`."""
        timed = [(name, (work, *arguments)) for name, arguments in tasks]
        for name, (began, threads, result) in super().map(_timed, timed):
            self.began.append(began)
            self.threads.add(threads)
            yield name, result


def _timed(site: SiteData, work: Work, *arguments: Any) -> tuple[float, int, Any]:
    return time.monotonic(), torch.get_num_threads(), work(site, *arguments)


def main(folder: Path, workers: int) -> None:
    config = blood_parts.load_config(folder)
    sites, start = blood_parts.load_parts(folder), blood_parts.load_start(folder)
    ended: list[float] = []
    with tempfile.TemporaryDirectory() as name, TimedWorkers(sites, workers) as pool:
        federation = Federation(
            method="fedavg",
            seed=config.seeds[0],
            start=start,
            corpus=blood_parts.no_corpus(),
            config=config,
            workers=pool,
            store=StageStore(Path(name), lambda _: ended.append(time.monotonic())),
            tell=lambda *_: None,
        )
        encoder = METHODS["fedavg"](federation)[next(iter(sites))]
    save_state(encoder, folder / "polyclinic.safetensors")
    times = {"first_step": min(pool.began), "stages_ended": ended, "threads": max(pool.threads)}
    (folder / "polyclinic.json").write_text(json.dumps(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
