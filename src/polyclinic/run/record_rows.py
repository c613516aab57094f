"""What of results.json comes from a run's configuration, its records and its scores alone.

The same for a run in one process and for a server whose sites keep their data to themselves.
"""

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from polyclinic import __version__
from polyclinic.config import Config
from polyclinic.data.dataset import Finding
from polyclinic.evaluate.protocols import PROTOCOLS
from polyclinic.evaluate.statistics import compare
from polyclinic.federation.knowledge import GAINS
from polyclinic.federation.methods import METHODS, TITLES
from polyclinic.models.device import describe
from polyclinic.models.encoder import build_encoder
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.roles import lead_method, who_took_part


def configured(directory: RunDirectory[Config]) -> list[Record]:
    """The records of the methods and seeds that are still configured."""
    config = directory.config
    return [
        r
        for r in directory.records.values()
        if r["seed"] in config.seeds and ("method" not in r or r["method"] in config.methods)
    ]


def heading(
    config: Config, corpus: int, corpus_findings: Sequence[Finding], *, finished: bool
) -> Record:
    """What stands at the top; `corpus` is its number of images."""
    return {
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
            "images": corpus,
            "path": str(config.corpus),
            "findings": [dataclasses.asdict(f) for f in corpus_findings],
        },
    }


def described(methods: Iterable[str]) -> list[Record]:
    """Name, title and first sentence of each method."""
    return [
        {
            "name": m,
            "title": TITLES[m],
            "summary": (METHODS[m].__doc__ or "").strip().splitlines()[0],
        }
        for m in methods
    ]


def comparisons(
    methods: Sequence[str], scores: Mapping[tuple[str, str, str, int], float]
) -> list[Record]:
    """The leading method against each other; keys are (method, site, protocol, seed)."""
    lead = lead_method(methods)
    if lead is None:
        return []
    rows: list[Record] = []
    for protocol in PROTOCOLS:
        own = {(m, site, seed): v for (m, site, p, seed), v in scores.items() if p == protocol}
        for comparison in compare(own, lead, [m for m in methods if m != lead]):
            rows.append({"protocol": protocol, **dataclasses.asdict(comparison)})
    return rows


def worst_first(gains: list[Record]) -> list[Record]:
    """Gains in the order of `METHODS`, the worst first within method, baseline and protocol."""
    order = {name: i for i, name in enumerate(METHODS)}
    return sorted(
        gains,
        key=lambda r: (order[str(r["method"])], r["over"], r["protocol"], _nan_last(r["value"])),
    )


def communication(records: Iterable[Record]) -> list[Record]:
    """Bytes and messages of each method and site, mean over seeds."""
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


def timing(records: Sequence[Record], config: Config, *, judged_here: bool = True) -> list[Record]:
    """Seconds and memory of each method, mean over seeds.

    Without `judged_here` sites judge encoders by themselves, for how long nobody knows.
    """
    rows = []
    for method in config.methods:
        mine = [r for r in records if r.get("method") == method]
        seeds = max(1, len({r["seed"] for r in mine}))
        training = [r["seconds"] for r in mine if r["kind"] in ("stage", "pretraining")]
        judging = [r["seconds"] for r in mine if r["kind"] == "judged"]
        evaluated = sum(judging) if judged_here else math.nan
        peaks = [r["peak_memory_mib"] for r in mine if "peak_memory_mib" in r]
        rows.append(
            {
                "method": method,
                "seconds": (sum(training) + evaluated) / seeds,
                "train_seconds": sum(training) / seeds,
                "evaluate_seconds": evaluated / seeds,
                "peak_memory_mib": max(peaks, default=math.nan),
            }
        )
    return rows


def participation(records: Iterable[Record]) -> list[Record]:
    """Who took part in each stage, and who was absent, and why."""
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


def curves(records: Iterable[Record]) -> list[Record]:
    """Validation scores and the loss of each stage at each site."""
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
            **{gain: said[gain] for gain in sorted(GAINS) if gain in said},
        }
        for r in records
        if r["kind"] == "stage"
        for site, said in r["sites"].items()
    ]


def without_nan(value: Any) -> Any:
    """`value` for JSON: NaN becomes None, and numbers of NumPy become Python's."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return int(value) if isinstance(value, np.integer) else value


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
