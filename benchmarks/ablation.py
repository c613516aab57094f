"""What each part of the universal method is worth, on validation images.

    python benchmarks/ablation.py DATA            # about a quarter of an hour of a core a cell
    python benchmarks/ablation.py --smoke         # a minute, made-up images: does it work?

The method as it is chosen (`CHOSEN`), and with one thing changed at a time (`CHANGES`), each with
every seed: trained on all sites, judged by linear probe on the validation splits. The test splits
are taken away before anything begins (`tuning.without_test`).

Each cell is a line of `benchmarks/results/ablation.jsonl` when it is finished, and is not done
again, so cells may be run on different days; the result sums up those that are there. Differences
are paired by site and seed; the interval draws seeds, and sites within each, 2,000 times.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import records
import tuning
from cells import parser_of
from eight_sites_study import CHOSEN
from polyclinic.data.phantoms import write_phantoms
from polyclinic.errors import PolyclinicError

CHANGES: dict[str, dict[str, str]] = {
    "as chosen": {},
    "sites at the same time": {"universal.exchange": "parallel"},
    "at the same time, four times the step": {
        "universal.exchange": "parallel",
        "universal.server_learning_rate": "4",
        "universal.server_momentum": "0",
    },
    "with the guard": {"universal.guard": "20"},
    "at the same time, with the guard": {
        "universal.exchange": "parallel",
        "universal.guard": "20",
    },
    "without the anchor": {"universal.anchor": "none"},
    "heads not first": {"universal.head_first": "false"},
    "with distillation": {"universal.distil_every": "4"},
    "half as many stages": {"local.stages": "4"},
    "twice as many stages": {"local.stages": "16"},
}
RESAMPLES = 2000
SMOKE = {"local.stages": "1", "universal.distil_every": "0"}


def main() -> None:
    arguments = _arguments()
    if arguments.smoke:
        _smoke()
        return
    kept = arguments.out.with_suffix(".jsonl")
    names = arguments.changes or list(CHANGES)
    todo = [trial(name, seed, CHOSEN | CHANGES[name]) for name in names for seed in arguments.seeds]
    try:
        tuning.run(arguments.data, todo, {}, arguments.starts, kept)
        records.write(summed_up(records.whole_rows(kept)), arguments.out)
    except (PolyclinicError, OSError) as error:
        sys.exit(f"ablation: {error}")


def _arguments() -> argparse.Namespace:
    parser = parser_of("ablation", __doc__)
    parser.add_argument("--changes", nargs="+", choices=CHANGES, metavar="CHANGE")
    arguments = parser.parse_args()
    if arguments.data is None and not arguments.smoke:
        parser.error("DATA is missing: a folder with sites/ and corpus/")
    return arguments


def trial(name: str, seed: int, settings: Mapping[str, str]) -> tuning.Trial:
    """One cell, as a trial of `tuning.py`; its name says change and seed."""
    return tuning.Trial(f"{name}, seed {seed}", "universal", seed, dict(settings))


def summed_up(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result: of every change the mean, and its difference to the method as it is chosen."""
    scores: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        if "linear-probe" in row:
            change = row["name"].rpartition(", seed ")[0]
            scores.setdefault(change, {})[row["seed"]] = row["linear-probe"]
    base = scores.get("as chosen", {})
    about = records.circumstances(["polyclinic", "torch", "numpy"], seed=0)
    return about | {
        "measure": "linear probe, validation splits",
        "chosen": CHOSEN,
        "changes": [
            {
                "change": change,
                "settings": CHANGES.get(change, {}),
                "seeds": sorted(found),
                "mean": statistics.fmean(
                    value for by_site in found.values() for value in by_site.values()
                ),
                "sites": {
                    site: statistics.fmean(by_site[site] for by_site in found.values())
                    for site in next(iter(found.values()))
                },
                "over_chosen": difference(found, base),
            }
            for change, found in scores.items()
        ],
    }


def difference(
    ours: Mapping[int, Mapping[str, float]], theirs: Mapping[int, Mapping[str, float]]
) -> dict[str, Any] | None:
    """The mean difference over the seeds and sites that both have, and its interval."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    sites = sorted(ours[seeds[0]].keys() & theirs[seeds[0]].keys())
    apart = np.array([[ours[s][name] - theirs[s][name] for name in sites] for s in seeds])
    rng = np.random.default_rng(0)
    drawn = [
        np.mean([apart[s, rng.integers(0, len(sites), len(sites))].mean() for s in chosen])
        for chosen in rng.integers(0, len(seeds), (RESAMPLES, len(seeds)))
    ]
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return {"value": float(apart.mean()), "low": low, "high": high, "seeds": seeds}


def _smoke() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder, images_per_site=160, corpus_images=24)
        scale = tuning.SCALE | {"mim.epochs": 1, "data.max_train_images": 24}
        few = CHOSEN | SMOKE
        todo = [trial("as chosen", 0, few)]
        todo.append(trial("without the anchor", 0, few | CHANGES["without the anchor"]))
        tuning.run(folder, todo, scale, folder / "starts", folder / "rows.jsonl")
        result = summed_up(records.whole_rows(folder / "rows.jsonl"))
        print(json.dumps([row["over_chosen"] for row in result["changes"]]))
    print("a smoke test trains next to nothing: its figures say nothing")


if __name__ == "__main__":
    main()
