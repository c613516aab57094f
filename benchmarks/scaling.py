"""What the number of sites costs, and what becomes of a federation under stress.

    python benchmarks/scaling.py DATA                        # about an hour of a core a seed
    python benchmarks/scaling.py DATA --seeds 1 --cells few
    python benchmarks/scaling.py --smoke                     # two minutes, made-up images
    python benchmarks/scaling.py --plots docs/images         # draw the result that is there

DATA holds `sites/` and `corpus/`. Each cell (`CELLS`) is a federation made of its sites, at a small
scale (`SCALE`):

- *growth*: every site split into 1, 2, 4 and 8 hospitals, so 8 to 64 of them, with the same images
  in all. Each takes as many steps as before: more hospitals are more training and more messages.
- *skew*: four hospitals of each site; of the sites with classes, hardly two have the same ones.
- *few*: one site has a tenth of its training images.
- *wrong*: a fifth of one site's training labels are wrong.
- *away*: three of ten times a site takes no part in a stage.

Encoders are judged by linear probe on the validation splits of the sites as they are in DATA; a
probe is fitted to all training images of a site, but at a site with few or wrong labels to those.
Where a site is worse off, each site alone is trained beside it. The test splits are taken away.

Each cell is a line of `benchmarks/results/scaling.jsonl` when it is finished (one that is stopped
begins anew), and is not done again; the result sums up those that are there.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import records
import tuning
from absences import Present
from cells import Cells, made_of, parser_of
from drawings import standalone
from eight_sites_study import CHOSEN, as_chosen, configuration
from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.data.phantoms import write_phantoms
from polyclinic.errors import ConfigError, PolyclinicError
from polyclinic.evaluate.protocols import linear_probe, protocol_plan
from polyclinic.federation.methods import TITLES
from polyclinic.models.device import fixed_precision, precision
from polyclinic.report.plots import Line, curves
from polyclinic.run.directory import read_json
from polyclinic.run.experiment import Prepared, prepare
from polyclinic.seeding import derive
from scaling_federations import Sites, mislabelled, split, tenth

SCALE: dict[str, Any] = {
    "data.image_size": 32,
    "data.max_train_images": 400,
    "local.stages": 4,
    "local.min_steps": 20,
    "local.max_steps": 20,
}
VICTIM = "blood"
"""The site that has few images, or wrong labels."""
TOGETHER = ("universal", "fedavg")


@dataclass(frozen=True)
class Hardship:
    """How a federation differs from the sites as they are, and the methods that are tried."""

    parts: int = 1
    skew: float = 0.0
    few: bool = False
    wrong: float = 0.0
    away: float = 0.0
    methods: tuple[str, ...] = TOGETHER

    def federation(self, sites: Mapping[str, SiteData], seed: int) -> Sites:
        """The sites that train."""
        found = split(sites, self.parts, self.skew, seed)
        if self.few:
            found[VICTIM] = tenth(found[VICTIM], seed)
        if self.wrong:
            found[VICTIM] = mislabelled(found[VICTIM], self.wrong, seed)
        return found

    def absent(self, seed: int) -> Callable[[int, str], bool]:
        """Who is away from which stage: the same for every method."""
        return lambda stage, site: derive(seed, "away", stage, site) < self.away * 2**63


CELLS: dict[str, Hardship] = {
    "8-sites": Hardship(methods=(*TOGETHER, "local")),
    "16-sites": Hardship(parts=2),
    "32-sites": Hardship(parts=4),
    "64-sites": Hardship(parts=8),
    "skew": Hardship(parts=4, skew=0.1),
    "few": Hardship(few=True, methods=(*TOGETHER, "local")),
    "wrong": Hardship(wrong=0.2, methods=(*TOGETHER, "local")),
    "away": Hardship(away=0.3),
}
BESIDE = {"skew": "32-sites", "few": "8-sites", "wrong": "8-sites", "away": "8-sites"}
"""The cell that a cell under stress is compared with."""


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.plots:
            _draw(read_json(arguments.out), arguments.plots)
        elif arguments.smoke:
            _smoke()
        else:
            settings = as_chosen([f"{key}={value}" for key, value in SCALE.items()])
            config = configuration(arguments.data, arguments.seeds, ("universal",), settings, 1)
            kept = arguments.out.with_suffix(".jsonl")
            rows = measure(config, arguments.cells, arguments.starts, kept)
            records.write(summed_up(rows), arguments.out)
    except PolyclinicError as error:
        sys.exit(f"scaling: {error}")


def _arguments() -> argparse.Namespace:
    parser = parser_of("scaling", __doc__)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), metavar="CELL")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the result into it")
    arguments = parser.parse_args()
    if arguments.data is None and not (arguments.smoke or arguments.plots):
        parser.error("DATA is missing: a folder with sites/ and corpus/")
    return arguments


def measure(config: Config, cells: Sequence[str], starts: Path, kept: Path) -> list[dict[str, Any]]:
    """Do the cells that `kept` does not hold, and add a line to it for each; all lines."""
    with fixed_precision(precision()):
        data = tuning.without_test(prepare(config))
        if VICTIM not in data.sites:
            raise ConfigError(f"no site is called {VICTIM}: it is the one that has few images")
        done = Cells(kept, made_of(config, data))
        for seed in config.seeds:
            for name in cells:
                for method in CELLS[name].methods:
                    key = {"cell": name, "method": method, "seed": seed}
                    if not done.has(key):
                        done.add(key, cell(config, data, CELLS[name], method, seed, starts))
                        print(name, method, seed, done.rows[-1]["mean"], flush=True)
    return done.rows


def cell(
    config: Config, data: Prepared, hardship: Hardship, method: str, seed: int, starts: Path
) -> dict[str, Any]:
    """Train one federation with one method, and judge what comes of it at the sites of `data`."""
    federation = hardship.federation(data.sites, seed)
    start = tuning.start_of(config, method, seed, data, starts)
    stages: dict[str, dict[str, Any]] = {}  # by unit: one that was found again is logged again

    def log(record: Mapping[str, Any]) -> None:
        stages[record["unit"]] = dict(record)

    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        workers = Present(federation, hardship.absent(seed))
        encoders = tuning.trained(config, method, seed, data, workers, start, Path(folder), log)
    spent = time.process_time() - began
    plan, scores = protocol_plan(config), {}
    for name, site in data.sites.items():
        judged = federation.get(name, site)
        encoder = encoders.get(name) or next(iter(encoders.values()))  # of a split site: shared
        found = linear_probe(config.preset, encoder, judged, plan, seed, "scaling", name)
        scores[name] = round(found.validation, 4)
    told = [said for stage in stages.values() for said in stage["sites"].values()]
    return {
        "sites": len(federation),
        "linear-probe": scores,
        "mean": round(statistics.fmean(scores.values()), 4),
        "bytes": sum(said["bytes_up"] + said["bytes_down"] for said in told),
        "training_seconds": round(spent, 1),
        "absences": sum(len(stage["absent"]) for stage in stages.values()),
    }


def summed_up(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result: means over seeds, and what each stress takes from the cell beside it."""
    by_cell: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        by_cell.setdefault((row["cell"], row["method"]), {})[row["seed"]] = row
    cells = []
    for (name, method), found in by_cell.items():
        own: dict[str, Any] = {"cell": name, "method": method, "seeds": sorted(found)}
        own["sites"] = next(iter(found.values()))["sites"]
        for key in ("mean", "bytes", "training_seconds", "absences"):
            own[key] = statistics.fmean(row[key] for row in found.values())
        own["linear_probe"] = _by_site([row["linear-probe"] for row in found.values()])
        beside = by_cell.get((BESIDE.get(name, ""), method), {})
        own["lost"] = {
            site: statistics.fmean(
                beside[seed]["linear-probe"][site] - found[seed]["linear-probe"][site]
                for seed in shared
            )
            for site in own["linear_probe"]
            if (shared := sorted(found.keys() & beside.keys()))
        }
        cells.append(own)
    about = records.circumstances(["polyclinic", "torch", "numpy"], seed=0)
    return about | {
        "measure": "linear probe, validation splits",
        "scale": CHOSEN | SCALE,
        "victim": VICTIM,
        "compared_with": BESIDE,
        "cells": cells,
    }


def _by_site(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {site: statistics.fmean(one[site] for one in scores) for site in scores[0]}


MEASURES = {
    "quality": ("mean", 1.0, "mean of eight sites by linear probe"),
    "bytes": ("bytes", 2.0**20, "MiB that travelled"),
    "seconds": ("training_seconds", 1.0, "processor time of training, s"),
}


def _draw(result: Mapping[str, Any], folder: Path) -> None:
    """One SVG file for each of `MEASURES`: how it grows with the number of sites."""
    folder.mkdir(parents=True, exist_ok=True)
    for ident, (key, unit, said) in MEASURES.items():
        lines = []
        for series, method in enumerate(TOGETHER):
            grown = [
                (row["sites"], row[key] / unit)
                for row in result["cells"]
                if row["method"] == method and row["cell"].endswith("-sites")
            ]
            if grown:
                lines.append(Line(TITLES[method], series, tuple(sorted(grown))))
        drawn = curves(
            [(said, lines)],
            ident=f"scaling-{ident}",
            title=f"{said} by number of sites",
            desc="A line for each method; every site is split into 1, 2, 4 and 8 hospitals.",
            axis="sites",
        )
        path = folder / f"scaling-{ident}.svg"
        path.write_text(standalone(drawn), encoding="utf-8")
        print(f"written: {path}")


def _smoke() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder, images_per_site=160, corpus_images=24)
        few = SCALE | {"mim.epochs": 1, "local.stages": 1, "universal.distil_every": 0}
        few |= {"local.min_steps": 1, "local.max_steps": 1}
        settings = [f"{key}={value}" for key, value in few.items()]
        config = configuration(folder, [0], ("universal",), settings, 1)
        result = summed_up(measure(config, ["16-sites", "away"], folder, folder / "rows.jsonl"))
        _draw(result, folder)
        print(json.dumps([row["lost"] for row in result["cells"]]))
    print("a smoke test trains next to nothing: its figures say nothing")


if __name__ == "__main__":
    main()
