"""Does the universal encoder help where a site meets images of a place that it has never seen?

    python benchmarks/shift.py DATA                       # about two hours of a core a seed
    python benchmarks/shift.py DATA --seeds 1 --sites skin
    python benchmarks/shift.py --smoke                    # two minutes, made-up images

DATA holds `sites/` and `corpus/`. Four of its sites have images of several places
(`shift_domains`): skin of three clinics, glioma of three hospitals, retina of two cameras, nuclei
of three microscopies. Each place is left out in turn: all sites train without its images, and so do
the heads that judge. It is judged how well linear probe and fine-tuning, from images of the other
places, do on those of this place: with the universal encoder, with masked image modelling alone,
which it began with, and with the site's own, trained alone without this place. The test splits are
taken away; what is judged are images that would else be in training and validation.

A class of which next to nothing is left to train on is not judged: that would say nothing of a
shift of images. Intervals draw patients; of nuclei and retina none are known, and images are drawn.

Each place and seed is a line of `benchmarks/results/shift.jsonl` when it is finished (one that is
stopped begins anew), and is not done again; the result sums up those that are there.
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
from cells import Cells, made_of, parser_of, settings_of
from eight_sites_study import as_chosen, configuration
from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.data.phantoms import write_phantoms
from polyclinic.errors import ConfigError, PolyclinicError
from polyclinic.evaluate.bootstrap import cluster_weights, paired_gain
from polyclinic.evaluate.metrics import primary_metric
from polyclinic.evaluate.predictions import score
from polyclinic.evaluate.protocols import PROTOCOLS, protocol_plan
from polyclinic.federation.workers import Workers
from polyclinic.models.device import fixed_precision, precision
from polyclinic.run.experiment import Prepared, prepare
from polyclinic.run.judging import estimate_json
from shift_domains import RULES, shifted

LEAD = "universal"
OTHERS = ("mim", "local")
JUDGED_BY = ("linear-probe", "fine-tune")
SMOKE = ("mim.epochs=1", "local.stages=1", "local.min_steps=1", "local.max_steps=1",
         "data.image_size=16", "data.largest_side=32", "evaluation.fine_tune_epochs=1",
         "universal.distil_every=0", "evaluation.fine_tune_max_steps=1")  # fmt: skip


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.smoke:
            _smoke()
            return
        kept = arguments.out.with_suffix(".jsonl")
        config = configuration(
            arguments.data, arguments.seeds, (LEAD,), as_chosen(arguments.settings), 1
        )
        rows = measure(config, arguments.data, arguments.sites, arguments.starts, kept)
        records.write(summed_up(rows) | {"settings": settings_of(config)}, arguments.out)
    except PolyclinicError as error:
        sys.exit(f"shift: {error}")


def _arguments() -> argparse.Namespace:
    parser = parser_of("shift", __doc__)
    parser.add_argument("--sites", nargs="+", choices=RULES, default=list(RULES), metavar="SITE")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
        help="settings in place of those that docs/protocol.md names and the defaults",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.data is None and not arguments.smoke:
        parser.error("DATA is missing: a folder with sites/ and corpus/")
    return arguments


def measure(
    config: Config, data: Path, sites: Sequence[str], starts: Path, kept: Path
) -> list[dict[str, Any]]:
    """Do the places and seeds that `kept` does not hold, and add a line to it for each; all lines.

    `ConfigError` where one of `sites` is not there.
    """
    if missing := set(sites) - {site.name for site in config.sites}:
        raise ConfigError(f"no site is called {', '.join(sorted(missing))}; name others by --sites")
    with fixed_precision(precision()):
        whole = prepare(config)
        done = Cells(kept, made_of(config, whole))
        places = {name: RULES[name](whole.sites[name], data / "sites" / name) for name in sites}
        for seed in config.seeds:
            for name in sites:
                for place in np.unique(places[name]).tolist():
                    key = {"site": name, "place": place, "seed": seed}
                    if not done.has(key):
                        site = shifted(whole.sites[name], places[name] == place)
                        done.add(key, without(config, whole, site, seed, starts))
                        print(name, place, seed, done.rows[-1]["scores"], flush=True)
    return done.rows


def without(
    config: Config, data: Prepared, site: SiteData, seed: int, starts: Path
) -> dict[str, Any]:
    """Train without the place that is `site`'s test split, and judge on it."""
    sites = {**data.sites, site.name: site}
    start = tuning.start_of(config, LEAD, seed, data, starts)
    states = {"mim": start}
    for method, own in ((LEAD, sites), ("local", {site.name: site})):
        with tempfile.TemporaryDirectory() as folder:
            made = tuning.trained(config, method, seed, data, Workers(own), start, Path(folder))
        states[method] = made[site.name]
    metric, plan = primary_metric(site.task), protocol_plan(config)
    draws = cluster_weights(
        site.patients[site.split["test"]], config.evaluation.bootstrap, config.data.split_seed
    )
    row: dict[str, Any] = {"images": len(site.split["test"]), "metric": metric}
    row |= {"patients": len(np.unique(site.patients[site.split["test"]])), "scores": {}}
    for protocol in JUDGED_BY:
        judge = PROTOCOLS[protocol]
        found = {
            key: judge(config.preset, state, site, plan, seed, protocol, site.name).predictions
            for key, state in states.items()
        }
        scores = {key: score(one, metric) for key, one in found.items()}
        row["scores"][protocol] = {key: round(value, 4) for key, value in scores.items()}
        row.setdefault("gains", {})[protocol] = {
            other: estimate_json(paired_gain([found[LEAD]], [found[other]], metric, draws))
            for other in OTHERS
        }
    return row


def summed_up(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result: means over seeds, and how often the universal encoder is better."""
    by_place: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        by_place.setdefault((row["site"], row["place"]), []).append(row)
    places = []
    for (site, place), found in by_place.items():
        first = found[0]
        own: dict[str, Any] = {"site": site, "place": place}
        own |= {key: first[key] for key in ("images", "patients", "metric")}
        own["seeds"] = sorted(row["seed"] for row in found)
        for protocol in JUDGED_BY:
            own[protocol] = {
                key: statistics.fmean(row["scores"][protocol][key] for row in found)
                for key in (LEAD, *OTHERS)
            }
        own["by_seed"] = [{"seed": row["seed"], **row["gains"]} for row in found]
        places.append(own)
    about = records.circumstances(["polyclinic", "torch", "numpy"], seed=0)
    return about | {
        "places": places,
        "better": {
            protocol: {
                other: f"{sum(p[protocol][LEAD] > p[protocol][other] for p in places)} of "
                f"{len(places)}"
                for other in OTHERS
            }
            for protocol in JUDGED_BY
        },
    }


def _smoke() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder, images_per_site=160, corpus_images=24)
        config = configuration(folder, [0], (LEAD,), SMOKE, 1)
        rows = measure(config, folder, ["nuclei"], folder, folder / "rows.jsonl")
        print(json.dumps(summed_up(rows)["better"]))
    print("a smoke test trains next to nothing: its figures say nothing")


if __name__ == "__main__":
    main()
