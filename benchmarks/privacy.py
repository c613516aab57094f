"""Attacks on the updates of a site: those that must succeed, and the rest.

    python benchmarks/privacy.py FOLDER         # FOLDER is a site's own data
    python benchmarks/privacy.py --made-up      # images that anybody can make

The same site and encoder under three protections: none (the default settings of a run),
differential privacy of images at `EPSILON`, and secure aggregation. Each is audited as
`polyclinic audit` does it. The encoder that the site receives was trained there for one stage, from
random weights.

Claims: each attack succeeds on the victim that was made to leak for it; planted failures (no noise,
no clipping, masks that serve twice) are caught; no lower bound of epsilon is above the claimed one,
in the audits and in `REPEATS` repetitions of the mechanism at each of `NOISES`.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import records
from polyclinic.config import Config, PrivacyConfig, SiteConfig, UniversalConfig, quick
from polyclinic.evaluate.audit.bounds import best_least_epsilon
from polyclinic.federation.aggregation import add
from polyclinic.federation.audit.planted import mechanism_canaries
from polyclinic.federation.audit.stages import stage_of
from polyclinic.federation.plans import plan_of, weighting_of
from polyclinic.models.device import fixed_precision
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of
from polyclinic.run.auditing.audit import ATTACKS, ROWS, missed, plan_json, quick_plan
from polyclinic.run.auditing.rows import AuditPlan, Subject
from polyclinic.run.experiment import prepared_site

METHOD = "universal"
EPSILON = 8.0
NOISES = (0.8, 1.0, 2.0, 4.0)
REPEATS, REPEATED_CANARIES = 25, 2000
SITES = 8  # under secure aggregation


def main() -> None:
    arguments = _arguments()
    plan = AuditPlan(seed=0)
    if arguments.quick:
        plan = quick_plan(plan)
    result = records.circumstances(["polyclinic", "torch", "numpy", "scipy", "opacus"], seed=0)
    with tempfile.TemporaryDirectory() as name, fixed_precision(torch.float32):
        folder = arguments.folder or _phantoms(Path(name))
        result |= _audits(folder, plan, small=arguments.quick)
    result["repeated"] = _repeated(5 if arguments.quick else REPEATS)
    result["plan"] = plan_json(plan)
    result |= _verdict(result)
    print(json.dumps({k: result[k] for k in ("missed", "above", "pass")}, indent=1))
    if arguments.out or not arguments.quick:
        records.write(result, arguments.out or records.RESULTS / "privacy.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="a site's own data, with classes")
    parser.add_argument("--made-up", action="store_true", help="made-up images in its place")
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it work?")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/privacy.json; "
        "with --quick none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    if (arguments.folder is None) != arguments.made_up:
        sys.exit("privacy: expected a site's folder, or --made-up")
    return arguments


def _phantoms(folder: Path) -> Path:
    from polyclinic.data.phantoms import write_phantoms

    made = write_phantoms(folder / "made-up", seed=0, images_per_site=400, corpus_images=8)
    return made / "sites" / "blood"


def _audits(folder: Path, plan: AuditPlan, *, small: bool) -> dict[str, Any]:
    config = Config(
        sites=tuple(SiteConfig(f"site-{n}", folder.resolve() / str(n)) for n in range(SITES)),
        corpus=folder.resolve() / "none",
        methods=(METHOD,),
    )
    if small:
        config = quick(config)
    site = prepared_site(SiteConfig(folder.resolve().name, folder), config.data)
    received = state_of(build_encoder(config.preset, 0))
    first = stage_of(site, config.preset, received, plan_of(config, METHOD), "received")
    received = add(received, first.change)
    audits: dict[str, Any] = {}
    for protection, changed in _protections(config).items():
        train, weighting = plan_of(changed, METHOD), weighting_of(changed, METHOD)
        subject = Subject(site, config.preset, received, changed, train, weighting)
        rows: list[dict[str, Any]] = []
        began = time.perf_counter()
        for attack in ATTACKS:
            for row in ROWS[attack](subject, plan, _say(protection, attack)):
                rows.append({"attack": attack, **row})
        audits[protection] = {"rows": rows, "seconds": time.perf_counter() - began}
    return {
        "data": {
            "site": site.name,
            "task": site.task,
            "classes": len(site.classes),
            "training_images": len(site.split["train"]),
            "image_size": config.data.image_size,
            "made_up": folder.parent.parent.name == "made-up",
        },
        "method": METHOD,
        "audits": audits,
    }


def _protections(config: Config) -> dict[str, Config]:
    secure = replace(config.federation, secure=True, norm_factor=0.0)
    return {
        "none": config,
        f"epsilon {EPSILON:g}": replace(config, privacy=PrivacyConfig(epsilon=EPSILON)),
        "secure aggregation": replace(
            config, federation=secure, universal=UniversalConfig(distil_every=0)
        ),
    }


def _say(protection: str, attack: str) -> Any:
    last: list[str] = []

    def told(setting: str, _: float) -> None:
        if [setting] != last:
            last[:] = [setting]
            print(f"{protection}: {attack}, {setting}", file=sys.stderr, flush=True)

    return told


def _repeated(repeats: int) -> list[dict[str, Any]]:
    """The mechanism's bound, again and again, at several noises."""
    rows = []
    for noise in NOISES:
        bounds = []
        for seed in range(repeats):
            p = mechanism_canaries(PrivacyConfig(), noise, REPEATED_CANARIES, "repeated", seed)
            bounds.append(best_least_epsilon(p.scores, p.included, p.delta)[0])
        rows.append(
            {
                "noise": noise,
                "claimed": p.claimed,
                "repeats": repeats,
                "canaries": REPEATED_CANARIES,
                "mean_bound": sum(bounds) / repeats,
                "largest_bound": max(bounds),
                "above": sum(bound > p.claimed for bound in bounds),
            }
        )
    return rows


def _verdict(result: dict[str, Any]) -> dict[str, Any]:
    audits = result["audits"].items()
    failed = [f"{name}: {what}" for name, audit in audits for what in missed(audit["rows"])]
    above = [
        f"{name}: {row['setting']}"
        for name, audit in audits
        for row in audit["rows"]
        if row["verdict"] == "above the claim"
    ]
    above += [f"noise {row['noise']}" for row in result["repeated"] if row["above"]]
    return {"missed": failed, "above": above, "pass": not failed and not above}


if __name__ == "__main__":
    main()
