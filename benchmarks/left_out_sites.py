"""Is the universal encoder any good at a hospital that took no part in training it?

    python benchmarks/left_out_sites.py DATA              # hours a seed; goes on where it stopped
    python benchmarks/left_out_sites.py DATA --seeds 3    # one seed; the rest another day
    python benchmarks/left_out_sites.py --smoke           # a minute: does it work?

DATA holds `sites/` and `corpus/`. Each site is left out in turn: the others train the universal
encoder, with the defaults or what `--set` puts in their place. At the site that was left out, five
encoders are judged with 5, 10 and 50 labels a class and with all labels (linear probe and
fine-tuning), on the same draws of labels:

- the universal one;
- the same beside the one that the federation began with, so with twice as many features;
- that one by itself: masked image modelling alone;
- the best single source, the encoder of the one other site, trained alone, whose linear probe is
  best on the left-out site's validation split;
- random weights.

Each seed leaves a pack in --packs when it is finished (`eight_sites_pack`); the result sums up
every pack that is there. The test splits are judged once: `test-touched.json` says since when and
with which settings, and others are refused.

Claim: with 10 labels a class the universal encoder is above masked image modelling and above the
best single source at 6 of 8 sites or more, by the mean over seeds. It is held against the universal
encoder by itself; the pair has a verdict of its own, `beside`.
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import records
from eight_sites import SMOKE as EIGHT_SMOKE
from eight_sites import SMOKE_SITES
from eight_sites_cells import best, predict, validate
from eight_sites_pack import Cell, load_packs, save_pack, truth
from eight_sites_study import (
    LABELS,
    LEAD,
    PACKAGES,
    SEEDS,
    SINGLE,
    Record,
    Study,
    add_options,
    as_chosen,
    configuration,
    digest,
    refuse_others,
    touch,
    write_json,
)
from eight_sites_summary import TITLES, Found, comparisons, gains, read, scores, weights
from polyclinic.data.dataset import SiteData
from polyclinic.data.phantoms import SPECIALTIES, write_phantoms
from polyclinic.errors import PolyclinicError
from polyclinic.evaluate.metrics import Predictions, Weights
from polyclinic.evaluate.protocols import protocol_plan
from polyclinic.federation.workers import Workers
from polyclinic.models.device import fixed_precision, precision
from polyclinic.models.encoder import build_encoder
from polyclinic.models.side_by_side import beside
from polyclinic.models.state import State, load_state, save_state, state_of
from polyclinic.run.directory import read_json
from polyclinic.run.experiment import Prepared, prepare
from polyclinic.seeding import derive
from tuning import start_of, trained

RANDOM = "random"
PAIR = "universal-beside-start"
OWN_TITLES = {PAIR: "Universal beside its start", RANDOM: "Random weights"}
ENCODERS = (LEAD, PAIR, "mim", SINGLE, RANDOM)
PROTOCOLS = (*LABELS, "linear-probe", "fine-tune")
WON, BAR = 6, "10-labels"
SMOKE = (*EIGHT_SMOKE, "local.stages=1", "universal.distil_every=0")


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.smoke:
            _smoke(arguments)
        else:
            _start(arguments)
    except PolyclinicError as error:
        sys.exit(f"left_out_sites: {error}")


def _arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, "left_out_sites")
    arguments = parser.parse_args(words)
    if arguments.data is None and not arguments.smoke:
        parser.error("DATA is missing: a folder with sites/ and corpus/")
    return arguments


def _smoke(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_phantoms(folder / "data", images_per_site=64, corpus_images=16, image_size=32)
        for other in SPECIALTIES.keys() - set(SMOKE_SITES):
            shutil.rmtree(data / "sites" / other)
        words = [str(data), "--work", str(folder / "work"), "--packs", str(folder / "packs")]
        words += ["--seeds", "0", "1", "--set", *SMOKE, *arguments.settings]
        words += ["--out", str(arguments.out or folder / "left_out_sites.json")]
        _start(_arguments(words))
    print("a smoke test trains next to nothing: its figures say nothing about the claim")


def _start(arguments: argparse.Namespace) -> Record:
    methods = (LEAD, "local")
    config = configuration(
        arguments.data, arguments.seeds, methods, as_chosen(arguments.settings), 1
    )
    study = Study(config, arguments.work.absolute(), arguments.packs.absolute())
    refuse_others(study)
    begun = touch(study)
    with fixed_precision(precision()):
        data = prepare(config)
        for seed in config.seeds:
            if not study.pack(seed).exists():
                judge_seed(study.of(seed), data, {key: begun[key] for key in ("date", "commit")})
    since = {key: begun[key] for key in ("date", "commit", "digest", "starts")}
    result = summed_up(study, data) | {"test_touched": since}
    print(json.dumps(result["bar"]), json.dumps(result["beside"]["bar"]))
    records.write(result, arguments.out or records.RESULTS / "left_out_sites.json")
    return result


def judge_seed(study: Study, data: Prepared, touched: Record) -> None:
    """Train and judge everything of the one seed of `study`, and keep what its figures rest on."""
    (seed,) = study.config.seeds
    config, starts = study.config, study.work / "starts"
    start = start_of(config, LEAD, seed, data, starts)
    alone = _alone(study, data, start)
    found: dict[Cell, Predictions] = {}
    sources: Record = {}
    for name, site in data.sites.items():
        source = sources[name] = _source(study, site, alone)
        states = {
            LEAD: (universal := _without(study, data, start, name)),
            PAIR: beside(universal, start),
            "mim": start,
            SINGLE: alone[source["chosen"]],
            RANDOM: state_of(build_encoder(config.preset, derive(seed, RANDOM))),
        }
        for key, state in states.items():
            for protocol in PROTOCOLS:
                found[key, protocol, name] = _judged(study, site, key, protocol, state)
    about = {
        "seed": seed,
        "digest": digest(study.settings()),
        "data": {name: truth(site) for name, site in data.sites.items()},
        "touched": touched,
        "sources": sources,
        **records.circumstances(PACKAGES, seed=seed),
    }
    save_pack(study.pack(seed), about, found)


def summed_up(study: Study, data: Prepared) -> Record:
    """Everything that the packs come to, ready for JSON."""
    config = study.config
    packs = load_packs(study, data.sites)
    seeds = [pack.seed for pack in packs]
    found = read(packs)
    draws = weights(found, config.evaluation.bootstrap, config.data.split_seed)
    rows = scores(found, draws)
    told = ("seed", "touched", "sources", "machine", "versions", "date", "commit")
    return records.circumstances(PACKAGES, seed=config.data.split_seed) | {
        "seeds": seeds,
        "settings": study.settings(),
        "sites": list(data.sites),
        "encoders": {name: TITLES.get(name) or OWN_TITLES[name] for name in ENCODERS},
        **_verdict(found, draws, rows, seeds, LEAD),
        "beside": _verdict(found, draws, rows, seeds, PAIR),
        "scores": rows,
        "runs": [{key: pack.about[key] for key in told} for pack in packs],
    }


def _verdict(
    found: Found, draws: Mapping[str, Weights], rows: list[Record], seeds: list[int], lead: str
) -> Record:
    """The bar, and what it rests on, for the encoder called `lead`."""
    gained = gains(found, draws, lead)
    compared = comparisons(rows, seeds, lead)
    return {"bar": bar(gained, len(seeds)), "comparisons": compared, "gains": gained}


def bar(gained: list[Record], seeds: int) -> Record:
    """At how many sites ten labels are worth more on the universal encoder; the protocol's bar."""
    won = {
        over: sorted(
            row["site"]
            for row in gained
            if (row["over"], row["protocol"]) == (over, BAR) and (row["value"] or 0) > 0
        )
        for over in ("mim", SINGLE)
    }
    sites = {row["site"] for row in gained}
    enough = len(sites) >= 8 and seeds >= len(SEEDS)
    passes = all(len(names) >= WON for names in won.values())
    return {
        "protocol": BAR,
        "won_over": won,
        "sites": len(sites),
        "seeds": seeds,
        "pass": passes if enough else None,
    }


def _alone(study: Study, data: Prepared, start: State) -> dict[str, State]:
    """The encoder of every site that trained alone."""
    folder = study.work / "alone"
    paths = {name: folder / f"{name}.safetensors" for name in data.sites}
    if not all(path.exists() for path in paths.values()):
        (seed,) = study.config.seeds
        sites = Workers(data.sites)
        made = trained(study.config, "local", seed, data, sites, start, folder / "stages")
        for name, path in paths.items():
            save_state(made[name], path)
    return {name: load_state(path) for name, path in paths.items()}


def _without(study: Study, data: Prepared, start: State, name: str) -> State:
    """The universal encoder of all sites but one."""
    folder = study.work / f"without-{name}"
    path = folder / "encoder.safetensors"
    if not path.exists():
        (seed,) = study.config.seeds
        others = Workers({other: site for other, site in data.sites.items() if other != name})
        made = trained(study.config, LEAD, seed, data, others, start, folder / "stages")
        save_state(next(iter(made.values())), path)  # all have the same
        print(f"trained: seed {seed} without {name}", flush=True)
    return load_state(path)


def _source(study: Study, site: SiteData, alone: dict[str, State]) -> Record:
    """Which other site's encoder is best by linear probe on the site's validation split."""
    (seed,) = study.config.seeds
    path = study.choice(seed, site.name)
    if not path.exists():
        plan = protocol_plan(study.config)
        found = {
            other: validate(site, study.config.preset, state, plan, seed, SINGLE)
            for other, state in alone.items()
            if other != site.name
        }
        known = {other: None if math.isnan(score) else score for other, score in found.items()}
        write_json(path, {"chosen": best(found), "validation": known})
    return dict(read_json(path))


def _judged(study: Study, site: SiteData, key: str, protocol: str, state: State) -> Predictions:
    """What an encoder, judged by a protocol, says about the test split of a left-out site."""
    config = study.config
    (seed,) = config.seeds
    path = study.work / "judged" / f"seed-{seed}" / key / f"{site.name}-{protocol}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        plan = protocol_plan(config)
        predict(site, protocol, config.preset, state, plan, seed, key).save(path)
        print(f"judged: seed {seed} {site.name} {key} {protocol}", flush=True)
    return Predictions.load(path)


if __name__ == "__main__":
    main()
