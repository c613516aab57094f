"""From a run's records and predictions to results.json (documented in docs/results.md)."""

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic import __version__
from polyclinic.config import Config, config_to_dict
from polyclinic.data.dataset import SPLITS, Finding, SiteData
from polyclinic.evaluate.bootstrap import cluster_weights, interval, paired_gain
from polyclinic.evaluate.metrics import Predictions, metrics_of, primary_metric
from polyclinic.evaluate.predictions import score
from polyclinic.evaluate.protocols import PROTOCOLS
from polyclinic.evaluate.statistics import compare
from polyclinic.federation.methods import METHODS, TITLES
from polyclinic.models.device import describe
from polyclinic.models.encoder import build_encoder
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.examples import read_examples
from polyclinic.run.held_out import estimate_row, held_out_results
from polyclinic.run.predictions import load_predictions
from polyclinic.run.privacy import statements
from polyclinic.run.roles import BASELINES, lead_method, who_took_part

Cell = tuple[str, str, str]  # method, site, protocol
Found = dict[Cell, Mapping[int, Predictions]]


def collect(
    directory: RunDirectory[Config],
    sites: Mapping[str, SiteData],
    corpus: NDArray[np.uint8],
    corpus_findings: Sequence[Finding] = (),
    held_out: Mapping[str, SiteData] | None = None,
    *,
    finished: bool = False,
) -> dict[str, Any]:
    """Everything that a run has found so far, ready for JSON (NaN becomes null).

    What the directory holds of methods and seeds that are no longer configured is left out.
    """
    config = directory.config
    found = _predictions(directory, sites)
    weights = {
        name: cluster_weights(
            site.patients[site.split["test"]], config.evaluation.bootstrap, config.data.split_seed
        )
        for name, site in sites.items()
    }
    records = [
        r
        for r in directory.records.values()
        if r["seed"] in config.seeds and ("method" not in r or r["method"] in config.methods)
    ]
    results: dict[str, Any] = {
        "schema": "polyclinic.results/1",
        "name": config.name,
        "version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "finished": finished,
        "quick": config.quick,
        "seeds": list(config.seeds),
        "encoder": {
            "preset": config.preset,
            "parameters": sum(p.numel() for p in build_encoder(config.preset).parameters()),
            "image_size": config.data.image_size,
        },
        "environment": describe(),
        "corpus": {
            "images": len(corpus),
            "path": str(config.corpus),
            "findings": [dataclasses.asdict(f) for f in corpus_findings],
        },
        "sites": [_site(site) for site in sites.values()],
        "methods": [
            {"name": m, "title": TITLES[m], "summary": _summary(m)} for m in config.methods
        ],
        "scores": _scores(found, sites, weights),
        "gains": _gains(found, sites, weights),
        "comparisons": _comparisons(config, found, sites),
        "communication": _communication(records),
        "timing": _timing(records, config),
        "participation": _participation(records),
        "curves": _curves(records),
        "confusion": _confusion(found, sites),
        "examples": read_examples(directory.path / "examples", config.methods),
        "config": config_to_dict(config),
    }
    if held_out:
        found_there = held_out_results(directory, held_out)
        results["held_out"] = {"sites": [_site(s) for s in held_out.values()], **found_there}
    own, server = statements(directory, sites)
    if config.privacy.epsilon:
        for row in results["sites"]:
            row["privacy"] = own[row["name"]]
    if config.privacy.site_epsilon:
        results["site_privacy"] = server
    clean: dict[str, Any] = _without_nan(results)
    return clean


def _predictions(directory: RunDirectory[Config], sites: Mapping[str, SiteData]) -> Found:
    config = directory.config
    cells = ((m, s, p) for m in config.methods for s in sites for p in PROTOCOLS)
    found = {(m, s, p): load_predictions(directory.path, config, m, s, p) for m, s, p in cells}
    return {cell: by_seed for cell, by_seed in found.items() if by_seed}


def _site(site: SiteData) -> Record:
    counts = {}
    if site.task == "single-label":
        for split in SPLITS:
            values = site.targets[site.split[split]].astype(np.int64)
            counts[split] = np.bincount(values, minlength=len(site.classes)).tolist()
    return {
        "name": site.name,
        "task": site.task,
        "format": site.format,
        "images": len(site),
        "patients": len(np.unique(site.patients)) if site.has_patient_ids else None,
        "classes": list(site.classes),
        "channels": site.images.shape[1],
        "size": list(site.images.shape[2:]),
        "split": {split: len(site.split[split]) for split in SPLITS},
        "metric": primary_metric(site.task),
        "class_counts": counts,
        "findings": [dataclasses.asdict(f) for f in site.findings],
    }


def _summary(method: str) -> str:
    return (METHODS[method].__doc__ or "").strip().splitlines()[0]


def _scores(
    found: Found, sites: Mapping[str, SiteData], weights: Mapping[str, NDArray[np.int32]]
) -> list[Record]:
    rows = []
    for (method, site, protocol), by_seed in found.items():
        task = sites[site].task
        for metric in metrics_of(task):
            estimate = interval(list(by_seed.values()), metric, weights[site])
            rows.append(
                {
                    "method": method,
                    "site": site,
                    "protocol": protocol,
                    "metric": metric,
                    "primary": metric == primary_metric(task),
                    **estimate_row(estimate, by_seed),
                }
            )
    return rows


def _gains(
    found: Found, sites: Mapping[str, SiteData], weights: Mapping[str, NDArray[np.int32]]
) -> list[Record]:
    rows = []
    for (method, site, protocol), by_seed in found.items():
        for baseline in BASELINES:
            other = found.get((baseline, site, protocol), {})
            shared = sorted(by_seed.keys() & other.keys())
            if method in BASELINES or not shared:
                continue
            metric = primary_metric(sites[site].task)
            ours, theirs = [by_seed[s] for s in shared], [other[s] for s in shared]
            estimate = paired_gain(ours, theirs, metric, weights[site])
            rows.append(
                {
                    "method": method,
                    "over": baseline,
                    "site": site,
                    "protocol": protocol,
                    "metric": metric,
                    **estimate_row(estimate, shared),
                }
            )
    order = {name: i for i, name in enumerate(METHODS)}
    rows.sort(
        key=lambda r: (order[str(r["method"])], r["over"], r["protocol"], _nan_last(r["value"]))
    )
    return rows


def _comparisons(config: Config, found: Found, sites: Mapping[str, SiteData]) -> list[Record]:
    lead = lead_method(config.methods)
    if lead is None:
        return []
    rows: list[Record] = []
    for protocol in PROTOCOLS:
        scores = {
            (method, site, seed): score(predictions, primary_metric(sites[site].task))
            for (method, site, p), by_seed in found.items()
            if p == protocol
            for seed, predictions in by_seed.items()
        }
        others = [m for m in config.methods if m != lead]
        for comparison in compare(scores, lead, others):
            rows.append({"protocol": protocol, **dataclasses.asdict(comparison)})
    return rows


def _communication(records: Iterable[Record]) -> list[Record]:
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    seeds: dict[str, set[int]] = defaultdict(set)
    for record in records:
        if record["kind"] != "stage":
            continue
        seeds[record["method"]].add(record["seed"])
        for site, said in record["sites"].items():
            total = sums[record["method"], site]
            total[0] += said.get("bytes_up", 0)
            total[1] += said.get("bytes_down", 0)
            total[2] += said.get("messages", 2) if said.get("bytes_up") else 0
    return [
        {
            "method": method,
            "site": site,
            "bytes_up": up // len(seeds[method]),
            "bytes_down": down // len(seeds[method]),
            "messages": messages // len(seeds[method]),
        }
        for (method, site), (up, down, messages) in sums.items()
    ]


def _timing(records: Sequence[Record], config: Config) -> list[Record]:
    rows = []
    for method in config.methods:
        mine = [r for r in records if r.get("method") == method]
        seeds = max(1, len({r["seed"] for r in mine}))
        training = [r["seconds"] for r in mine if r["kind"] in ("stage", "pretraining")]
        judging = [r["seconds"] for r in mine if r["kind"] == "judged"]
        peaks = [r["peak_memory_mib"] for r in mine if "peak_memory_mib" in r]
        rows.append(
            {
                "method": method,
                "seconds": (sum(training) + sum(judging)) / seeds,
                "train_seconds": sum(training) / seeds,
                "evaluate_seconds": sum(judging) / seeds,
                "peak_memory_mib": max(peaks, default=math.nan),
            }
        )
    return rows


def _participation(records: Iterable[Record]) -> list[Record]:
    return [
        {
            "method": r["method"],
            "seed": r["seed"],
            "stage": r["stage"],
            "present": list(r["sites"]),
            "absent": r["absent"],
            "took_part": who_took_part(r["sites"], [a["site"] for a in r["absent"]]),
        }
        for r in records
        if r["kind"] == "stage"
    ]


def _curves(records: Iterable[Record]) -> list[Record]:
    return [
        {
            "method": r["method"],
            "seed": r["seed"],
            "stage": r["stage"],
            "site": site,
            "received": said["received_score"],
            "trained": said["trained_score"],
            "loss": said["loss"],
            "bytes_up": said.get("bytes_up", 0),
        }
        for r in records
        if r["kind"] == "stage"
        for site, said in r["sites"].items()
    ]


def _confusion(found: Found, sites: Mapping[str, SiteData]) -> list[Record]:
    rows = []
    for (method, site, protocol), by_seed in found.items():
        if sites[site].task != "single-label" or protocol != "fine-tune":
            continue
        k = len(sites[site].classes)
        matrix = np.zeros((k, k), np.int64)
        for predictions in by_seed.values():
            np.add.at(matrix, (predictions.truth.astype(int), predictions.scores.argmax(1)), 1)
        rows.append(
            {
                "method": method,
                "site": site,
                "protocol": protocol,
                "classes": list(sites[site].classes),
                "matrix": matrix.tolist(),
            }
        )
    return rows


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return int(value) if isinstance(value, np.integer) else value
