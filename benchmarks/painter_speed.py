"""How long painting takes, and how fast a painter trains.

    python benchmarks/painter_speed.py                            # on an idle machine
    python benchmarks/painter_speed.py --size large --peak 989    # on a GPU
    python benchmarks/painter_speed.py --smoke                    # a minute: does it work?

Slices of 112 and 240 px, made up; one region each, of the size of a tumour. Weights are loaded, and
ways of few evaluations have painted a slice before the clock starts. `one` is a slice at a time
through `painting.paint`, with all that an edit needs apart from reading and writing files. `bulk`,
a block of its own, has seconds a crop where the sampler alone paints 16 crops of 64 px at once (192
px with `--size large`), whatever the size of slices; what uses no network paints slices one after
the other, in bulk as fast as one. RePaint's cost is that of its `calls`, which go with
`--repaint-steps`; 250 is what its authors take. The networks are of the preset `--size` and not
trained, which does not change how long they take; `--painter` takes the weights of a painter
instead.

Training counts images (crops) a second of whole steps, crops cut on the same cores. The floating
point operations of a step are counted by PyTorch, forwards and backwards, in matrix products,
convolutions and attention; `--peak` is the rate of the device in TFLOPS, of a GPU the bfloat16 one
without sparsity, and gives the share of it that the training reaches.

Claims, of the small preset: at 4 steps a slice of 112 px takes at most 0.4 s and one of 240 px at
most 1 s; 4 steps of the flow are at least 10 times as fast as 50 of DDIM; a training with as many
steps as it has by default takes at most 2.5 hours.
"""

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import records

SEED = 0
LIMITS = {112: 0.4, 240: 1.0}  # seconds a slice at 4 steps
MOST_HOURS = 2.5
STEPS = {"flow": (1, 2, 4, 8, 50), "ddpm": (10, 25, 50, 250)}
BULK = 16
REPEATS = 7
FLOP_STEPS = 4
"""Steps whose operations are counted: crops of both sides are among so many."""
SLOW = 50
"""From so many evaluations on, a measurement is repeated less often."""
PACKAGES = ("polyclinic", "torch", "numpy", "monai")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("small", "large"), default="small")
    parser.add_argument("--painter", type=Path, help="weights of a flow (default: untrained)")
    parser.add_argument("--repaint-steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16, help="crops a step of the training")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="rate of the device")
    parser.add_argument("--smoke", action="store_true", help="one size, few steps, once")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/painter_speed.json, "
        "painter_speed_large.json; with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    smoke = arguments.smoke
    sizes = (48,) if smoke else tuple(LIMITS)
    steps = {"flow": (1,), "ddpm": (2,)} if smoke else STEPS
    repeats = 1 if smoke else REPEATS

    import torch

    from polyclinic.models.device import describe

    result = records.circumstances(PACKAGES, seed=SEED)
    result |= {"threads": torch.get_num_threads(), "environment": describe()}
    at_once, crops = (2, 2) if smoke else (BULK, arguments.batch_size)
    result |= {"size": arguments.size, "batch_size": crops}
    painters = _painters(arguments.painter, arguments.size)
    result["parameters"] = sum(p.numel() for p in painters["flow"].network.parameters())
    cases = {size: _cases(size) for size in sizes}
    found = _ways(painters, steps, 1 if smoke else arguments.repaint_steps)
    result["painting"] = [
        row for size in sizes for row in _painting(found, cases[size], size, repeats)
    ]
    result["bulk"] = _in_bulk(found, painters, cases[sizes[0]], repeats, at_once)
    plan = {"size": arguments.size, "batch_size": crops}
    result["training"] = _training(cases[sizes[0]], 2 if smoke else 30, plan, arguments.peak)
    result["claims"] = _claims(result) if arguments.size == "small" else {}
    print(json.dumps(result["claims"]))
    if arguments.out or not smoke:
        name = "painter_speed" if arguments.size == "small" else "painter_speed_large"
        records.write(result, arguments.out or records.RESULTS / f"{name}.json")


def _painters(weights: Path | None, size: Any) -> dict[str, Any]:
    from polyclinic.inpaint.network import SIZES, build_network
    from polyclinic.inpaint.objectives import OBJECTIVES
    from polyclinic.inpaint.painter import Painter, load_painter
    from polyclinic.models.device import device

    network = build_network(SIZES[size], SEED).to(device()).eval()
    flow = Painter(network, OBJECTIVES["flow"], digest="")
    if weights is not None:
        flow = load_painter(weights)
    others = {
        name: Painter(flow.network, OBJECTIVES[name], digest="") for name in ("ddpm", "regression")
    }
    return {"flow": flow, **others}


def _cases(size: int) -> list[Any]:
    """Three made-up patients."""
    from polyclinic.data.phantoms import brain
    from polyclinic.data.phantoms.layouts import write_cases
    from polyclinic.inpaint.cases import Case, find_cases, read_cases

    with tempfile.TemporaryDirectory() as folder:
        write_cases(Path(folder), brain.generate(3, size=size, slices=3))
        return [case for case in read_cases(find_cases(Path(folder))) if isinstance(case, Case)]


def _ways(
    painters: dict[str, Any], steps: dict[str, tuple[int, ...]], repaint_steps: int
) -> list[tuple[Any, int | None, Callable[[Any], Any] | None]]:
    """Every way to paint: the variant, its steps, and what paints a batch of crops; the last two
    are None where there is no network."""
    from polyclinic.inpaint.baselines import BASELINES
    from polyclinic.inpaint.painting import Settings
    from polyclinic.run.painter_evaluation import variants as ways

    flow, ddpm, regression = (painters[name] for name in ("flow", "ddpm", "regression"))
    averaged = Settings(mode="mean")
    return [
        *(
            (
                ways.diffusion(name, painters[name], Settings(steps=count)),
                count,
                functools.partial(_sample_crops, painters[name], count),
            )
            for name, counts in steps.items()
            for count in counts
        ),
        (
            ways.diffusion("mean", flow, averaged),
            averaged.steps,
            functools.partial(_average_crops, flow, averaged.steps),
        ),
        (
            ways.regressor("regression", regression),
            1,
            functools.partial(_average_crops, regression, 1),
        ),
        (
            ways.repainted("RePaint", ddpm, repaint_steps),
            repaint_steps,
            functools.partial(_repaint_crops, ddpm, repaint_steps),
        ),
        *((ways.baseline(name, infill), None, None) for name, infill in BASELINES.items()),
    ]


def _painting(found: list[Any], cases: list[Any], size: int, repeats: int) -> list[dict[str, Any]]:
    """Seconds a slice of every way to paint, one at a time."""
    from polyclinic.inpaint.components import MIXED, TUMOUR_FREE
    from polyclinic.inpaint.regions import empty, overlay

    case = max(cases, key=lambda case: int((case.components > 0).sum()))
    z = int((case.components > 0).sum(axis=(1, 2)).argmax())
    plane = case.components[z]
    sequence, slices = next((n, v[z : z + 1]) for n, v in case.volumes.items())
    rows = []
    for variant, count, _ in found:
        component = MIXED if variant.tumours else TUMOUR_FREE
        regions = [overlay(empty(plane.shape), plane > 0, component)]
        one = functools.partial(
            variant.paint, {sequence: slices}, regions, head_px=case.head_px, seed=SEED
        )
        row: dict[str, Any] = {
            "objective": variant.name,
            "size_px": size,
            "steps": count,
            "calls": variant.calls,
            "region_px": int((plane > 0).sum()),
            "one": _timed(one, *_repeats(variant, repeats, few=3)),
        }
        _tell(row, "objective", "size_px", "steps", timed="one")
        rows.append(row)
    return rows


def _in_bulk(
    found: list[Any], painters: dict[str, Any], cases: list[Any], repeats: int, at_once: int
) -> dict[str, Any]:
    """Seconds a crop of the ways that have a network, many crops at once."""
    from polyclinic.inpaint.crops import Crops, Views
    from polyclinic.inpaint.regions import Mixture

    config = painters["flow"].network.config
    batch = Crops(cases, config, SEED, Views(), Mixture()).batch(0, at_once)
    rows = []
    for variant, count, paint in found:
        if paint is None:
            continue
        crops = functools.partial(paint, batch)
        row: dict[str, Any] = {
            "objective": variant.name,
            "steps": count,
            "calls": variant.calls,
            "crop": _timed(crops, *_repeats(variant, repeats, few=1), share=at_once),
        }
        _tell(row, "objective", "steps", timed="crop")
        rows.append(row)
    side = batch.x.shape[-1]
    return {"what": f"{at_once} crops of {side} px at once, the sampler alone", "rows": rows}


def _repeats(variant: Any, repeats: int, few: int) -> tuple[int, bool]:
    """How often a way is timed, and whether it is tried before: what has many calls is warm."""
    slow = variant.calls >= SLOW
    return min(repeats, few) if slow else repeats, not slow


def _tell(row: dict[str, Any], *names: str, timed: str) -> None:
    shown = {name: row[name] for name in names}
    print(json.dumps(shown | {timed: row[timed]["median"]}), flush=True)


def _sample_crops(painter: Any, steps: int, batch: Any) -> Any:
    from polyclinic.inpaint.painting import Settings

    request, noise, _ = _begun(batch)
    usual = Settings()
    levels = usual.levels_for(painter.objective)
    x = painter.sample(request, noise, steps, levels, guidance=usual.guidance)
    return x.cpu()  # a GPU is waited for


def _average_crops(painter: Any, steps: int, batch: Any) -> Any:
    return painter.mean(_begun(batch)[0], steps, painter.objective.levels).cpu()


def _repaint_crops(painter: Any, steps: int, batch: Any) -> Any:
    from polyclinic.inpaint.repaint import repaint_request

    request, noise, gen = _begun(batch)
    return repaint_request(painter, request, noise, steps, gen).cpu()


def _begun(batch: Any) -> tuple[Any, Any, Any]:
    """A batch's request on the device, the noise to begin with, and what draws more of it."""
    import torch

    from polyclinic.inpaint.training import to_device
    from polyclinic.seeding import generator

    moved, gen = to_device(batch), generator(SEED)
    return moved.request, torch.randn(batch.x.shape, generator=gen).to(moved.x.device), gen


def _training(
    cases: list[Any], steps: int, settings: dict[str, Any], peak: float | None
) -> dict[str, Any]:
    """Images a second of the preset's training, what a step computes, and the share of `peak`
    (TFLOPS) that this comes to."""
    from torch.utils.flop_counter import FlopCounterMode

    from polyclinic.inpaint.training import PaintPlan, Trainer

    found: dict[str, Any] = {}
    for objective in ("flow", "ddpm"):
        first = 2 + FLOP_STEPS
        plan = PaintPlan(objective=objective, steps=first + steps, **settings)
        trainer = Trainer(cases, plan)
        list(trainer.run(2))  # warms up
        with FlopCounterMode(display=False) as counter:
            list(trainer.run(FLOP_STEPS))
        operations = counter.get_total_flops() / FLOP_STEPS
        images, began = 0, time.perf_counter()
        for number in range(first, first + steps):
            images += len(trainer.crops.batch(number, plan.batch_size).x)
        cutting = time.perf_counter() - began
        began = time.perf_counter()
        list(trainer.run(steps))
        seconds = time.perf_counter() - began
        rate = operations * steps / seconds / 1e12
        found[objective] = {
            "steps": steps,
            "images": images,
            "seconds": round(seconds, 3),
            "images_a_second": round(images / seconds, 1),
            "hours_of_a_training": round(PaintPlan().steps * seconds / steps / 3600, 2),
            "seconds_to_cut_the_crops_alone": round(cutting, 3),
            "operations_a_step": operations,
            "tflops": round(rate, 4),
            "peak_tflops": peak,
            "share_of_peak": round(rate / peak, 4) if peak else None,
        }
        shown = ("images_a_second", "tflops", "share_of_peak")
        print(json.dumps({objective: {k: found[objective][k] for k in shown}}), flush=True)
    return found


def _timed(work: Callable[[], object], repeats: int, tried: bool, share: int = 1) -> dict[str, Any]:
    """Seconds of the work, or of each of `share` pieces: the median, and every measurement. It is
    done once before the clock starts, if `tried`."""
    if tried:
        work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) / share)
    return {"median": round(statistics.median(taken), 5), "runs": [round(t, 5) for t in taken]}


def _claims(result: dict[str, Any]) -> dict[str, bool]:
    found = {
        (row["objective"], row["size_px"], row["steps"]): row["one"]["median"]
        for row in result["painting"]
    }
    claims = {
        f"{size} px in {limit} s": found["flow", size, 4] <= limit
        for size, limit in LIMITS.items()
        if ("flow", size, 4) in found
    }
    for size in LIMITS:
        if ("ddpm", size, 50) in found:
            fast, slow = found["flow", size, 4], found["ddpm", size, 50]
            claims[f"{size} px, 10 times as fast as DDIM-50"] = slow >= 10 * fast
    hours = max(one["hours_of_a_training"] for one in result["training"].values())
    claims[f"a training in {MOST_HOURS} hours"] = hours <= MOST_HOURS
    return claims


if __name__ == "__main__":
    main()
