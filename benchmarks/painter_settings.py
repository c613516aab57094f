"""How a painter samples best: levels, guidance, feather, grain, chosen on validation patients.

    python benchmarks/painter_settings.py RUN [--segmenter FILE]
    python benchmarks/painter_settings.py --smoke    # a minute: does it work?

RUN is a directory of `polyclinic inpaint train`, objective `flow`. Its test patients are not read.
Every setting paints the same edits of its validation patients, at 4 steps. First what spaces the
levels (`power` and `lowest` of `Settings`), by the lowest KID of all kinds of edits together;
then, with these levels, the guidance weight: the highest mean Dice of painted components whose KID
is no more than a tenth above that of weight 1. Then the same without feather, without grain,
without either, and with twice the steps: feather and grain stay, each where it lowers the ring AUC
and KID is no more than a tenth above that without. Last, the mean: which power has the highest PSNR
(samples and the mean have one power, so this only tells whether it is the same); with that power,
other numbers of steps.
"""

import argparse
import dataclasses
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import painter_untrained
import records

SEED = 0
STEPS = 4
POWERS = (1.0, 2.0, 3.0)
LOWEST = (0.0, 0.1)
WEIGHTS = (1.5, 2.5)
MEANS = (1, 2, 2 * STEPS)
"""Other steps of the mean; in a single one it is an estimate from no noise at all."""
SMOKE = {"POWERS": (1.0, 2.0), "LOWEST": (0.0,), "WEIGHTS": (2.0,), "MEANS": (1,)}
LEEWAY = 1.1
PACKAGES = ("polyclinic", "torch", "numpy", "scipy", "monai")
MEASURES = {
    "psnr": ("infill", "infill"),
    "ssim": ("infill", "infill"),
    "ring_auc": ("seams", "infill"),
    "diversity": ("diversity", "infill"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--segmenter", type=Path, help="default: one is trained")
    parser.add_argument("--max-slices", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-painter-settings"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="made-up heads, an untrained network")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/painter_settings.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.smoke:
        with tempfile.TemporaryDirectory() as folder:
            result = _smoke(arguments, Path(folder))
    elif arguments.run is None:
        parser.error("RUN is required (or --smoke)")
    else:
        result = _choose(arguments)
    print(json.dumps({key: result[key] for key in ("settings", "chosen")}, indent=1))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "painter_settings.json")


def _choose(arguments: argparse.Namespace, segmenter_steps: int | None = None) -> dict[str, Any]:
    result = records.circumstances(PACKAGES, seed=SEED)
    spaced = {
        f"power {power:g}, lowest {lowest:g}": {"power": power, "lowest": lowest}
        for power in POWERS
        for lowest in LOWEST
    }
    plainly = {name: {**levels, "guidance": 1.0} for name, levels in spaced.items()}
    found = _judged(arguments, "levels", plainly, segmenter_steps)
    levels = spaced[min(spaced, key=lambda name: _known(found["settings"][name]["kid"]))]
    guided = {f"guidance {w:g}": {**levels, "guidance": w} for w in (1.0, *WEIGHTS)}
    more = _judged(arguments, "guidance", guided, segmenter_steps)
    plain = _known(more["settings"]["guidance 1"]["kid"])
    fair = {
        w: -_known(more["settings"][f"guidance {w:g}"]["dice"], worst=-math.inf)
        for w in (1.0, *WEIGHTS)
        if w == 1.0 or _known(more["settings"][f"guidance {w:g}"]["kid"]) <= LEEWAY * plain
    }
    weight = min(fair, key=lambda key: fair[key])
    chosen = {**levels, "guidance": weight}
    last = {
        "both": chosen,
        "no feather": chosen | {"feather": False},
        "no grain": chosen | {"grain": False},
        "neither": chosen | {"feather": False, "grain": False},
        f"{2 * STEPS} steps": chosen | {"steps": 2 * STEPS},
    }
    ended = _judged(arguments, "looks", last, segmenter_steps)["settings"]
    looks = {name: _pays(ended["both"], ended[f"no {name}"]) for name in ("feather", "grain")}
    averaged = {f"mean, power {p:g}": {**levels, "power": p, "mode": "mean"} for p in POWERS}
    means = _judged(arguments, "mean", averaged, segmenter_steps)["settings"]
    nearness = {p: -_known(means[f"mean, power {p:g}"]["psnr"], worst=-math.inf) for p in POWERS}
    mean_power = min(nearness, key=lambda key: nearness[key])
    longer = {
        f"mean, {n} steps": {**levels, "power": mean_power, "mode": "mean", "steps": n}
        for n in MEANS
    }
    means |= _judged(arguments, "mean-steps", longer, segmenter_steps)["settings"]
    return result | {
        "patients": found["patients"],
        "edits": found["edits"],
        "painter": found["painter"],
        "settings": found["settings"] | more["settings"] | ended | means,
        "chosen": {**chosen, **looks, "mean_power": mean_power},
    }


def _pays(with_it: Mapping[str, Any], without: Mapping[str, Any]) -> bool:
    """Whether it lowers the ring AUC and leaves KID as it is, or nearly so."""
    seams = _known(with_it["ring_auc"]) < _known(without["ring_auc"])
    return seams and _known(with_it["kid"]) <= LEEWAY * _known(without["kid"])


def _known(value: float | None, worst: float = math.inf) -> float:
    return worst if value is None else value


def _judged(
    arguments: argparse.Namespace,
    name: str,
    settings: Mapping[str, Mapping[str, Any]],
    segmenter_steps: int | None,
) -> dict[str, Any]:
    """Every setting, as of `Settings`, on the same edits: a few numbers of each."""
    from polyclinic.inpaint.painting import Settings
    from polyclinic.run.painter_evaluation import variants as ways
    from polyclinic.run.painter_evaluation.evaluation import (
        SEGMENTER,
        Evaluation,
        evaluate_variants,
    )
    from polyclinic.run.painter_evaluation.inputs import read_inputs

    def tell(progress: Any) -> None:
        if progress.message:
            print(progress.message, flush=True)

    kept = arguments.work / "levels" / SEGMENTER
    segmenter = arguments.segmenter or (kept if name != "levels" else None)
    config = Evaluation(
        arguments.run,
        split="val",
        segmenter=segmenter,
        max_slices=arguments.max_slices,
        samples=2,
        seed=SEED,
    )
    if segmenter_steps:
        plan = dataclasses.replace(config.segmenter_plan, steps=segmenter_steps)
        config = dataclasses.replace(config, segmenter_plan=plan)
    inputs = read_inputs(config.painter, config.data, config.order, config.split, tell)
    variants = [
        ways.diffusion(label, inputs.painter, Settings(**{"steps": STEPS, **chosen}))
        for label, chosen in settings.items()
    ]
    work = arguments.work / name
    resume = arguments.resume and work.exists()  # a block that was not reached begins
    path = evaluate_variants(config, inputs, variants, work, resume=resume, tell=tell)
    results = json.loads(path.read_text(encoding="utf-8"))
    return {
        **{key: results[key] for key in ("patients", "edits", "painter")},
        "settings": {label: _numbers(results["tables"], label) for label in settings},
    }


def _numbers(tables: Mapping[str, Sequence[dict[str, Any]]], variant: str) -> dict[str, Any]:
    mine = {name: [e for e in rows if e.get("variant") == variant] for name, rows in tables.items()}

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def of(table: str, kind: str | None, measure: str, by: str = "all") -> float | None:
        return mean(
            [
                entry["value"]
                for entry in mine[table]
                if (kind is None or entry["kind"] == kind)
                and (entry["measure"], entry["by"]) == (measure, by)
            ]
        )

    return {
        "kid": of("features", None, "kid"),
        **{measure: of(table, kind, measure) for measure, (table, kind) in MEASURES.items()},
        "dice": of("components", "tumour", "dice", "component"),
        "dice_ratio": of("components", "tumour", "dice_ratio", "component"),
        "seconds": of("time", None, "seconds"),
    }


def _smoke(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything once, on made-up heads, with a network that took one step."""
    globals().update(SMOKE)
    arguments.run = painter_untrained.train(folder)
    arguments.work, arguments.max_slices = folder / "work", 1
    return _choose(arguments, segmenter_steps=1)


if __name__ == "__main__":
    main()
