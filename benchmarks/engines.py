"""The same small federation in Polyclinic's in-process runner and in Flower's simulation.

    python benchmarks/engines.py            # about ten minutes on two idle cores
    python benchmarks/engines.py --smoke    # under a minute: does it work?

Same encoder, private heads, data, rounds, local steps and seeds, float32; Flower's ClientApp calls
Polyclinic's function for a site's stage, so that what differs is the engine alone. Every run is a
fresh process, engines in turns, in each layout of the cores: one worker with all threads, and one
worker a core with one thread each. Polyclinic writes a checkpoint after every round, as it always
does; the Flower app writes none.

Measured: wall seconds of the whole process; seconds before the first site begins to train; seconds
a round; the highest sum, over all processes of the engine, of resident memory (pages that processes
share count in each of them) and of proportional memory (shared pages count once); and whether both
end with the same weights.

Flower 1.41 and Ray go into an environment of their own, .venv-engines, which the first call makes
(about a minute, 1.5 GB). Both engines run in it. Nothing is sent anywhere: telemetry and update
checks of Flower and Ray are switched off.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import engine_environment
import records

HERE = Path(__file__).resolve().parent
SEED = 0
PROGRAMS = {"polyclinic": "in_process.py", "flower": "flower_app.py"}
TIMEOUT = 1200  # s
SAMPLE_EVERY = 0.2  # s
MEASURES = (
    "wall_seconds",
    "seconds_before_first_step",
    "seconds_a_round",
    "peak_resident_mib",
    "peak_proportional_mib",
)


def main() -> None:
    arguments = _arguments()
    python = engine_environment.ensure()
    if Path(sys.prefix) != engine_environment.FOLDER:
        os.execv(python, [str(python), str(HERE / "engines.py"), *sys.argv[1:]])
    import blood_parts

    size = blood_parts.SMOKE if arguments.smoke else blood_parts.Size()
    repeats = 1 if arguments.smoke else arguments.repeats
    layouts = [(1, 1)] if arguments.smoke else _layouts(size.parts)
    packages = ["polyclinic", "torch", "numpy", "safetensors", "flwr", "ray", "psutil"]
    result = records.circumstances(packages, seed=SEED)
    result |= {
        "task": size.describe(SEED) | {"rounds": size.stages, "precision": "float32"},
        "repeats": repeats,
        "layouts": [],
    }
    for workers, threads in layouts:
        runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in PROGRAMS}
        agreements = []
        for repeat in range(repeats):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                blood_parts.write_parts(folder, size, SEED)
                for engine in PROGRAMS:
                    run = _measure(engine, folder, workers, threads)
                    runs[engine].append(run)
                    _tell(f"{repeat + 1}/{repeats}", f"{workers} x {threads}", engine, run)
                agreements.append(_agreement(folder))
        result["layouts"].append(_summary(workers, threads, runs, agreements))
    print(json.dumps([_short(layout) for layout in result["layouts"]], indent=1))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "engines.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each engine (default 3)")
    parser.add_argument("--smoke", action="store_true", help="a tiny federation, once, one thread")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/engines.json; "
        "with --smoke none)"
    )  # fmt: skip
    return parser.parse_args()


def _layouts(parts: int) -> list[tuple[int, int]]:
    """(workers, threads of each): two ways to use all cores, one if there is but one."""
    cores = records.cores()
    workers = min(cores, parts)
    return [(1, cores), (workers, cores // workers)][: 2 if cores > 1 else 1]


def _measure(engine: str, folder: Path, workers: int, threads: int) -> dict[str, Any]:
    """Run one engine in a process of its own, watching the memory of all its processes."""
    # Polyclinic's workers share the threads of the process that starts them
    total = threads * workers if engine == "polyclinic" else threads
    environment = os.environ | {
        "OMP_NUM_THREADS": str(total),
        "POLYCLINIC_DEVICE": "cpu",
        "POLYCLINIC_PRECISION": "float32",
        "PYTHONPATH": str(HERE),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(folder / "flwr-home"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, str(HERE / PROGRAMS[engine]), str(folder), str(workers)]
    log = folder / f"{engine}.log"
    with log.open("w") as file:
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=folder)
        peaks, processes, left = _watch(process, began)
        wall = time.monotonic() - began
    if process.returncode or not (folder / f"{engine}.json").exists():
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        sys.exit(f"{tail}\nengines: {engine} failed with code {process.returncode}; see above")
    times = json.loads((folder / f"{engine}.json").read_text())
    marks = [times["first_step"], *times["stages_ended"]]
    rounds = [b - a for a, b in itertools.pairwise(marks)]
    return {
        "wall_seconds": wall,
        "seconds_before_first_step": times["first_step"] - began,
        "seconds_a_round": statistics.median(rounds),
        "rounds": rounds,
        **peaks,
        "most_processes": processes,
        "processes_left_behind": left,
        "threads_a_worker": times["threads"],
    }


def _watch(process: subprocess.Popen[bytes], began: float) -> tuple[dict[str, float], int, int]:
    """Wait for `process`: peak memory of its tree, the most processes, and how many stayed."""
    import psutil

    peaks = {"peak_resident_mib": 0.0, "peak_proportional_mib": 0.0}
    seen: set[psutil.Process] = set()
    most = 0
    while process.poll() is None:
        tree = _tree(process.pid)
        seen.update(tree)
        resident = proportional = count = 0
        for member in tree:
            try:
                memory = member.memory_full_info()
            except psutil.Error:  # it has just ended
                continue
            resident += memory.rss
            proportional += getattr(memory, "pss", memory.rss)
            count += 1
        peaks["peak_resident_mib"] = max(peaks["peak_resident_mib"], resident / 2**20)
        peaks["peak_proportional_mib"] = max(peaks["peak_proportional_mib"], proportional / 2**20)
        most = max(most, count)
        if time.monotonic() - began > TIMEOUT:
            process.kill()
        time.sleep(SAMPLE_EVERY)
    _, left = psutil.wait_procs(seen, timeout=10)
    for member in left:  # so that they do not disturb the next measurement
        member.kill()
    return peaks, most, len(left)


def _tree(pid: int) -> list[Any]:
    import psutil

    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _agreement(folder: Path) -> dict[str, Any]:
    import blood_parts
    from polyclinic.models.state import load_state

    return blood_parts.compare(*(load_state(folder / f"{e}.safetensors") for e in PROGRAMS))


def _summary(
    workers: int,
    threads: int,
    runs: dict[str, list[dict[str, Any]]],
    agreements: list[dict[str, Any]],
) -> dict[str, Any]:
    medians = {
        engine: {key: statistics.median(run[key] for run in own) for key in MEASURES}
        for engine, own in runs.items()
    }
    ours, flower = medians["polyclinic"], medians["flower"]
    return {
        "workers": workers,
        "threads_a_worker": threads,
        "medians": medians,
        "flower_over_polyclinic": {key: flower[key] / ours[key] for key in MEASURES},
        "same_weights": {
            "bit_identical": all(a["bit_identical"] for a in agreements),
            "largest_difference": max(a["largest_difference"] for a in agreements),
            "allclose": all(a["allclose"] for a in agreements),
        },
        "runs": runs,
    }


def _short(layout: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in layout.items() if key != "runs"}


def _tell(repeat: str, layout: str, engine: str, run: dict[str, Any]) -> None:
    print(
        f"{repeat}  workers x threads {layout}  {engine:<10}  {run['wall_seconds']:6.1f} s, "
        f"first step after {run['seconds_before_first_step']:.1f} s, "
        f"{run['seconds_a_round']:.2f} s a round, {run['peak_resident_mib']:.0f} MiB "
        f"({run['peak_proportional_mib']:.0f} proportional)",
        flush=True,
    )


if __name__ == "__main__":
    main()
