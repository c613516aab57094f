"""results.json of a federation across machines: what its server knows, and nothing else.

It knows who took part, what passed, how long that took, and the scores that sites tell. It does not
know what the sites hold, by which metric they score, or how sure the scores are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from polyclinic.config import Config, config_to_dict
from polyclinic.data.dataset import Finding
from polyclinic.deploy.site_work import SCORE_NAMES
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.privacy import NOT_PRIVATE, statements
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

JUDGED, NOT_JUDGED = "judged-at-site", "not-judged-at-site"
"""Kinds of record: a site has judged a final encoder; it was asked to and was away or refused."""
METRIC = "primary"
"""In place of a metric's name: each site scores by its own, and does not say which that is."""
Scores = Mapping[tuple[str, str, str, int], float]  # method, site, protocol, seed


def collect(
    directory: RunDirectory[Config],
    corpus: int,
    corpus_findings: Sequence[Finding] = (),
    *,
    finished: bool,
) -> Record:
    """All that the server knows so far, ready for JSON; `corpus` is its number of images."""
    config, records = directory.config, configured(directory)
    judged = last_judged(records)
    scores = {
        (r["method"], r["site"], protocol, r["seed"]): r["scores"][name]
        for r in judged
        for protocol, name in SCORE_NAMES.items()
        if r["scores"].get(name) is not None
    }
    results: Record = {
        **heading(config, corpus, corpus_findings, finished=finished),
        "deployed": True,
        "sites": [_site(site.name, config, records, judged) for site in config.sites],
        "methods": described(config.methods),
        "scores": _scores(scores),
        "gains": worst_first(_gains(scores)),
        "comparisons": comparisons(config.methods, scores),
        "communication": communication(records),
        "timing": timing(records, config, judged_here=False),
        "participation": participation(records),
        "curves": curves(records),
        "confusion": [],
        "examples": [],
        "config": config_to_dict(config),
    }
    privacy = config.privacy
    if privacy.epsilon:
        results["privacy_limit"] = {
            "epsilon": privacy.epsilon,
            "delta": privacy.delta,
            "unit": privacy.unit,
            "methods": [m for m in config.methods if m not in NOT_PRIVATE],
        }
    if privacy.site_epsilon:
        results["site_privacy"] = statements(directory, [])[1]
    clean: Record = without_nan(results)
    return clean


def last_judged(records: Iterable[Record]) -> list[Record]:
    """What each site said last of a final encoder: its scores, or why it was absent."""
    last = {
        (r["method"], r["seed"], r["site"]): r for r in records if r["kind"] in (JUDGED, NOT_JUDGED)
    }
    return list(last.values())


def _site(name: str, config: Config, records: Sequence[Record], judged: Sequence[Record]) -> Record:
    """What is known of a site. How large it is it tells with its updates, without a budget."""
    told = [r["sites"][name] for r in records if r["kind"] == "stage" and name in r["sites"]]
    number = int(told[-1]["examples"]) if told and not config.privacy.epsilon else None
    return {
        "name": name,
        "metric": METRIC,
        "training_images": number,
        "judged": [
            {
                "method": r["method"],
                "seed": r["seed"],
                "scores": _said(r),
                "reason": r["absent"] or "",
            }
            for r in judged
            if r["site"] == name
        ],
    }


def _said(record: Record) -> str:
    if record["absent"]:
        return "absent"
    return "told" if any(v is not None for v in record["scores"].values()) else "kept"


def _scores(scores: Scores) -> list[Record]:
    rows = []
    for method, site, protocol in dict.fromkeys(key[:3] for key in scores):
        by_seed = _by_seed(scores, method, site, protocol)
        about = {"method": method, "site": site, "protocol": protocol}
        rows.append({**about, "metric": METRIC, "primary": True, **_estimate(by_seed)})
    return rows


def _gains(scores: Scores) -> list[Record]:
    rows = []
    for method, site, protocol in dict.fromkeys(key[:3] for key in scores):
        ours = _by_seed(scores, method, site, protocol)
        for over in BASELINES:
            theirs = _by_seed(scores, over, site, protocol)
            shared = {seed: ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()}
            if method in BASELINES or not shared:
                continue
            about = {"method": method, "over": over, "site": site, "protocol": protocol}
            rows.append({**about, "metric": METRIC, **_estimate(shared)})
    return rows


def _by_seed(scores: Scores, method: str, site: str, protocol: str) -> dict[int, float]:
    wanted = (method, site, protocol)
    return {key[3]: value for key, value in scores.items() if key[:3] == wanted}


def _estimate(by_seed: Mapping[int, float]) -> dict[str, Any]:
    """A mean over seeds; the interval takes test images, which are at the site."""
    seeds = [{"seed": seed, "value": by_seed[seed]} for seed in sorted(by_seed)]
    return {"value": float(np.mean([*by_seed.values()])), "low": None, "high": None, "seeds": seeds}
