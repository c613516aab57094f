"""Does an encoder that eight hospitals trained together serve each of them better than others do?

    python benchmarks/eight_sites.py DATA --estimate    # how long it takes; touches nothing
    python benchmarks/eight_sites.py DATA               # hours; goes on where it was stopped
    python benchmarks/eight_sites.py DATA --seeds 3     # one seed; the rest another day
    python benchmarks/eight_sites.py --smoke            # a minute: does it work?
    python benchmarks/eight_sites.py --table benchmarks/results/eight_sites.json

DATA holds `sites/`, a folder for each hospital, and `corpus/`. The protocol is docs/protocol.md,
written before the runs, and this carries it out: ten methods, each a whole federation for each of
five seeds, with the defaults or what `--set` puts in their place, the same for all sites. The run
is that of `polyclinic run`, which judges every encoder by linear probe and by fine-tuning. Then,
from the encoders that it stored: nearest neighbours (not for segmentation) and probes on 5, 10 and
50 labels a class, drawn once for each seed and the same for all methods; and the best single
source, for each seed and site the encoder of another site, trained alone, whose linear probe is
best on the site's validation split.

Each seed is a run in a folder of its own in --work, and leaves a pack in --packs when it has been
judged, which is all that its figures rest on (`eight_sites_pack`). The result sums up every pack
that is there, so seeds may be run on different days. What is finished is not done again.

The test splits are judged once. `test-touched.json`, written in --packs before, says since when and
with which settings; other settings or methods are refused.

Claim: every bar of the protocol's table. A bar that this cannot decide says why.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import eight_sites_tables
import records
from eight_sites_bytes import keep_stage, together
from eight_sites_cells import Judge, judge_all
from eight_sites_estimate import estimate
from eight_sites_pack import load_packs, write_pack
from eight_sites_study import (
    JUDGED_BY,
    PACKAGES,
    Record,
    Study,
    add_options,
    as_chosen,
    configuration,
    refuse_others,
    touch,
)
from eight_sites_summary import TITLES, bars, comparisons, gains, read, scores, weights
from polyclinic.config import METHODS
from polyclinic.data.phantoms import SPECIALTIES, write_phantoms
from polyclinic.errors import PolyclinicError
from polyclinic.federation.workers import Workers
from polyclinic.models.device import fixed_precision
from polyclinic.models.memory import shortage_explained
from polyclinic.run.directory import open_run, read_json
from polyclinic.run.environment import settle
from polyclinic.run.experiment import line, prepare, run_experiment
from polyclinic.run.progress import Progress

SMOKE_SITES = ("blood", "breast", "nuclei")
SMOKE_METHODS = ("universal", "fedavg", "local", "mim")
SMOKE = (
    "data.image_size=16",
    "data.largest_side=32",
    "data.val_share=0.25",
    "data.test_share=0.25",
    "mim.epochs=1",
    "mim.baseline_epochs=1",
    "local.stages=2",
    "local.min_steps=1",
    "local.max_steps=1",
    "local.dense_head_epochs=1",
    "local.batch_size=8",
    "universal.distil_every=2",
    "universal.distil_epochs=1",
    "evaluation.fine_tune_epochs=1",
    "evaluation.fine_tune_max_steps=1",
    "evaluation.bootstrap=50",
)


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.table:
            _show(arguments)
        elif arguments.smoke:
            _smoke(arguments)
        else:
            _start(arguments)
    except PolyclinicError as error:
        sys.exit(f"eight_sites: {error}")


def _arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, "eight_sites")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=1, help="sites at the same time (default 1)")
    parser.add_argument("--estimate", action="store_true", help="say how long it takes, and stop")
    parser.add_argument("--table", type=Path, metavar="RESULT", help="print a result as Markdown")
    parser.add_argument("--forest", type=Path, metavar="SVG", help="with --table: draw the gains")
    arguments = parser.parse_args(words)
    if arguments.data is None and not arguments.smoke and not arguments.table:
        parser.error("DATA is missing: a folder with sites/ and corpus/")
    return arguments


def _show(arguments: argparse.Namespace) -> None:
    """Print the tables of a result; draw its gains where that is asked for."""
    result = read_json(arguments.table)
    print(eight_sites_tables.markdown(result))
    if arguments.forest:
        arguments.forest.write_text(eight_sites_tables.forest(result), encoding="utf-8")


def _smoke(arguments: argparse.Namespace) -> None:
    """Everything on three made-up sites, with next to no training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_phantoms(folder / "data", images_per_site=64, corpus_images=16, image_size=32)
        for other in SPECIALTIES.keys() - set(SMOKE_SITES):
            shutil.rmtree(data / "sites" / other)
        words = [str(data), "--work", str(folder / "work"), "--packs", str(folder / "packs")]
        words += ["--seeds", "0", "1"]
        words += ["--methods", *SMOKE_METHODS, "--set", *SMOKE, *arguments.settings]
        words += ["--out", str(arguments.out or folder / "eight_sites.json")]
        _start(_arguments([*words, "--estimate"]))
        result = _start(_arguments(words))
        print(eight_sites_tables.markdown(result))
    print("a smoke test trains next to nothing: its figures say nothing about the claim")


def _start(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run, judge and write the result; with `--estimate`, only say how long that takes."""
    settings = as_chosen(arguments.settings)
    config = configuration(
        arguments.data, arguments.seeds, arguments.methods, settings, arguments.jobs
    )
    study = Study(config, arguments.work.absolute(), arguments.packs.absolute())
    refuse_others(study)
    if arguments.estimate:
        expected = estimate(study, prepare(config))
        print(f"estimate: {json.dumps(expected)}", flush=True)
        return expected
    begun = touch(study)
    for seed in config.seeds:
        if not study.pack(seed).exists():
            _run(study.of(seed), begun)
    since = {key: begun[key] for key in ("date", "commit", "digest", "starts")}
    result = summed_up(study) | {"test_touched": since}
    for bar in result["bars"]:
        print(json.dumps({key: bar[key] for key in ("against", "bar", "pass")}))
    records.write(result, arguments.out or records.RESULTS / "eight_sites.json")
    return result


def _run(study: Study, begun: Record) -> None:
    """Run, judge and pack the one seed of `study`."""

    def tell(p: Progress) -> None:
        keep_stage(study, p)
        print(line(p), flush=True)

    run_experiment(study.config, study.run, resume=study.run.exists(), tell=tell)
    judge_and_pack(study, {key: begun[key] for key in ("date", "commit")})


@shortage_explained()
def judge_and_pack(study: Study, touched: Record) -> None:
    """Judge what the finished run of one seed has not judged, and keep what its figures rest on."""
    config = study.config
    with (
        open_run(study.run, config, resume=True) as directory,
        fixed_precision(settle(directory, directory.telling(lambda p: print(line(p))))),
        Workers(prepare(config).sites, config.jobs) as workers,
    ):
        judge = Judge(study, directory, workers)
        judge_all(judge)
        write_pack(judge, touched)


def summed_up(study: Study) -> dict[str, Any]:
    """Everything that the packs come to, ready for JSON."""
    config = study.config
    packs = load_packs(study, prepare(config).sites)
    seeds = [pack.seed for pack in packs]
    found = read(packs)
    draws = weights(found, config.evaluation.bootstrap, config.data.split_seed)
    rows, gained = scores(found, draws), gains(found, draws)
    compared = comparisons(rows, seeds)
    travelled = together([pack.about["bytes"] for pack in packs])
    told = ("seed", "touched", "environment", "communication", "timing")
    return records.circumstances(PACKAGES, seed=config.data.split_seed) | {
        "seeds": seeds,
        "settings": study.settings(),
        "corpus_images": packs[0].about["corpus_images"],
        "sites": packs[0].about["sites"],
        "methods": [{"name": name, "title": TITLES[name]} for name in study.methods],
        "protocols": list(JUDGED_BY),
        "bars": bars(compared, gained, travelled, len(seeds)),
        "comparisons": compared,
        "gains": gained,
        "scores": rows,
        "sources": {f"seed-{pack.seed}": pack.about["sources"] for pack in packs},
        "runs": [{key: pack.about[key] for key in told} for pack in packs],
    }


if __name__ == "__main__":
    main()
