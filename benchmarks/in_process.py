"""The small federation in Polyclinic's own in-process runner: one of the engines of `peers.py`.

    python benchmarks/in_process.py FOLDER WORKERS

FOLDER is as `blood_parts.py` makes it. Writes `polyclinic.safetensors` (the final encoder) and the
notes of `stopwatch.py` into it. A checkpoint is written after every round, as in any run.
"""

import sys
import tempfile
from pathlib import Path

import blood_parts
from polyclinic.federation.exchange import Federation
from polyclinic.federation.methods import METHODS
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import Workers
from polyclinic.models.state import save_state
from stopwatch import Marks


def main(folder: Path, workers: int) -> None:
    config = blood_parts.load_config(folder)
    sites = blood_parts.load_parts(folder)
    with tempfile.TemporaryDirectory() as name, Workers(sites, workers) as pool:
        federation = Federation(
            method="fedavg",
            seed=config.seeds[0],
            start=blood_parts.load_start(folder),
            corpus=blood_parts.no_corpus(),
            config=config,
            workers=pool,
            store=StageStore(Path(name), lambda _: None),
            tell=lambda *_: None,
        )
        Marks(folder, "polyclinic").watch(federation)
        encoder = METHODS["fedavg"](federation)[pool.names[0]]
    save_state(encoder, folder / "polyclinic.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
