"""The same small federation in Polyclinic's own runner, Flower's simulation and NVFlare's.

    python benchmarks/peers.py            # about an hour on two idle cores
    python benchmarks/peers.py --smoke    # about two minutes: does it work?
    python benchmarks/peers.py --table    # the result as Markdown

Same encoder, private heads, data, rounds, local steps and seeds, float32; Flower's ClientApp and
NVFlare's Executor call Polyclinic's function for a site's stage, and what they send back is its
packed message, so that what differs is the engine alone. Every run is a fresh process, engines in
turns, in three layouts of the cores: one worker with all threads; one worker a core, one thread
each; and all sites at a time, one thread each (the simulator of NVFlare keeps a site's process only
in this one, and otherwise starts one for each task). Polyclinic writes a checkpoint after every
round, as it always does; the other two write none.

Measured: wall seconds of the whole process; seconds before the first site begins to train; seconds
a round; the highest sum of memory over all processes of the engine (`process_tree.py`); bytes of
the messages about training, of all sites together, in a round: Polyclinic's as in its own record,
Flower's as protocol buffers, NVFlare's as its FOBS writes them (`stopwatch.py`); commands, settings
of the environment, and lines of configuration and of Python that a user writes (`user_lines.py`);
and whether all end with the same weights.

Each engine has an environment of its own, .venv-engines-NAME, which the first call makes (about two
minutes and 1.5 GB each). Nothing is sent anywhere: telemetry and update checks are switched off.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import blood_parts
import engine_environment
import peers_table
import process_tree
import records
import user_lines
from polyclinic.models.state import load_state
from stopwatch import Marks

HERE = Path(__file__).resolve().parent
RESULT = records.RESULTS / "peers.json"
SEED = 0
PROGRAMS = {
    "polyclinic": "in_process.py",
    "flower": "flower_app.py",
    "nvflare": "nvflare_app.py",
}
PACKAGES = {"polyclinic": [], "flower": ["flwr", "ray"], "nvflare": ["nvflare"]}
EVERYWHERE = ["polyclinic", "torch", "numpy", "safetensors"]
SETTINGS: dict[str, dict[str, str]] = {  # what keeps an engine from calling home
    "polyclinic": {},
    "flower": {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    },
    "nvflare": {},
}
TIMEOUT = 1200  # s
MEASURES = (
    "wall_seconds",
    "seconds_before_first_step",
    "seconds_a_round",
    "peak_resident_mib",
    "peak_proportional_mib",
    "bytes_a_round",
)


def main() -> None:
    arguments = _arguments()
    if arguments.table:
        print(peers_table.markdown(json.loads((arguments.out or RESULT).read_text())))
        return
    pythons = {engine: engine_environment.ensure(engine) for engine in PROGRAMS}
    size = replace(blood_parts.SMOKE, parts=2) if arguments.smoke else blood_parts.Size()
    repeats = 1 if arguments.smoke else arguments.repeats
    layouts = [(size.parts, 1)] if arguments.smoke else _layouts(size.parts)
    result = records.circumstances([], seed=SEED)
    result |= {
        "versions_of": {
            engine: engine_environment.versions(engine, [*EVERYWHERE, *own])
            for engine, own in PACKAGES.items()
        },
        "task": size.describe(SEED) | {"rounds": size.stages, "precision": "float32"},
        "repeats": repeats,
        "layouts": [],
    }
    for workers, threads in layouts:
        runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in PROGRAMS}
        agreements: dict[str, list[dict[str, Any]]] = {engine: [] for engine in _others()}
        for repeat in range(repeats):
            with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as name:
                folder = Path(name)
                blood_parts.write_parts(folder, size, SEED)
                result["written_by_a_user"] = {e: _effort(e, folder) for e in PROGRAMS}
                for engine, python in pythons.items():
                    run = _measure(engine, python, folder, workers, threads)
                    runs[engine].append(run)
                    _tell(f"{repeat + 1}/{repeats}", f"{workers} x {threads}", engine, run)
                for engine in _others():
                    agreements[engine].append(_agreement(folder, engine))
        result["layouts"].append(_summary(workers, threads, runs, agreements))
    shown = {key: result[key] for key in ("versions_of", "written_by_a_user")}
    print(json.dumps(shown | {"layouts": [_short(x) for x in result["layouts"]]}, indent=1))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or RESULT)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each engine (default 3)")
    parser.add_argument("--smoke", action="store_true", help="two tiny parts, once")
    parser.add_argument("--table", action="store_true", help="only print the result as Markdown")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/peers.json; "
        "with --smoke none)"
    )  # fmt: skip
    return parser.parse_args()


def _others() -> list[str]:
    return [engine for engine in PROGRAMS if engine != "polyclinic"]


def _layouts(parts: int) -> list[tuple[int, int]]:
    """(workers, threads of each), without repetitions."""
    cores = records.cores()
    workers = min(cores, parts)
    return list(dict.fromkeys([(1, cores), (workers, cores // workers), (parts, 1)]))


def _effort(engine: str, folder: Path) -> dict[str, Any]:
    """What a user types and writes for `engine`."""
    return {
        "commands": [f"python {PROGRAMS[engine]} FOLDER WORKERS"],
        "settings": [f"{name}={value}" for name, value in SETTINGS[engine].items()],
        "configuration_lines": user_lines.configuration_lines(folder / "federation.toml"),
        "python_lines": user_lines.python_lines(HERE / PROGRAMS[engine]),
    }


def _measure(engine: str, python: Path, folder: Path, workers: int, threads: int) -> dict[str, Any]:
    """Run one engine in a process of its own, watching the memory of all its processes."""
    # Polyclinic's workers share the threads of the process that starts them
    total = threads * workers if engine == "polyclinic" else threads
    temporary = folder / "t"  # a short name: Ray's sockets are in it
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(total),
        "POLYCLINIC_DEVICE": "cpu",
        "POLYCLINIC_PRECISION": "float32",
        "PYTHONPATH": str(HERE),
        "TMPDIR": str(temporary),
        "FLWR_HOME": str(temporary / "flwr"),
        **SETTINGS[engine],
    }
    command = [str(python), str(HERE / PROGRAMS[engine]), str(folder), str(workers)]
    log = folder / f"{engine}.log"
    with log.open("w") as file:
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=folder)
        watched = process_tree.watch(process, TIMEOUT)
    if process.returncode or not (folder / f"{engine}.safetensors").exists():
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        sys.exit(f"{tail}\npeers: {engine} failed with code {process.returncode}; see above")
    noted = Marks(folder, engine).read(began)
    travelled = zip(noted["bytes_down_a_round"], noted["bytes_up_a_round"], strict=True)
    return {
        **watched,
        "seconds_a_round": statistics.median(noted["rounds"]),
        "bytes_a_round": statistics.median(down + up for down, up in travelled),
        **noted,
    }


def _agreement(folder: Path, engine: str) -> dict[str, Any]:
    """How far the encoder of `engine` is the one that Polyclinic ends with."""
    ours, theirs = (load_state(folder / f"{e}.safetensors") for e in ("polyclinic", engine))
    return blood_parts.compare(ours, theirs)


def _summary(
    workers: int,
    threads: int,
    runs: dict[str, list[dict[str, Any]]],
    agreements: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    medians = {
        engine: {key: statistics.median(run[key] for run in own) for key in MEASURES}
        for engine, own in runs.items()
    }
    ours = medians["polyclinic"]
    return {
        "workers": workers,
        "threads_a_worker": threads,
        "medians": medians,
        "over_polyclinic": {
            engine: {key: medians[engine][key] / ours[key] for key in MEASURES}
            for engine in _others()
        },
        "same_weights_as_polyclinic": {
            engine: {
                "bit_identical": all(a["bit_identical"] for a in own),
                "largest_difference": max(a["largest_difference"] for a in own),
                "allclose": all(a["allclose"] for a in own),
            }
            for engine, own in agreements.items()
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
        f"({run['peak_proportional_mib']:.0f} proportional), "
        f"{run['bytes_a_round'] / 1e6:.1f} MB a round",
        flush=True,
    )


if __name__ == "__main__":
    main()
