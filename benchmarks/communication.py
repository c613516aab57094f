"""Quality against bytes: how good the encoder is after each stage, and what travelled until then.

    python benchmarks/communication.py DATA                 # a quarter of an hour of a core a cell
    python benchmarks/communication.py DATA --seeds 1 --ways "universal, int8"
    python benchmarks/communication.py --smoke              # some minutes, made-up images
    python benchmarks/communication.py --plots docs/images  # draw the result that is there

DATA holds `sites/` and `corpus/`. Each cell is one federation with one seed, with the settings of
the comparison (`CHOSEN`): a method, and how sites write their changes (`WAYS`). After 1, 2, 4, ...
stages and the last the encoder is judged by linear probe on the validation splits; the test splits
are taken away. Bytes are those of all sites in both directions. The last download, without which no
site has the encoder, counts for no method.

Each cell is a line of `benchmarks/results/communication.jsonl` when it is finished, and is not done
again; the result sums up those that are there.

Claim: the universal method, with changes in int8, is as good as FedAvg is after its last stage with
a tenth of FedAvg's bytes, by the mean over seeds of that share.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import records
import tuning
from cells import Cells, made_of, parser_of, settings_of
from drawings import standalone
from eight_sites_study import as_chosen, configuration
from polyclinic.config import Config
from polyclinic.data.phantoms import write_phantoms
from polyclinic.errors import PolyclinicError
from polyclinic.evaluate.protocols import linear_probe, protocol_plan
from polyclinic.federation.methods import TITLES, Encoders
from polyclinic.federation.site import with_norms
from polyclinic.federation.stages import Stages, StageStore
from polyclinic.federation.workers import Workers
from polyclinic.models.device import fixed_precision, precision
from polyclinic.models.state import State
from polyclinic.report.plots import Line, curves
from polyclinic.run.directory import read_json
from polyclinic.run.experiment import Prepared, prepare

INT8 = {"federation.wire": "int8"}
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "universal": ("universal", {}),
    "universal, int8": ("universal", INT8),
    "fedavg": ("fedavg", {}),
    "fedavg, int8": ("fedavg", INT8),
    "fedprox": ("fedprox", {}),
    "fedbn": ("fedbn", {}),
    "fedmim": ("fedmim", {}),
}
"""A method, and settings besides those of the comparison."""
LEAD, OVER = "universal, int8", "fedavg"
SHARE = 0.1
"""Of the bytes of `OVER`, at most."""


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.plots:
            _draw(read_json(arguments.out), arguments.plots)
        elif arguments.smoke:
            _smoke()
        else:
            config = configuration(
                arguments.data, arguments.seeds, ("universal",), as_chosen([]), 1
            )
            kept = arguments.out.with_suffix(".jsonl")
            rows = measure(config, arguments.ways, arguments.starts, kept)
            result = summed_up(rows) | {"settings": settings_of(config)}
            print(json.dumps(result["bar"]))
            records.write(result, arguments.out)
    except PolyclinicError as error:
        sys.exit(f"communication: {error}")


def _arguments() -> argparse.Namespace:
    parser = parser_of("communication", __doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the result into it")
    arguments = parser.parse_args()
    if arguments.data is None and not (arguments.smoke or arguments.plots):
        parser.error("DATA is missing: a folder with sites/ and corpus/")
    return arguments


def measure(config: Config, ways: Sequence[str], starts: Path, kept: Path) -> list[dict[str, Any]]:
    """Do the cells that `kept` does not hold, and add a line to it for each; all lines."""
    with fixed_precision(precision()):
        data = tuning.without_test(prepare(config))
        done = Cells(kept, made_of(config, data))
        for seed in config.seeds:
            for way in ways:
                key = {"way": way, "seed": seed}
                if not done.has(key):
                    done.add(key, {"curve": curve(config, data, way, seed, starts)})
                    print(way, seed, done.rows[-1]["curve"][-1]["mean"], flush=True)
    return done.rows


def curve(base: Config, data: Prepared, way: str, seed: int, starts: Path) -> list[dict[str, Any]]:
    """Of one cell: the scores of the encoder, and the bytes until then, by stage.

    Stage 0 is the start, for which nothing has travelled.
    """
    method, settings = WAYS[way]
    config = tuning.changed(base, settings)
    total = config.local.stages
    start = tuning.start_of(config, method, seed, data, starts)
    travelled = 0
    found: list[dict[str, Any]] = []

    def point(stage: int, encoders: Mapping[str, State]) -> None:
        scores = {
            name: round(
                linear_probe(
                    config.preset, encoders[name], site, protocol_plan(config), seed, way, name
                ).validation,
                4,
            )
            for name, site in data.sites.items()
        }
        mean = round(statistics.fmean(scores.values()), 4)
        found.append({"stage": stage, "bytes": travelled, "mean": mean, "linear-probe": scores})

    with tempfile.TemporaryDirectory() as folder:

        def log(record: Mapping[str, Any]) -> None:
            nonlocal travelled
            sites = record["sites"].values()
            travelled += sum(said["bytes_up"] + said["bytes_down"] for said in sites)
            if record["stage"] in shown(total):
                kept = StageStore(Path(folder), lambda _: None).latest(total)
                assert kept is not None
                point(record["stage"], encoders_of(method, kept, list(data.sites)))

        point(0, dict.fromkeys(data.sites, start))
        workers = Workers(data.sites)
        tuning.trained(config, method, seed, data, workers, start, Path(folder), log)
    return found


def shown(total: int) -> list[int]:
    """The stages after which an encoder is judged: 1, 2, 4, ... and the last."""
    return sorted({2**power for power in range(total.bit_length()) if 2**power < total} | {total})


def encoders_of(method: str, stages: Stages, names: Sequence[str]) -> Encoders:
    """What each site would end up with if a method stopped here; of ours, the last visit's."""
    shared = stages.encoders[""]
    if method == "fedbn":
        return {name: with_norms(shared, stages.heads.get(name, {})) for name in names}
    return dict.fromkeys(names, shared)


def summed_up(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result: curves as means over seeds, and the bytes to reach FedAvg's last score."""
    by_way: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        by_way.setdefault(row["way"], {})[row["seed"]] = row["curve"]
    told = []
    for way, found in by_way.items():
        seeds = sorted(found)
        told.append(
            {
                "way": way,
                "seeds": seeds,
                "curve": [
                    {
                        "stage": points[0]["stage"],
                        "bytes": statistics.fmean(point["bytes"] for point in points),
                        "mean": statistics.fmean(point["mean"] for point in points),
                        "linear_probe": {
                            site: statistics.fmean(p["linear-probe"][site] for p in points)
                            for site in points[0]["linear-probe"]
                        },
                    }
                    for points in zip(*(found[seed] for seed in seeds), strict=True)
                ],
                "shares": shares(found, by_way.get(OVER, {})),
            }
        )
    about = records.circumstances(["polyclinic", "torch", "numpy"], seed=0)
    return about | {
        "measure": "linear probe, validation splits, mean over sites",
        "over": OVER,
        "bar": bar(told),
        "ways": told,
    }


def shares(
    ours: Mapping[int, Sequence[Mapping[str, Any]]],
    theirs: Mapping[int, Sequence[Mapping[str, Any]]],
) -> dict[int, float | None]:
    """By seed: bytes until FedAvg's last score is reached, as a share of FedAvg's; None: never."""
    found: dict[int, float | None] = {}
    for seed in sorted(ours.keys() & theirs.keys()):
        last = theirs[seed][-1]
        first = [point["bytes"] for point in ours[seed] if point["mean"] >= last["mean"]]
        found[seed] = first[0] / last["bytes"] if first else None
    return found


def bar(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the claim holds; None where nothing can be said."""
    found = next((one["shares"] for one in told if one["way"] == LEAD), {})
    known = [share for share in found.values() if share is not None]
    share = statistics.fmean(known) if known and len(known) == len(found) else None
    return {
        "way": LEAD,
        "over": OVER,
        "share": share,
        "seeds": sorted(found),
        "pass": (share is not None and share <= SHARE) if found else None,
    }


def _title(way: str) -> str:
    method, comma, rest = way.partition(",")
    return TITLES[method] + comma + rest


def _draw(result: Mapping[str, Any], folder: Path) -> None:
    """An SVG file: the mean of the sites after as many MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    order = list(WAYS)
    lines = [
        Line(
            _title(one["way"]),
            order.index(one["way"]),
            tuple((point["bytes"] / 2**20, point["mean"]) for point in one["curve"]),
        )
        for one in sorted(result["ways"], key=lambda one: order.index(one["way"]))
    ]
    drawn = curves(
        [("linear probe on validation images, mean of sites", lines)],
        ident="communication",
        title="Quality by what has travelled",
        desc="A line for each method; points are stages.",
        axis="MiB, all sites, both directions",
    )
    path = folder / "communication.svg"
    path.write_text(standalone(drawn), encoding="utf-8")
    print(f"written: {path}")


def _smoke() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder, images_per_site=160, corpus_images=24)
        few = tuning.SCALE | {"mim.epochs": 1, "local.stages": 2, "data.max_train_images": 24}
        few |= {"local.min_steps": 1, "local.max_steps": 1}
        settings = as_chosen([f"{key}={value}" for key, value in few.items()])
        config = configuration(folder, [0], ("universal",), settings, 1)
        rows = measure(config, [LEAD, OVER, "fedbn"], folder, folder / "rows.jsonl")
        result = summed_up(rows)
        _draw(result, folder)
        print(json.dumps(result["bar"]))
    print("a smoke test trains next to nothing: its figures say nothing")


if __name__ == "__main__":
    main()
