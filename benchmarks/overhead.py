"""What the federation costs on top of the training itself, in seconds and memory.

    python benchmarks/overhead.py            # about seven minutes on an idle machine
    python benchmarks/overhead.py --smoke    # seconds: does it work?

Two programs train the same encoder on the same eight sites: `federation` is Polyclinic's
in-process federation with everything that a run does in a stage; `plain` is the loop in
`plain_loop.py`. Both fit private heads, train, and score the site's validation images before and
after; the federation alone packs, checks and unpacks messages and writes checkpoints and records.
What validation costs is also told apart: a loop that never looks at its scores would do without it.
The two run at the same time, each in a fresh process with
one thread on a core of its own, and change cores from pair to pair: a shared machine is faster in
one minute than in the next, and so it is so for both. Both must end with the same weights.

Claim: the federation takes at most 5 % more time and at most 10 % more memory. Time is from the
first stage to the last, without imports and without reading the data; memory is the peak of the
whole process. The verdict falls on the median of the ratios pair by pair.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import blood_parts
import records

MAX_TIME = 1.05
MAX_MEMORY = 1.10
SEED = 0
SIZE = blood_parts.Size(stages=3, steps=24)  # as many steps a stage as a default run at least has
SIDES = ("federation", "plain")


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        os.sched_setaffinity(0, {arguments.core})
        _measured(arguments.side, arguments.folder)
        return
    size = blood_parts.SMOKE if arguments.smoke else SIZE
    pairs = 1 if arguments.smoke else arguments.pairs
    result = records.circumstances(["polyclinic", "torch", "numpy", "safetensors"], seed=SEED)
    result |= {"task": size.describe(SEED), "threads": 1, "pairs": pairs}
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blood_parts.write_parts(folder, size, SEED)
        precision = _precision()
        for pair in range(pairs):
            for side, run in _run_pair(folder, pair, precision).items():
                runs[side].append(run)
                print(
                    f"pair {pair + 1}/{pairs}  {side:<10}  {run['seconds']:7.2f} s  "
                    f"(processor {run['cpu_seconds']:.2f} s)  {run['peak_mib']:7.1f} MiB",
                    flush=True,
                )
        result |= {"precision": precision, "same_weights": _agreement(folder)}
    result |= _verdict(runs) | {"runs": runs}
    print(json.dumps({k: result[k] for k in ("same_weights", "time", "memory", "pass")}, indent=1))
    if arguments.smoke:
        print("a smoke test trains next to nothing: its ratios say nothing about the claim")
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "overhead.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7, help="runs of each program (default 7)")
    parser.add_argument("--smoke", action="store_true", help="a tiny federation, one pair")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/overhead.json; "
        "with --smoke none)"
    )  # fmt: skip
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_pair(folder: Path, pair: int, precision: str) -> dict[str, dict[str, Any]]:
    """Measure both programs at once, each in a process of its own on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("overhead: the two programs run side by side; expected 2 cores, found 1")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "POLYCLINIC_DEVICE": "cpu",
        "POLYCLINIC_PRECISION": precision,
    }
    started = {}
    for number, side in enumerate(SIDES):
        core = cores[(number + pair) % 2]
        command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
        command += ["--core", str(core)]
        started[side] = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        )
    runs = {}
    for side, process in started.items():
        output = process.communicate()[0]
        if process.returncode:
            sys.exit(
                f"overhead: the program `{side}` failed with code {process.returncode}; see above"
            )
        runs[side] = json.loads(output)
    return runs


def _measured(side: str, folder: Path) -> None:
    """Be one of the two programs: train, save the weights, print what it took."""
    config = blood_parts.load_config(folder)
    sites, start = blood_parts.load_parts(folder), blood_parts.load_start(folder)
    if side == "plain":
        from plain_loop import plain_fedavg, validate

        validation: list[float] = []

        def timed(*of: Any) -> float:
            started = time.perf_counter()
            result = validate(*of)
            validation.append(time.perf_counter() - started)
            return result

        began, cpu = time.perf_counter(), time.process_time()
        encoder = plain_fedavg(config, sites, start, SEED, timed)
    else:
        from polyclinic.federation.exchange import Federation
        from polyclinic.federation.methods import METHODS
        from polyclinic.federation.stages import StageStore
        from polyclinic.federation.workers import Workers

        with tempfile.TemporaryDirectory() as name, Workers(sites) as workers:
            began, cpu = time.perf_counter(), time.process_time()
            log = (Path(name) / "metrics.jsonl").open("a")
            store = StageStore(Path(name), lambda record: print(json.dumps(record), file=log))
            federation = Federation(
                method="fedavg",
                seed=SEED,
                start=start,
                corpus=blood_parts.no_corpus(),
                config=config,
                workers=workers,
                store=store,
                tell=lambda *_: None,
            )
            encoder = METHODS["fedavg"](federation)[next(iter(sites))]
            log.close()
    took: dict[str, float] = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,  # of all threads
        "peak_mib": records.peak_mib(),
    }
    if side == "plain":
        took["validation_seconds"] = sum(validation)
    from polyclinic.models.state import save_state

    save_state(encoder, folder / f"{side}.safetensors")
    print(json.dumps(took))


def _precision() -> str:
    """The precision that Polyclinic chooses here, once for all runs: it is chosen by a timing."""
    from polyclinic.models.device import precision

    return str(precision("cpu")).removeprefix("torch.")


def _agreement(folder: Path) -> dict[str, Any]:
    from polyclinic.models.state import load_state

    return blood_parts.compare(*(load_state(folder / f"{side}.safetensors") for side in SIDES))


def _verdict(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    verdict: dict[str, Any] = {}
    training = [run["seconds"] - run["validation_seconds"] for run in runs["plain"]]
    for name, key, plain, limit in (
        ("time", "seconds", [run["seconds"] for run in runs["plain"]], MAX_TIME),
        ("time_over_training_without_validation", "seconds", training, None),
        ("memory", "peak_mib", [run["peak_mib"] for run in runs["plain"]], MAX_MEMORY),
    ):
        ours = [run[key] for run in runs["federation"]]
        ratios = [a / b for a, b in zip(ours, plain, strict=True)]
        verdict[name] = {
            "unit": "MiB" if name == "memory" else "s",
            "federation_median": statistics.median(ours),
            "plain_median": statistics.median(plain),
            "ratios": ratios,
            "ratio_median": statistics.median(ratios),
        }
        if limit is not None:
            verdict[name] |= {"limit": limit, "pass": statistics.median(ratios) <= limit}
    return verdict | {"pass": verdict["time"]["pass"] and verdict["memory"]["pass"]}


if __name__ == "__main__":
    main()
