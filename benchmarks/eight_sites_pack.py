"""What is left of one seed of the comparison: all that its figures rest on, in a file of its own.

Seeds take hours each, and may be run days apart or on machines of one kind; the comparison is
summed up from the packs that are there. A pack has no image, label or patient: what is true comes
from the sites' data again, and must be what it was (a digest says so). Scores are kept as their
ranks within each class where the site's metric is AUROC, which depends on nothing else.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eight_sites_bytes import communication
from eight_sites_cells import Judge, applies
from eight_sites_study import JUDGED_BY, SINGLE, Record, Study, digest
from polyclinic.data.dataset import SiteData
from polyclinic.data.writing import writing
from polyclinic.errors import RunError
from polyclinic.evaluate.metrics import Predictions, primary_metric
from polyclinic.models.state import disk_error
from polyclinic.run.directory import read_json

Cell = tuple[str, str, str]  # method, protocol, site
ABOUT = "about"
SITE = ("name", "task", "metric", "images", "patients", "split", "class_counts")


@dataclass(frozen=True)
class Pack:
    """One seed: what every method said about the test splits, and what else is to be told."""

    seed: int
    cells: Mapping[Cell, Predictions]
    about: Record


def write_pack(judge: Judge, touched: Record) -> None:
    """Write what the finished and judged seed of `judge` comes to; `touched` says since when."""
    study, sites = judge.study, judge.workers.sites
    (seed,) = study.config.seeds
    ran = read_json(study.run / "results.json")
    about: Record = {
        "seed": seed,
        "digest": digest(study.settings()),
        "data": {name: truth(site) for name, site in sites.items()},
        "touched": touched,
        "environment": ran["environment"],
        "corpus_images": ran["corpus"]["images"],
        "sites": [{key: site[key] for key in SITE} for site in ran["sites"]],
        "communication": ran["communication"],
        "timing": ran["timing"],
        "bytes": communication(judge),
        "sources": {},
    }
    if SINGLE in study.methods:
        about["sources"] = {name: read_json(study.choice(seed, name)) for name in sites}
    found = {
        (method, protocol, name): Predictions.load(study.cell(seed, method, name, protocol))
        for method, protocol, name in cells(study, sites)
    }
    save_pack(study.pack(seed), about, found)


def save_pack(path: Path, about: Record, found: Mapping[Cell, Predictions]) -> None:
    """Write a pack; `about` has `seed`, the settings' `digest`, and `data`, each site's `truth`."""
    arrays = {"/".join(cell): _kept(predictions) for cell, predictions in found.items()}
    arrays[ABOUT] = np.array(json.dumps(about))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise disk_error(error, path) from None


def load_packs(study: Study, sites: Mapping[str, SiteData]) -> list[Pack]:
    """Every seed that is there, in order; `RunError` where one has other settings or data."""
    return [_load(study, path, sites) for path in study.packed()]


def cells(study: Study, sites: Mapping[str, SiteData]) -> list[Cell]:
    """Every method, protocol and site that go together."""
    return [
        (method, protocol, name)
        for method in study.methods
        for protocol in JUDGED_BY
        for name, site in sites.items()
        if applies(protocol, site.task)
    ]


def _load(study: Study, path: Path, sites: Mapping[str, SiteData]) -> Pack:
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file[ABOUT]))
        if about["digest"] != digest(study.settings()):
            raise RunError(
                f"{path}: of other settings than these; give the same ones, or another --packs"
            )
        if other := [name for name in sites if about["data"][name] != truth(sites[name])]:
            raise RunError(
                f"{path}: the test split of {', '.join(other)} is not the one that it was judged "
                "on; give the same data"
            )
        found: dict[Cell, Predictions] = {}
        for key in file.files:
            if key != ABOUT:
                method, protocol, name = key.split("/")
                found[method, protocol, name] = _predictions(sites[name], file[key])
    return Pack(int(about["seed"]), found, about)


def _kept(found: Predictions) -> NDArray[Any]:
    if found.task == "segmentation":
        return found.counts.astype(np.int32)
    if primary_metric(found.task) != "auroc":
        return found.scores
    ranks = rankdata(found.scores, method="dense", axis=0)
    return ranks.astype(np.uint16 if len(found) < 2**16 else np.uint32)


def _predictions(site: SiteData, kept: NDArray[Any]) -> Predictions:
    tested = site.split["test"]
    patients = site.patients[tested]
    if site.task == "segmentation":
        return Predictions.segmentation(kept.astype(np.int64), patients)
    return Predictions(site.task, site.targets[tested], kept.astype(np.float64), patients)


def truth(site: SiteData) -> str:
    """The digest of the test split's labels or masks, and of whose they are."""
    tested = site.split["test"]
    found = hashlib.sha256(np.ascontiguousarray(site.patients[tested]).tobytes())
    for row in tested:
        found.update(np.ascontiguousarray(site.targets[row]).tobytes())
    return found.hexdigest()
