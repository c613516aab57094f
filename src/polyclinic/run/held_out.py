"""Sites that took no part: what an encoder is worth where nobody trained it."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.bootstrap import Estimate, cluster_weights, interval, paired_gain
from polyclinic.evaluate.frozen import few_labels
from polyclinic.evaluate.metrics import Predictions, metrics_of, primary_metric
from polyclinic.evaluate.protocols import linear_probe
from polyclinic.models.state import State, disk_error
from polyclinic.models.training import TrainPlan
from polyclinic.run import work
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.work import Meter

LABELS: tuple[int | None, ...] = (10, 50, None)
"""Training images of each class that a probe may use; None for all."""
OWN = ("local", "scratch", "fedbn")
"""Methods that have an encoder for each site, and none for a site that did not train."""
OVER = "mim"


def judge_held_out(
    directory: RunDirectory[Config],
    sites: Mapping[str, SiteData],
    encoders: Mapping[str, State],
    plan: TrainPlan,
    method: str,
    seed: int,
    meter: Meter,
) -> None:
    """Judge a method's encoder at each held-out site, each test split once for each of `LABELS`."""
    config = directory.config
    for name, site in sites.items():
        for labels in LABELS if method not in OWN else ():
            cost = work.held_out(config, site, 1)
            path = _path(directory.path, seed, method, name, labels)
            unit = f"seed-{seed}/{method}/held-out/{name}/{_label(labels)}"
            if unit in directory.records and path.exists():
                meter.skip(cost)
                continue
            began = time.perf_counter()
            encoder = next(iter(encoders.values()))
            if labels is None:
                tried = (seed, method, "linear-probe", name)
                outcome = linear_probe(config.preset, encoder, site, plan, *tried)
            else:
                outcome = few_labels(config.preset, encoder, site, plan, labels, seed, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                outcome.predictions.save(path)
            except OSError as error:
                raise disk_error(error, path) from None
            directory.record(
                {
                    "unit": unit,
                    "kind": "held-out",
                    "method": method,
                    "seed": seed,
                    "site": name,
                    "labels_per_class": labels,
                    "test_images": len(outcome.predictions),
                    "seconds": time.perf_counter() - began,
                }
            )
            meter.advance(cost, "probe", method=method, seed=seed, site=f"{name}, held out")


def held_out_work(config: Config, sites: Mapping[str, SiteData]) -> float:
    """Work of all probes at held-out sites in a run."""
    methods = [method for method in config.methods if method not in OWN]
    once = sum(work.held_out(config, site, len(LABELS)) for site in sites.values())
    return once * len(methods) * len(config.seeds)


def held_out_results(
    directory: RunDirectory[Config], sites: Mapping[str, SiteData]
) -> dict[str, Any]:
    """Scores, and gains over masked image modelling, at the held-out sites, as in results.json."""
    config = directory.config
    scores: list[Record] = []
    gains: list[Record] = []
    for name, site in sites.items():
        weights = cluster_weights(
            site.patients[site.split["test"]], config.evaluation.bootstrap, config.data.split_seed
        )
        main = primary_metric(site.task)
        for labels in LABELS:
            found: dict[str, dict[int, Predictions]] = {
                m: _predictions(directory, m, name, labels) for m in config.methods
            }
            for method, by_seed in found.items():
                about: Record = {"method": method, "site": name, "labels_per_class": labels}
                for metric in metrics_of(site.task) if by_seed else ():
                    estimate = interval(list(by_seed.values()), metric, weights)
                    row = {**about, "metric": metric, "primary": metric == main}
                    scores.append(row | estimate_row(estimate, by_seed))
                shared = sorted(by_seed.keys() & found.get(OVER, {}).keys())
                if shared and method != OVER:
                    ours = [by_seed[s] for s in shared]
                    gain = paired_gain(ours, [found[OVER][s] for s in shared], main, weights)
                    row = {**about, "over": OVER, "metric": main}
                    gains.append(row | estimate_row(gain, shared))
    return {"scores": scores, "gains": gains}


def _predictions(
    directory: RunDirectory[Config], method: str, site: str, labels: int | None
) -> dict[int, Predictions]:
    seeds = directory.config.seeds
    paths = {seed: _path(directory.path, seed, method, site, labels) for seed in seeds}
    return {seed: Predictions.load(path) for seed, path in paths.items() if path.exists()}


def _path(run: Path, seed: int, method: str, site: str, labels: int | None) -> Path:
    return run / f"seed-{seed}" / method / "held-out" / f"{site}.probe-{_label(labels)}.npz"


def _label(labels: int | None) -> str:
    return "all" if labels is None else str(labels)


def estimate_row(estimate: Estimate, seeds: Iterable[int]) -> Record:
    """An estimate as rows of results.json hold it: value, interval, and the value of each seed."""
    per_seed = zip(seeds, estimate.per_seed, strict=True)
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "seeds": [{"seed": seed, "value": value} for seed, value in per_seed],
    }
