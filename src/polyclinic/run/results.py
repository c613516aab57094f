"""From a run's records and predictions to results.json (documented in docs/results.md)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.config import Config, config_to_dict
from polyclinic.data.dataset import SPLITS, Finding, SiteData
from polyclinic.evaluate.bootstrap import cluster_weights, interval, paired_gain
from polyclinic.evaluate.metrics import Predictions, metrics_of, primary_metric
from polyclinic.evaluate.predictions import score
from polyclinic.evaluate.protocols import PROTOCOLS
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.examples import read_examples
from polyclinic.run.held_out import estimate_row, held_out_results
from polyclinic.run.predictions import load_predictions
from polyclinic.run.privacy import statements
from polyclinic.run.record_rows import (
    communication,
    comparisons,
    configured,
    curves,
    described,
    heading,
    participation,
    timing,
    without_nan,
    worst_first,
)
from polyclinic.run.roles import BASELINES

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
    records = configured(directory)
    results: dict[str, Any] = {
        **heading(config, len(corpus), corpus_findings, finished=finished),
        "sites": [_site(site) for site in sites.values()],
        "methods": described(config.methods),
        "scores": _scores(found, sites, weights),
        "gains": _gains(found, sites, weights),
        "comparisons": _comparisons(config, found, sites),
        "communication": communication(records),
        "timing": timing(records, config),
        "participation": participation(records),
        "curves": curves(records),
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
    clean: dict[str, Any] = without_nan(results)
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
    return worst_first(rows)


def _comparisons(config: Config, found: Found, sites: Mapping[str, SiteData]) -> list[Record]:
    return comparisons(
        config.methods,
        {
            (method, site, protocol, seed): score(predictions, primary_metric(sites[site].task))
            for (method, site, protocol), by_seed in found.items()
            for seed, predictions in by_seed.items()
        },
    )


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
