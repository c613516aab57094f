"""Quality against bytes: what a site's change may weigh before the encoder gets worse.

    python benchmarks/wire.py FOLDER            # FOLDER holds sites/ and corpus/
    python benchmarks/wire.py --smoke           # made-up sites, minutes: does it work?

The same federation, seed by seed, with changes sent in float32, float16, int8, int8 after zlib, and
int8 as factors of rank 8 and 4; otherwise with quick settings (small images, two stages). What is
lost on the way is carried over at the sites. Each seed's encoders are judged by linear probes at
every site, in the site's own metric.

Claim: int8 takes at most 27 % of float32's bytes on the way up, and costs at most 0.3 points of the
mean AUROC over the sites that have one. Differences are paired: the same seed, site and test
images. The interval is a bootstrap over pairs of site and seed. It is wide with few of them, so a
loss below the limit means that none was seen, not that there is none; the result says by how much
float32 itself differs from seed to seed, which is the yardstick.

Runs are kept in `--work`, and a killed benchmark goes on from there.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import records
from polyclinic.config import (
    Config,
    FederationConfig,
    SiteConfig,
    config_to_dict,
    quick,
)

MAX_BYTES = 0.27
MAX_LOSS = 0.003  # of AUROC: 0.3 points
METHOD = "universal"
WAYS = {
    "float32": FederationConfig(),
    "float16": FederationConfig(wire="float16"),
    "int8": FederationConfig(wire="int8"),
    "int8, zlib": FederationConfig(wire="int8", compress="zlib"),
    "int8, rank 8": FederationConfig(wire="int8", rank=8),
    "int8, rank 4": FederationConfig(wire="int8", rank=4),
}
RESAMPLES = 2000


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        if arguments.smoke:
            folder, work = _phantoms(Path(name)), Path(name) / "runs"
            config = _smallest(_config(folder, (0,)))
        else:
            folder, work = arguments.folder, arguments.work
            config = _config(folder, tuple(range(arguments.seeds)))
        result = records.circumstances(["polyclinic", "torch", "numpy"], seed=0)
        result |= {"method": METHOD, "protocol": "linear-probe", "seeds": list(config.seeds)}
        found = {way: _run(config, way, work) for way in WAYS}
    result["config"] = _without_paths(config)
    result["ways"] = {way: _compared(found[way], found["float32"]) for way in WAYS}
    result |= _verdict(result["ways"])
    print(json.dumps({k: result[k] for k in ("ways", "pass")}, indent=1))
    if arguments.smoke:
        print("a smoke test trains next to nothing: its scores say nothing about the claim")
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "wire.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="holds sites/ and corpus/")
    parser.add_argument("--seeds", type=int, default=3, help="federations of each kind (default 3)")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/wire"), help="where runs are kept (runs/wire)"
    )
    parser.add_argument("--smoke", action="store_true", help="made-up sites, next to no training")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/wire.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    if not arguments.smoke and not arguments.folder:
        sys.exit("wire: expected a folder that holds sites/ and corpus/, or --smoke")
    return arguments


def _config(folder: Path, seeds: tuple[int, ...]) -> Config:
    """The federation of all folders in `folder`/sites, with quick settings."""
    sites = sorted(path for path in (folder / "sites").glob("*") if path.is_dir())
    if not sites:
        sys.exit(f"wire: {folder / 'sites'}: no folder of a site in it")
    config = Config(
        sites=tuple(SiteConfig(path.name, path.resolve()) for path in sites),
        corpus=(folder / "corpus").resolve(),
        name="wire",
        methods=(METHOD,),
    )
    return replace(quick(config), seeds=seeds)


def _smallest(config: Config) -> Config:
    return replace(
        config,
        data=replace(config.data, image_size=16, largest_side=32, val_share=0.25),
        mim=replace(config.mim, epochs=1),
        local=replace(config.local, min_steps=1, max_steps=2, dense_head_epochs=1),
        evaluation=replace(config.evaluation, fine_tune_max_steps=1, bootstrap=10),
    )


def _phantoms(folder: Path) -> Path:
    from polyclinic.data.phantoms import write_phantoms

    return write_phantoms(
        folder / "made-up", seed=0, images_per_site=120, corpus_images=16, image_size=32
    )


def _run(config: Config, way: str, work: Path) -> dict[str, Any]:
    """results.json of the federation in one way of writing."""
    from polyclinic.run.experiment import run_experiment

    out = work / way.replace(", ", "-")
    print(f"{way}: {out}", flush=True)
    resume = (out / "config.json").exists()
    results = run_experiment(replace(config, federation=WAYS[way]), out, resume=resume)
    content: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    return content


def _scores(results: dict[str, Any], metric: str | None = None) -> dict[tuple[str, int], float]:
    """Score by site and seed: the site's own metric, or those of the sites that have `metric`."""
    return {
        (row["site"], seed["seed"]): seed["value"]
        for row in results["scores"]
        if row["method"] == METHOD
        and row["protocol"] == "linear-probe"
        and row["primary"]
        and metric in (None, row["metric"])
        for seed in row["seeds"]
        if seed["value"] is not None
    }


def _bytes_up(results: dict[str, Any]) -> int:
    return sum(row["bytes_up"] for row in results["communication"] if row["method"] == METHOD)


def _compared(ours: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Bytes and scores of one way against float32."""
    sent = _bytes_up(ours)
    told: dict[str, Any] = {"bytes_up": sent, "share_of_float32": sent / _bytes_up(whole)}
    for name, metric in (("auroc", "auroc"), ("own_metric", None)):
        a, b = _scores(ours, metric), _scores(whole, metric)
        shared = sorted(a.keys() & b.keys())
        differences = np.array([a[pair] - b[pair] for pair in shared])
        told[name] = {
            "pairs": len(shared),
            "mean": float(np.mean([a[pair] for pair in shared])) if shared else None,
            "minus_float32": float(differences.mean()) if shared else None,
            "interval": _interval(differences) if shared else None,
            "worst_site": _worst(shared, differences) if shared else None,
        }
        told[name]["spread_between_seeds"] = _spread(a)
    return told


def _interval(differences: np.ndarray) -> list[float]:
    """95 % of the means of resampled pairs."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(differences), (RESAMPLES, len(differences)))
    return [float(x) for x in np.quantile(differences[rows].mean(1), (0.025, 0.975))]


def _worst(pairs: list[tuple[str, int]], differences: np.ndarray) -> dict[str, Any]:
    """The site that loses most, mean over seeds."""
    by_site: dict[str, list[float]] = {}
    for (site, _), difference in zip(pairs, differences.tolist(), strict=True):
        by_site.setdefault(site, []).append(difference)
    means = {site: statistics.mean(values) for site, values in by_site.items()}
    site = min(means, key=lambda name: means[name])
    return {"site": site, "minus_float32": means[site]}


def _spread(scores: dict[tuple[str, int], float]) -> float | None:
    """Standard deviation between seeds of the mean over sites."""
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in scores.items():
        by_seed.setdefault(seed, []).append(value)
    means = [statistics.mean(values) for values in by_seed.values()]
    return statistics.stdev(means) if len(means) > 1 else None


def _verdict(ways: dict[str, Any]) -> dict[str, Any]:
    share, lost = ways["int8"]["share_of_float32"], ways["int8"]["auroc"]["minus_float32"]
    small, good = share <= MAX_BYTES, lost is not None and lost >= -MAX_LOSS
    limits = {"share_of_float32": MAX_BYTES, "auroc_lost": MAX_LOSS}
    return {"limits": limits, "pass": bool(small and good)}


def _without_paths(config: Config) -> dict[str, Any]:
    """The configuration without where this machine keeps the data."""
    plain = replace(
        config,
        corpus=Path("corpus"),
        sites=tuple(replace(site, path=Path("sites") / site.name) for site in config.sites),
    )
    told: dict[str, Any] = config_to_dict(plain)
    return told


if __name__ == "__main__":
    main()
