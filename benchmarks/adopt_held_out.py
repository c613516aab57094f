"""Ten labels a class at a hospital that took no part: what is the federation's encoder worth there?

    python benchmarks/adopt_held_out.py DATA            # about 15 minutes of one core a site
    python benchmarks/adopt_held_out.py --smoke         # under a minute, made-up images

For each site, a federation of all others trains the universal encoder: `polyclinic run --hold-out
SITE` with the defaults or what `--set` puts in their place, one seed, this method only, stopped
when it begins to judge the sites that trained, as nothing here rests on that. Then `polyclinic
adopt` fits the same head, by the same plan, to the same 10 training images of each class, three
times: on the universal encoder, on the one after masked image modelling alone (`mim`: that very
run's start, which no site has trained), and on random weights. Every draw of the ten is another
sample, and has random weights of its own. The site's test split, which no draw touches, judges all
three.

Intervals: of the mean over draws, from a bootstrap of test patients (images, where a site names no
patients); and a wider one, which draws the draws as well. Differences are paired by patient and
draw. `over_all` is the mean over the sites, each drawn on its own.

Claim: at each site, the head on the universal encoder has a higher macro AUROC than on the other
two, with both intervals of the difference above 0 (`pass`). The weaker claim, of the mean over the
sites, is `pass_over_all`.

What is finished lies in --work, and is not done again.
"""

import argparse
import contextlib
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import records
from eight_sites_study import configuration
from polyclinic.config import (
    Config,
    DataConfig,
    LocalConfig,
    MimConfig,
    SiteConfig,
    UniversalConfig,
)
from polyclinic.data.dataset import SiteData
from polyclinic.data.phantoms import write_phantoms
from polyclinic.evaluate.bootstrap import cluster_weights, interval, paired_gain
from polyclinic.evaluate.frozen import draw_few
from polyclinic.evaluate.metrics import METRICS, Predictions
from polyclinic.models.adopted import answer
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import State, state_of
from polyclinic.run.adoption import adopt_site
from polyclinic.run.cross_validation import AdoptPlan
from polyclinic.run.directory import open_run
from polyclinic.run.encoder_source import TrainedEncoder, find_encoder, mim_start
from polyclinic.run.experiment import prepare, run_experiment
from polyclinic.run.progress import Progress
from polyclinic.seeding import derive

SITES = ("skin", "chest", "blood", "breast", "brain")
"""The sites that have classes, in the order in which they are held out."""
STARTS = ("universal", "mim", "random")
METRICS_SHOWN = ("auroc", "balanced_accuracy")
Resampled = dict[tuple[str, str], NDArray[np.float64]]
"""(start, metric) to the mean difference of `universal` from it in every resample."""
LABELS = 10  # of each class
SEED = 0
RESAMPLES = 2000


class Trained(Exception):  # noqa: N818 - nothing is wrong
    """The encoders are there: what the run would do next is not needed."""


@dataclass(frozen=True)
class Study:
    """What is run: each site of `sites` held out in turn, `draws` of the ten labels."""

    config: Config
    sites: tuple[str, ...]
    draws: int
    plan: AdoptPlan
    work: Path
    changed: tuple[str, ...] = ()
    """`KEY=VALUE` of the configuration, where it is not the default."""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        study = _smoke(Path(folder)) if arguments.smoke else _study(arguments)
        result = records.circumstances(["polyclinic", "torch", "numpy"], seed=SEED)
        result |= _settings(study)
        sites, resampled = [], []
        for name in study.sites:
            row, gains = _site(study, name)
            sites.append(row)
            resampled.append(gains)
            summary = {key: row["over"][key]["auroc"] for key in STARTS[1:]}
            print(json.dumps({"site": name} | summary))
            over_all = _over_all(sites, resampled)
            result |= {"sites": sites, "pass": all(site["holds"] for site in sites)}
            result |= {"over_all": over_all}
            result |= {"pass_over_all": all(g["auroc"]["low"] > 0 for g in over_all.values())}
            if arguments.out or not arguments.smoke:  # after each, as they take long
                records.write(result, arguments.out or records.RESULTS / "adopt_held_out.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, help="folder with sites/ and corpus/")
    parser.add_argument("--sites", nargs="+", default=list(SITES), help="which to hold out")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
        help="settings in place of the defaults, as docs/method.md has them",
    )  # fmt: skip
    parser.add_argument("--draws", type=int, default=12, help="samples of the labels (default 12)")
    work = records.ROOT / "runs" / "adopt-held-out"
    parser.add_argument("--work", type=Path, default=work, help="folder for what is done")
    parser.add_argument("--smoke", action="store_true", help="made-up images, little training")
    parser.add_argument("--out", type=Path, help="result file")
    arguments = parser.parse_args()
    if not arguments.smoke and arguments.data is None:
        parser.error("DATA is missing: a folder with sites/ and corpus/")
    return arguments


def _study(arguments: argparse.Namespace) -> Study:
    config = configuration(arguments.data, (SEED,), ("universal",), arguments.settings, jobs=1)
    plan = AdoptPlan(bootstrap=20)  # the card's intervals, which nobody reads here
    sites, changed = tuple(arguments.sites), tuple(arguments.settings)
    return Study(config, sites, arguments.draws, plan, arguments.work, changed)


def _smoke(folder: Path) -> Study:
    clinics = write_phantoms(
        folder / "clinics", images_per_site=96, corpus_images=32, image_size=32
    )
    sites = tuple(SiteConfig(n, clinics / "sites" / n) for n in ("blood", "breast", "chest"))
    config = Config(
        sites=sites,
        corpus=clinics / "corpus",
        name="smoke",
        seeds=(SEED,),
        methods=("universal",),
        data=DataConfig(image_size=16),
        mim=MimConfig(epochs=1),
        local=LocalConfig(stages=1, min_steps=2, max_steps=2),
        universal=UniversalConfig(distil_every=1, distil_epochs=1),
    )
    return Study(config, ("breast", "chest"), 2, AdoptPlan(bootstrap=20, folds=2), folder / "work")


def _settings(study: Study) -> dict[str, Any]:
    c = study.config
    return {
        "threads": torch.get_num_threads(),
        "labels_per_class": LABELS,
        "draws": study.draws,
        "resamples": RESAMPLES,
        "adopt": {"fine_tune": study.plan.fine_tune, "folds": study.plan.folds},
        "federation": {
            "sites": [site.name for site in c.sites],
            "methods": list(c.methods),
            "seeds": list(c.seeds),
            "stages": c.local.stages,
            "image_size_px": c.data.image_size,
            "mim_epochs": c.mim.epochs,
            "in_place_of_defaults": list(study.changed),
            "note": "stopped before the sites that trained are judged",
        },
    }


def _site(study: Study, name: str) -> tuple[dict[str, Any], Resampled]:
    """Hold `name` out, adopt it in every way, and compare."""
    config = replace(study.config, hold_out=(name,))
    run = study.work / name
    _train(config, run, study.work / "start.safetensors")
    found = find_encoder(run)
    site = prepare(config).held_out[name]
    start = mim_start(found)
    assert start is not None  # every run begins with it
    said: dict[str, list[Predictions]] = {key: [] for key in STARTS}
    for draw in range(study.draws):
        few = draw_few(site, LABELS, draw, name)
        states: dict[str, State] = {
            "universal": found.state,
            "mim": start,
            "random": state_of(build_encoder(found.preset, draw)),
        }
        for key, state in states.items():
            path = run / "adopted" / f"{key}-{draw:02d}.npz"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                adopted = replace(found, state=state, origin={"start": key})
                _answers(adopted, few, replace(study.plan, seed=draw)).save(path)
            said[key].append(Predictions.load(path))
        print(f"{name}: draw {draw + 1}/{study.draws}", flush=True)
    weights = cluster_weights(site.patients[site.split["test"]], RESAMPLES, SEED)
    gains = {
        (key, metric): _both_drawn(said["universal"], said[key], metric, weights, name)
        for key in STARTS[1:]
        for metric in METRICS_SHOWN
    }
    return _compared(site, said, weights, gains) | {
        "federation_without_it": [s.name for s in config.sites if s.name != name],
        "mim_start_sha256": _sha256(run / f"seed-{SEED}" / "mim" / "start.safetensors"),
    }, gains


def _train(config: Config, run: Path, start: Path) -> None:
    """The federation without its held-out site. All of them share what precedes it: `start`."""
    if (run / f"seed-{SEED}" / "universal" / "encoders" / "encoder.safetensors").exists():
        open_run(run, config, resume=True).close()  # refuses what other settings have trained
        return
    own = run / f"seed-{SEED}" / "mim" / "start.safetensors"
    if start.exists() and not own.exists():
        open_run(run, config, resume=run.exists()).close()
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(start, own)
    with contextlib.suppress(Trained):
        run_experiment(config, run, resume=run.exists(), tell=_tell)
    if not start.exists():
        shutil.copyfile(own, start)


def _answers(found: TrainedEncoder, few: SiteData, plan: AdoptPlan) -> Predictions:
    """What the model that `adopt` makes of the few images says about the test split."""
    rows = few.split["train"]
    nobody = np.zeros(0, np.int64)
    given = replace(
        few,
        images=few.images[rows],
        targets=few.targets[rows],
        patients=few.patients[rows],
        keys=tuple(few.keys[row] for row in rows),
        split={"train": np.arange(len(rows)), "val": nobody, "test": nobody},
    )
    model = adopt_site(found, given, plan)
    tested = few.split["test"]
    scores = torch.cat(
        [
            answer(model, torch.from_numpy(few.images[part]).float() / 255).scores
            for part in np.array_split(tested, -(-len(tested) // 64))
        ]
    )
    truth, patients = few.targets[tested], few.patients[tested]
    return Predictions(few.task, truth, scores.double().numpy(), patients)


def _compared(
    site: SiteData,
    said: dict[str, list[Predictions]],
    weights: NDArray[np.int32],
    resampled: Resampled,
) -> dict[str, Any]:
    tested = site.patients[site.split["test"]]
    rows: dict[str, Any] = {
        "site": site.name,
        "colour": site.images.shape[1] == 3,
        "classes": len(site.classes),
        "test_images": len(tested),
        "test_patients": len(np.unique(tested)) if site.has_patient_ids else None,
        "scores": {
            key: {m: _row(interval(said[key], m, weights)) for m in METRICS_SHOWN} for key in STARTS
        },
        "over": {},
    }
    for key in STARTS[1:]:
        rows["over"][key] = {
            metric: _row(paired_gain(said["universal"], said[key], metric, weights))
            | {"with_draws": _ends(resampled[key, metric])}
            for metric in METRICS_SHOWN
        }
    gains = [rows["over"][key]["auroc"] for key in STARTS[1:]]
    rows["holds"] = all(min(g["low"], g["with_draws"]["low"]) > 0 for g in gains)
    return rows


def _row(estimate: Any) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "draws": list(estimate.per_seed),
    }


def _both_drawn(
    ours: list[Predictions],
    theirs: list[Predictions],
    metric: str,
    weights: NDArray[np.int32],
    name: str,
) -> NDArray[np.float64]:
    """The mean difference in every resample, patients and draws of labels both drawn."""
    rng = np.random.default_rng(derive(SEED, name))
    D = len(ours)
    apart = np.stack(
        [
            METRICS[metric](a, weights) - METRICS[metric](b, weights)
            for a, b in zip(ours, theirs, strict=True)
        ]
    )  # (D, resamples)
    chosen = rng.integers(0, D, (D, len(weights)))
    means: NDArray[np.float64] = np.take_along_axis(apart, chosen, axis=0).mean(0)
    return means


def _ends(means: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.nanquantile(means, [0.025, 0.975]).tolist()
    return {"low": low, "high": high}


def _over_all(sites: list[dict[str, Any]], resampled: list[Resampled]) -> dict[str, Any]:
    """The mean difference over the sites so far, every site counting alike."""
    return {
        key: {
            metric: {"value": float(np.mean([s["over"][key][metric]["value"] for s in sites]))}
            | _ends(np.mean([gains[key, metric] for gains in resampled], axis=0))
            for metric in METRICS_SHOWN
        }
        for key in STARTS[1:]
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tell(p: Progress) -> None:
    if p.phase == "probe":
        raise Trained
    print(f"{100 * p.done:5.1f} % {p.phase} {p.stage}/{p.stages} {p.site} {p.message}", flush=True)


if __name__ == "__main__":
    main()
