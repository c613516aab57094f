"""What painters paint, side by side: every way of painting on the same edits of held-out patients.

    python benchmarks/painter.py --flow RUN --ddpm RUN --regression RUN [DATA ...]
    python benchmarks/painter.py --smoke      # a minute: does it work?
    python benchmarks/painter.py --table benchmarks/results/painter.json    # as Markdown

RUN are directories of `polyclinic inpaint train` with the same data, split and size: a `flow`, a
`ddpm`, and a `regression` (`--objective` says which). DATA override the folders that the
runs name. Painted with: the flow at 1, 2, 4, 8 and 50 steps and its mean, the ddpm with DDIM at 10,
25, 50 and 250 steps, RePaint on the same ddpm, the regression, biharmonic and Telea inpainting.
RePaint, and ways of `--slow-steps` steps and more, paint only the first edits (`--slow-limit`);
differences are taken edit by edit, so they are fair. Only ways that take at most 10 steps paint
with several seeds, to see how samples differ.
`--made-up` does it on the made-up heads that the runs held out instead: they show all four
sequences and all three components. `--work` keeps every row, the segmenter and a report of each
part; `--resume` goes on with it. `--part` paints one part alone: `flow`, `diffusion` (many steps)
or `regression`. They can run at the same time, if `--segmenter` names one or `flow` has trained it;
their seconds can be compared only if all ran alone, or all beside another. A last call with
`--resume` and without `--part` makes the tables.

Claims, each a key under `claims`: 4 steps are within 5 % of 50 in KID and PSNR; they are ten times
as fast as DDIM-50 at no worse KID and PSNR; the mean beats biharmonic, Telea and the regression in
PSNR and SSIM, with intervals of the differences above 0; samples differ, and their seams have a
ring AUC of at most 0.65; components reach 85 % of the segmenter's Dice on the same real slices, of
those that at least 20 held-out slices show and in which it reaches 0.5 itself (`components` says
which were left out, and why; far above 100 % they are exaggerated); tumours stay in their boxes to
99 %, as the model says and, as the segmenter finds, as well as the real ones; no pixel outside
changes.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import painter_tables
import painter_untrained
import records
from polyclinic.errors import ConfigError, PolyclinicError
from polyclinic.run.directory import read_json

SEED = 0
FLOW_STEPS = (4, 1, 2, 8, 50)  # the first is what the others are compared with
DDIM_STEPS = (10, 25, 50, 250)
SLOW = 250
"""From so many steps on a way paints the first edits alone, or from `--slow-steps` on."""
ONCE = 11
"""From so many steps on a way paints with one seed alone."""
LEAD, LONG, MEAN = "flow, 4 steps", "flow, 50 steps", "flow, mean"
DDIM_50 = "ddpm, DDIM-50"
REPAINT = "ddpm, RePaint"
FEW, MANY, PLAIN = PARTS = ("flow", "diffusion", "regression")
"""Ways of painting that are judged one after the other, the first way of the first before all."""
MADE_UP_SLICES = 20
MIN_SLICES = 20
"""Slices of patients, not edits of them, that a component is judged on, at least."""
ENOUGH = 0.85
LEAST_DICE = 0.5
"""A segmenter that is worse than that on real slices of a component cannot judge painted ones."""
PACKAGES = ("polyclinic", "torch", "numpy", "scipy", "monai", "scikit-image", "scikit-learn",
            "opencv-python-headless")  # fmt: skip


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.table:
            print(painter_tables.markdown(read_json(arguments.table)))
        else:
            _start(arguments)
    except PolyclinicError as error:
        sys.exit(f"painter: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", type=Path, metavar="DATA")
    for name in ("flow", "ddpm", "regression"):
        parser.add_argument(f"--{name}", type=Path, metavar="RUN")
    parser.add_argument("--made-up", action="store_true", help="made-up heads instead of patients")
    parser.add_argument("--segmenter", type=Path, help="default: one is trained")
    parser.add_argument(
        "--max-slices",
        type=int,
        help=f"default: all held-out ones, and {MADE_UP_SLICES} of made-up heads",
    )
    parser.add_argument("--slow-limit", type=int, default=24)
    parser.add_argument("--slow-steps", type=int, default=SLOW)
    parser.add_argument("--repaint-steps", type=int, default=SLOW)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--part", choices=PARTS, help="default: all of them")
    parser.add_argument("--work", type=Path, help="default: runs/ and the result's name")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="made-up heads, untrained networks")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/painter.json, or "
        "painter_made_up.json; with --smoke none)"
    )  # fmt: skip
    parser.add_argument("--table", type=Path, metavar="RESULT", help="print a result as Markdown")
    arguments = parser.parse_args()
    missing = None in (arguments.flow, arguments.ddpm, arguments.regression)
    if missing and not arguments.smoke and not arguments.table:
        parser.error("--flow, --ddpm and --regression are required (or --smoke)")
    if arguments.made_up and arguments.data:
        parser.error("--made-up takes no DATA: it judges on the made-up heads of the runs")
    if arguments.slow_steps <= FLOW_STEPS[0]:
        parser.error(f"--slow-steps: {LEAD} paint all edits; expected more than {FLOW_STEPS[0]}")
    if arguments.part and arguments.smoke:
        parser.error("--smoke does all parts: leave out --part")
    return arguments


def _start(arguments: argparse.Namespace) -> None:
    """Measure, print the claims, and write the result."""
    if arguments.smoke:
        with tempfile.TemporaryDirectory() as folder:
            result = _smoke(arguments, Path(folder))
    else:
        result = _measure(arguments, FLOW_STEPS, DDIM_STEPS)
    if arguments.part:
        print(f"the part {arguments.part} is done")
        return
    print(json.dumps(result["claims"], indent=1))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / f"{_name(arguments)}.json")


def _name(arguments: argparse.Namespace) -> str:
    return "painter_made_up" if arguments.made_up else "painter"


def _measure(
    arguments: argparse.Namespace,
    flow_steps: Sequence[int],
    ddim_steps: Sequence[int],
    segmenter_steps: int | None = None,
) -> dict[str, Any]:
    from polyclinic.inpaint.painter import WEIGHTS, Painter, load_painter
    from polyclinic.inpaint.painting import Settings
    from polyclinic.run.painter_evaluation import variants as ways
    from polyclinic.run.painter_evaluation.evaluation import SEGMENTER, Evaluation
    from polyclinic.run.painter_evaluation.inputs import read_splits

    splits = {
        run: read_splits(run) for run in (arguments.flow, arguments.ddpm, arguments.regression)
    }
    if any(split != splits[arguments.flow] for split in splits.values()):
        raise ConfigError("the three runs hold out different patients; train them with one split")

    def diffusion(name: str, painter: Painter, steps: int) -> ways.Variant:
        limit = arguments.slow_limit if steps >= arguments.slow_steps else None
        return ways.diffusion(
            name, painter, Settings(steps=steps), repeats=steps < ONCE, limit=limit
        )

    flow: Painter = load_painter(arguments.flow / WEIGHTS)
    ddpm: Painter = load_painter(arguments.ddpm / WEIGHTS)
    few = [steps for steps in flow_steps if steps < ONCE]
    parts = {
        FEW: [
            *(diffusion(f"flow, {steps} steps", flow, steps) for steps in few),
            ways.diffusion(MEAN, flow, Settings(mode="mean")),
            *ways.baselines(),
        ],
        MANY: [
            *(diffusion(f"flow, {n} steps", flow, n) for n in flow_steps if n not in few),
            *(diffusion(f"ddpm, DDIM-{steps}", ddpm, steps) for steps in ddim_steps),
            ways.repainted(REPAINT, ddpm, arguments.repaint_steps, limit=arguments.slow_limit),
        ],
        PLAIN: [ways.regressor("regression", load_painter(arguments.regression / WEIGHTS))],
    }
    config = Evaluation(
        arguments.flow,
        tuple(arguments.data),
        segmenter=arguments.segmenter,
        phantoms=arguments.made_up,
        max_slices=_most(arguments),
        samples=arguments.samples,
        seed=arguments.seed,
    )
    if segmenter_steps:
        config = replace(
            config, segmenter_plan=replace(config.segmenter_plan, steps=segmenter_steps)
        )

    result = records.circumstances(PACKAGES, seed=arguments.seed)
    result |= {"notes": _notes(arguments)}
    work = arguments.work or Path("runs") / _name(arguments)
    judged = []
    for name in [arguments.part] if arguments.part else PARTS:
        if name != FEW:
            config = replace(config, segmenter=arguments.segmenter or work / FEW / SEGMENTER)
        judged.append(_judged(config, parts[name], work / name, resume=arguments.resume))
    if arguments.part:
        return result
    machines = {name: read_json(work / name / "environment.json") for name in PARTS}
    return result | _together(judged, config.seed) | {"environment": machines}


def _most(arguments: argparse.Namespace) -> int | None:
    """How many slices with a tumour are judged, None for all."""
    return arguments.max_slices or (MADE_UP_SLICES if arguments.made_up else None)


def _notes(arguments: argparse.Namespace) -> list[str]:
    """What figures in the tables must not be read without."""
    slow = f"the first {arguments.slow_limit} edits"
    most = _most(arguments)
    return [
        *([f"at most {most} slices with a tumour are judged, and as many without"] if most else []),
        "`environment` says on what each part ran; others may have run beside it",
        f"{REPAINT} paints {slow} of tumour-free tissue alone, at {arguments.repaint_steps} steps. "
        "Its network learned with surroundings beside it; a crop without any, as here, is at the "
        "border of what it knows",
        f"ways of painting with {arguments.slow_steps} steps or more paint {slow} alone; "
        "`differences` compares them with the first way on the same edits, and no claim rests on "
        "them",
    ]


def _judged(
    config: Any, variants: Sequence[Any], work: Path, *, resume: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results of some ways of painting, and their rows."""
    from polyclinic.report.painting import write_painting_report
    from polyclinic.run.painter_evaluation.evaluation import evaluate_variants
    from polyclinic.run.painter_evaluation.inputs import read_inputs

    def tell(progress: Any) -> None:
        if progress.message:
            print(progress.message, flush=True)

    inputs = read_inputs(
        config.painter, config.data, config.order, config.split, tell, phantoms=config.phantoms
    )
    resume = resume and work.exists()  # a part that was not reached begins
    path = evaluate_variants(config, inputs, variants, work, resume=resume, tell=tell)
    write_painting_report(work)
    rows = [row for record in records.whole_rows(work / "metrics.jsonl") for row in record["rows"]]
    return json.loads(path.read_text(encoding="utf-8")), rows


def _together(
    judged: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]], seed: int
) -> dict[str, Any]:
    """All parts as one: tables, claims, and components that are not part of them."""
    from polyclinic.run.painter_evaluation.evaluation import tables_of
    from polyclinic.run.painter_evaluation.measure import REAL

    first, rows = judged[0]
    for _, more in judged[1:]:
        rows = rows + [row for row in more if row["variant"] != REAL]
    tables = tables_of(rows, seed, (MEAN,))
    parts = components(tables, rows)
    kept = ("painter", "data", "split", "patients", "edits", "encoder", "segmenter")
    return {name: first[name] for name in kept} | {
        "variants": [variant for found, _ in judged for variant in found["variants"]],
        "tables": tables,
        "components": parts,
        "claims": _claims(tables, parts),
    }


def components(
    tables: dict[str, list[dict[str, Any]]], rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each component and shape that was painted: in how many slices, each counted once whatever its
    sequences, how its Dice compares with that of the real ones, and why it is left out, if so."""
    slices: dict[str, set[tuple[str, int]]] = {}
    for row in rows:
        if row["variant"] == LEAD:
            for part in row["components"]:
                group = f"{part['component']}, {row['shape']}"
                slices.setdefault(group, set()).add((row["case"], row["slice"]))
    found = []
    for group, where in sorted(slices.items()):
        numbers = {
            entry["measure"]: entry["value"]
            for entry in tables["components"]
            if (entry["variant"], entry["by"], entry["group"]) == (LEAD, "component", group)
        }
        why = None
        if len(where) < MIN_SLICES:
            why = f"{len(where)} slices show it; expected {MIN_SLICES}"
        elif (numbers["dice_real"] or 0.0) < LEAST_DICE:
            why = (
                f"the segmenter's Dice on the real slices is {numbers['dice_real'] or 0.0:.2f}; "
                f"expected {LEAST_DICE}"
            )
        found.append(
            {
                "group": group,
                "slices": len(where),
                **{name: numbers[name] for name in ("dice", "dice_real", "dice_ratio")},
                "left_out": why,
            }
        )
    return found


def _claims(
    tables: dict[str, list[dict[str, Any]]], parts: Sequence[dict[str, Any]]
) -> dict[str, bool | None]:
    """What holds, by the values themselves; None where a number is missing."""

    def below_mean(other: str, measure: str) -> tuple[float, bool]:
        """Whether all of the interval of the difference to the mean, edit by edit, is below 0."""
        for entry in tables["differences"]:
            if (entry["variant"], entry["group"], entry["measure"]) == (other, MEAN, measure):
                high = float("nan") if entry["high"] is None else float(entry["high"])
                return high, high < 0
        return float("nan"), False

    compared = (LEAD, LONG, DDIM_50)
    psnr, long_psnr, ddim_psnr = (_value(tables, "infill", one, "psnr") for one in compared)
    kid, long_kid, ddim_kid = (_value(tables, "features", one, "kid") for one in compared)
    fast, slow = (_value(tables, "time", name, "seconds", "all") for name in (LEAD, DDIM_50))
    rivals = ("biharmonic", "telea", "regression")
    auc = _value(tables, "seams", LEAD, "ring_auc")
    spread = _value(tables, "diversity", LEAD, "diversity")
    ratios = [part["dice_ratio"] for part in parts if part["left_out"] is None]
    boxes, found, real = (
        _value(tables, "containment", LEAD, f"containment{how}", "tumour")
        for how in ("", "_found", "_found_real")
    )
    outside = _value(tables, "containment", LEAD, "changed_outside", "all")
    return {
        "4 steps within 5 % of 50": _holds(
            (psnr - long_psnr, psnr >= 0.95 * long_psnr),
            (kid - long_kid, kid <= long_kid + 0.05 * abs(long_kid)),
        ),
        "10 times as fast as DDIM-50": _holds((slow - fast, slow >= 10 * fast)),
        "no worse than DDIM-50": _holds(
            (psnr - ddim_psnr, psnr >= ddim_psnr), (kid - ddim_kid, kid <= ddim_kid)
        ),
        "the mean beats infill without diffusion": _holds(
            *(below_mean(rival, measure) for rival in rivals for measure in ("psnr", "ssim"))
        ),
        "seams": _holds((auc, auc <= 0.65)),
        "samples differ": _holds((spread, spread > 0)),
        "components": all(ratio >= ENOUGH for ratio in ratios) if ratios else None,
        "boxes": _holds((boxes, boxes >= 0.99), (found - real, found >= 0.99 * real)),
        "nothing changes outside": _holds((outside, outside == 0)),
    }


def _value(
    tables: dict[str, list[dict[str, Any]]],
    table: str,
    variant: str,
    measure: str,
    kind: str = "infill",
) -> float:
    """A number over all edits of a kind; NaN where there is none, or of fewer edits than the first
    way painted."""
    entries = {
        entry["variant"]: entry
        for entry in tables[table]
        if (entry["measure"], entry["kind"], entry["by"]) == (measure, kind, "all")
    }
    found, lead = entries.get(variant), entries.get(LEAD)
    if found is None or lead is None or found["value"] is None or found["edits"] < lead["edits"]:
        return float("nan")
    return float(found["value"])


def _holds(*conditions: tuple[float, bool]) -> bool | None:
    """Whether all do; each comes with a number that is NaN where it cannot be said."""
    unknown = any(number != number for number, _ in conditions)
    return None if unknown else all(true for _, true in conditions)


def _smoke(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything once, on made-up heads, with a network that took one step."""
    from polyclinic.inpaint import cases
    from polyclinic.inpaint.objectives import OBJECTIVES
    from polyclinic.inpaint.painter import WEIGHTS, load_painter, save_painter

    cases.PHANTOM_SIDE, cases.PHANTOM_SLICES = 48, 3
    arguments.flow = painter_untrained.train(folder, phantoms=6, test_share=0.4)
    painter = load_painter(arguments.flow / WEIGHTS)
    for name in ("ddpm", "regression"):  # the same weights: only their use differs
        shutil.copytree(arguments.flow, folder / name)
        save_painter(replace(painter, objective=OBJECTIVES[name]), folder / name / WEIGHTS)
        setattr(arguments, name, folder / name)
    arguments.work, arguments.max_slices, arguments.samples = folder / "work", 1, 2
    arguments.repaint_steps, arguments.slow_limit = 2, 1
    return _measure(arguments, (4, 1), (2,), segmenter_steps=1)


if __name__ == "__main__":
    main()
