"""A realistic results.json of synthetic numbers: 8 sites, 6 methods, 3 seeds, tiny pictures.

The fixtures hand out the builders, since test modules cannot import each other.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

METHODS = [
    ("universal", "Universal (ours)", "Sites train, the server joins and distils their encoders."),
    ("fedavg", "FedAvg", "Sites train, the server averages their encoders."),
    ("fedprox", "FedProx", "Federated averaging with a pull towards what was received."),
    ("local", "Working alone", "Every site trains on its own images only."),
    ("mim", "MIM only", "The encoder trained on the public corpus, no site's data."),
    ("centralised", "Centralised", "All images pooled in one place; a reference only."),
]
LEVEL = [0.031, 0.012, 0.014, 0.0, -0.02, 0.04]
SITES: list[tuple[str, str, int, list[str], int, str, str]] = [
    ("blood", "single-label", 3000, [f"cell type {i}" for i in range(8)], 3, "auroc", "npz"),
    ("chest", "multi-label", 2400, ["effusion", "nodule", "mass", "oedema"], 1, "auroc", "png"),
    ("breast", "single-label", 780, ["benign", "malignant"], 1, "auroc", "images"),
    ("derma", "single-label", 2000, ["nevus", "melanoma", "keratosis"], 3, "auroc", "images"),
    ("retina", "single-label", 1600, ["0", "1", "2", "3", "4"], 3, "auroc", "manifest"),
    ("bone-age", "regression", 900, [], 1, "r2", "dicom"),
    ("glioma", "segmentation", 1200, ["background", "core", "oedema"], 3, "dice", "nifti"),
    ("polyp", "segmentation", 600, ["background", "polyp"], 3, "dice", "png"),
]
SECONDARY = {"single-label": "balanced_accuracy", "multi-label": "balanced_accuracy"}
Sample = Callable[..., dict[str, Any]]
Report = Callable[[Path, dict[str, Any]], Path]
PROTOCOLS = ("linear-probe", "fine-tune")


@pytest.fixture(scope="session")
def sample() -> Sample:
    return build_sample


@pytest.fixture(scope="session")
def write_sample() -> Report:
    return write_run


def build_sample(
    *, sites: int = 8, methods: tuple[str, ...] | None = None, seeds: tuple[int, ...] = (0, 1, 2)
) -> dict[str, Any]:
    """Results of a finished run; same arguments, same numbers."""
    rng = np.random.default_rng(7)
    chosen = [m for m in METHODS if methods is None or m[0] in methods]
    names = [m[0] for m in chosen]
    rows: dict[str, list[dict[str, Any]]] = {
        key: []
        for key in (
            "scores",
            "gains",
            "comparisons",
            "communication",
            "timing",
            "participation",
            "curves",
            "confusion",
            "examples",
        )
    }
    table = SITES[:sites]
    values: dict[tuple[str, str, str], float] = {}
    for site, task, _, classes, _, metric, _ in table:
        base = float(rng.uniform(0.72, 0.9))
        shift = float(rng.normal(0.6, 1.0))
        for name in names:
            level = LEVEL[[m[0] for m in METHODS].index(name)]
            for protocol in PROTOCOLS:
                extra = 0.03 if protocol == "fine-tune" else 0.0
                value = min(0.995, base + level * shift + extra + float(rng.normal(0, 0.004)))
                values[site, name, protocol] = value
                wanted = [(metric, value, True)]
                if task in SECONDARY:
                    wanted.append((SECONDARY[task], value - 0.09, False))
                for one, number, is_primary in wanted:
                    rows["scores"].append(
                        {
                            "method": name,
                            "site": site,
                            "protocol": protocol,
                            "metric": one,
                            "primary": is_primary,
                            **_interval(number, 0.018),
                            "seeds": _seeds(number, seeds, rng),
                        }
                    )
            talks = name not in ("local", "mim")
            for seed in seeds:
                for stage in range(1, 9):
                    reached = value - 0.15 * 0.7**stage
                    rows["curves"].append(
                        {
                            "method": name,
                            "seed": seed,
                            "stage": stage,
                            "site": site,
                            "received": None if name == "local" and stage == 1 else reached - 0.01,
                            "trained": reached + float(rng.normal(0, 0.003)),
                            "loss": 0.7**stage,
                            "bytes_up": 2_801_600 if talks else 0,
                        }
                    )
            rows["communication"].append(
                {
                    "method": name,
                    "site": site,
                    "bytes_up": 22_412_800 if talks else 0,
                    "bytes_down": 22_412_816 if talks else 0,
                    "messages": 16 if talks else 0,
                }
            )
            if task == "single-label" and name in ("universal", "local"):
                matrix = rng.integers(0, 9, (len(classes), len(classes)))
                np.fill_diagonal(matrix, rng.integers(40, 90, len(classes)))
                rows["confusion"].append(
                    {
                        "method": name,
                        "site": site,
                        "protocol": "fine-tune",
                        "classes": classes,
                        "matrix": matrix.tolist(),
                    }
                )
        rows["examples"] += _examples(site, names[0], task, classes)
    for name in names:
        for over in ("local", "mim"):
            if name in ("local", "mim", "centralised") or over not in names:
                continue
            for protocol in PROTOCOLS:
                gains = [
                    {
                        "method": name,
                        "over": over,
                        "site": site,
                        "protocol": protocol,
                        "metric": metric,
                        **_interval(
                            values[site, name, protocol] - values[site, over, protocol], 0.013
                        ),
                        "seeds": _seeds(0.01, seeds, rng),
                    }
                    for site, *_, metric, _ in table
                ]
                rows["gains"] += sorted(gains, key=lambda g: g["value"])
        seconds = float(rng.uniform(100, 4000))
        rows["timing"].append(
            {
                "method": name,
                "seconds": seconds * 1.3,
                "train_seconds": seconds,
                "evaluate_seconds": seconds * 0.3,
                "peak_memory_mib": float(rng.uniform(400, 1400)),
            }
        )
        for seed in seeds:
            for stage in range(1, 9):
                missing = name == "fedavg" and seed == 0 and stage in (3, 4) and sites > 1
                absent = [{"site": "chest", "reason": "no answer within 60 s"}] if missing else []
                rows["participation"].append(
                    {
                        "method": name,
                        "seed": seed,
                        "stage": stage,
                        "present": [s[0] for s in table if not (missing and s[0] == "chest")],
                        "absent": absent,
                    }
                )
    for protocol in PROTOCOLS:
        for index, over in enumerate(names[1:]):
            pairs = len(table) * len(seeds)
            differences = [
                values[s[0], names[0], protocol] - values[s[0], over, protocol] for s in table
            ]
            won = sum(d > 0 for d in differences)
            rows["comparisons"].append(
                {
                    "method": names[0],
                    "over": over,
                    "protocol": protocol,
                    "n": pairs,
                    "wins": won * len(seeds),
                    "ties": 0,
                    "mean_gain": float(np.mean(differences)),
                    "p": 0.004 * 2**index,
                    "p_holm": min(1.0, 0.012 * 2**index),
                    "p_sites": min(1.0, 0.008 * 2**index),
                    "p_sites_holm": min(1.0, 0.039 * 2**index),
                    "sites_won": won,
                    "sites": len(table),
                }
            )
    return {
        "schema": "polyclinic.results/1",
        "name": "eight-sites",
        "version": "0.1.0",
        "created": "2025-03-01T09:30:00+00:00",
        "finished": True,
        "quick": False,
        "seeds": list(seeds),
        "encoder": {"preset": "small", "parameters": 703_216, "image_size": 48},
        "environment": {
            "machine": "x86_64",
            "cpus": 2,
            "threads": 1,
            "python": "3.11.9",
            "torch": "2.6.0",
            "device": "cpu",
            "precision": "float32",
        },
        "corpus": {"images": 3120, "path": "data/corpus", "findings": []},
        "sites": [_site(*site) for site in table],
        "methods": [dict(zip(("name", "title", "summary"), m, strict=True)) for m in chosen],
        **rows,
        "config": {
            "name": "eight-sites",
            "seeds": list(seeds),
            "quick": False,
            "sites": [
                {"name": s[0], "path": f"data/{s[0]}", "format": "auto", "task": "auto"}
                for s in table
            ],
            "data": {"image_size": 48, "val_share": 0.15},
            "local": {"stages": 8, "learning_rate": 1e-3},
            "universal": {"weighting": "equal", "anchor_weight": 0.1},
        },
    }


def write_run(run: Path, results: dict[str, Any]) -> Path:
    """Write results.json and the pictures that it names into `run`."""
    (run / "examples").mkdir(parents=True, exist_ok=True)
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    rows, columns = np.mgrid[:48, :48]
    for example in results.get("examples", []):
        rng = np.random.default_rng(len(example["key"]))
        light = 150 * np.exp(-((rows - 24) ** 2 + (columns - 22) ** 2) / 300)
        image = np.clip(light + rng.normal(40, 12, (48, 48)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(run / example["image"])
        if example["kind"] == "segmentation":
            for key, shift in (("truth_mask", 0), ("predicted_mask", 3)):
                distance = (rows - 24) ** 2 + (columns - 22 - shift) ** 2
                mask = ((distance < 190).astype(np.uint8)) + (distance < 60)
                Image.fromarray(mask.astype(np.uint8)).save(run / example[key])
    return run


def _interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def _seeds(
    value: float, seeds: tuple[int, ...], rng: np.random.Generator
) -> list[dict[str, float]]:
    return [{"seed": seed, "value": value + float(rng.normal(0, 0.005))} for seed in seeds]


def _site(
    name: str, task: str, images: int, classes: list[str], channels: int, metric: str, kind: str
) -> dict[str, Any]:
    test, val = images // 5, images // 8
    train = images - test - val
    weights = [2.0**-i for i in range(len(classes))]
    findings = []
    if name == "breast":
        findings = [
            {
                "severity": "warning",
                "where": "benign/017.png",
                "what": "the same pixels as benign/003.png",
                "do": "remove one of them, or say that they are one patient",
            },
            {
                "severity": "info",
                "where": "",
                "what": "no patient ids; images split singly",
                "do": "",
            },
        ]
    return {
        "name": name,
        "task": task,
        "format": kind,
        "images": images,
        "patients": None if name == "breast" else images // 3,
        "classes": classes,
        "channels": channels,
        "size": [48, 48],
        "split": {"train": train, "val": val, "test": test},
        "metric": metric,
        "class_counts": {"train": [round(train * w / sum(weights)) for w in weights]},
        "findings": findings,
    }


def _examples(site: str, method: str, task: str, classes: list[str]) -> list[dict[str, Any]]:
    if task == "segmentation":
        return [
            {
                "site": site,
                "method": method,
                "key": f"case-{index}",
                "kind": "segmentation",
                "image": f"examples/{site}-{index}.png",
                "truth_mask": f"examples/{site}-{index}-truth.png",
                "predicted_mask": f"examples/{site}-{index}-predicted.png",
                "dice": 0.81 - 0.1 * index,
            }
            for index in range(2)
        ]
    return [
        {
            "site": site,
            "method": method,
            "key": f"{site}.npz#{index}",
            "kind": "classification",
            "image": f"examples/{site}-{index}.png",
            "truth": classes[0] if classes else "104",
            "predicted": classes[index == 3] if classes else "104.5",
            "probability": 0.93 - 0.1 * index if task == "single-label" else None,
        }
        for index in range(4)
    ]
