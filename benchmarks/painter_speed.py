"""How long painting takes, and how fast a painter trains.

    python benchmarks/painter_speed.py            # some minutes on an idle machine
    python benchmarks/painter_speed.py --smoke    # seconds: does it work?

Slices of 112 and 240 px, made up; one region each, of the size of a tumour. Weights are loaded, and
one slice has been painted before the clock starts. `one` is a slice at a time through
`painting.paint`, with all that an edit needs apart from reading and writing files; `bulk` is 16
crops at once through the sampler alone. The networks are of the small preset and not trained, which
does not change how long they take; `--painter` takes the weights of a painter instead. Training
counts images (crops) a second of whole steps, crops cut on the same cores.

Claims: at 4 steps a slice of 112 px takes at most 0.4 s and one of 240 px at most 1 s; 4 steps of
the flow are at least 10 times as fast as 50 of DDIM.
"""

import argparse
import dataclasses
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
STEPS = {"flow": (1, 2, 4, 8, 50), "ddpm": (10, 25, 50, 250)}
BULK = 16
REPEATS = 7
SLOW = 50
"""From so many steps on, a measurement is repeated less often."""
PACKAGES = ("polyclinic", "torch", "numpy", "monai")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--painter", type=Path, help="weights of a flow (default: untrained)")
    parser.add_argument("--smoke", action="store_true", help="one size, few steps, once")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/painter_speed.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    smoke = arguments.smoke
    sizes = (48,) if smoke else tuple(LIMITS)
    steps = {"flow": (1,), "ddpm": (2,)} if smoke else STEPS
    repeats = 1 if smoke else REPEATS

    import torch

    from polyclinic.models.device import describe

    result = records.circumstances(PACKAGES, seed=SEED)
    result |= {"threads": torch.get_num_threads(), "environment": describe(), "bulk": BULK}
    painters = _painters(arguments.painter)
    result["parameters"] = sum(p.numel() for p in painters["flow"].network.parameters())
    cases = {size: _cases(size) for size in sizes}
    result["painting"] = [
        row
        for size in sizes
        for name, painter in painters.items()
        for row in _painting(painter, name, cases[size], size, steps[name], repeats)
    ]
    result["training"] = _training(cases[sizes[0]], 2 if smoke else 30)
    result["claims"] = _claims(result["painting"])
    print(json.dumps(result["claims"]))
    if arguments.out or not smoke:
        records.write(result, arguments.out or records.RESULTS / "painter_speed.json")


def _painters(weights: Path | None) -> dict[str, Any]:
    from polyclinic.inpaint.network import SIZES, build_network
    from polyclinic.inpaint.objectives import OBJECTIVES
    from polyclinic.inpaint.painter import Painter, load_painter
    from polyclinic.models.device import device

    network = build_network(SIZES["small"], SEED).to(device()).eval()
    flow = Painter(network, OBJECTIVES["flow"], digest="")
    if weights is not None:
        flow = load_painter(weights)
    return {"flow": flow, "ddpm": Painter(flow.network, OBJECTIVES["ddpm"], digest="")}


def _cases(size: int) -> list[Any]:
    """Three made-up patients."""
    from polyclinic.data.phantoms import brain
    from polyclinic.data.phantoms.layouts import write_cases
    from polyclinic.inpaint.cases import Case, find_cases, read_cases

    with tempfile.TemporaryDirectory() as folder:
        write_cases(Path(folder), brain.generate(3, size=size, slices=3))
        return [case for case in read_cases(find_cases(Path(folder))) if isinstance(case, Case)]


def _painting(
    painter: Any, name: str, cases: list[Any], size: int, steps: tuple[int, ...], repeats: int
) -> list[dict[str, Any]]:
    """Seconds a slice, one at a time and in bulk, for each number of steps."""
    from polyclinic.inpaint.components import MIXED
    from polyclinic.inpaint.crops import Crops, Views
    from polyclinic.inpaint.painting import Settings, paint
    from polyclinic.inpaint.regions import Mixture, empty, overlay

    case = max(cases, key=lambda case: int((case.components > 0).sum()))
    z = int((case.components > 0).sum(axis=(1, 2)).argmax())
    plane = case.components[z]
    region = overlay(empty(plane.shape), plane > 0, MIXED)
    sequence, slices = next((n, v[z : z + 1]) for n, v in case.volumes.items())
    config = painter.network.config
    batch = Crops(cases, config, SEED, Views(), Mixture()).batch(0, BULK)
    rows = []
    for count in steps:
        settings = Settings(steps=count, seed=SEED)

        def one(settings: Any = settings) -> None:
            paint(painter, slices, [region], sequence, case.head_px, settings)

        def bulk(count: int = count) -> None:
            _bulk(painter, batch, count)

        times = max(1, repeats // 3) if count >= SLOW else repeats
        row: dict[str, Any] = {
            "objective": name,
            "size_px": size,
            "steps": count,
            "region_px": int((plane > 0).sum()),
            "one": _timed(one, times),
            "bulk": _timed(bulk, times, share=BULK),
        }
        print(json.dumps({k: row[k] for k in ("objective", "size_px", "steps")}
                         | {k: row[k]["median"] for k in ("one", "bulk")}), flush=True)  # fmt: skip
        rows.append(row)
    return rows


def _bulk(painter: Any, batch: Any, steps: int) -> None:
    """All crops of a batch at once."""
    import torch

    from polyclinic.inpaint.samplers import SAMPLERS
    from polyclinic.inpaint.training import to_device
    from polyclinic.seeding import generator

    moved = to_device(batch)
    gen = generator(SEED)
    noise = torch.randn(batch.x.shape, generator=gen).to(moved.x.device)
    x = SAMPLERS["ddim"](
        lambda state, level: painter.estimate(state, level, moved.request, 1.0),
        noise,
        painter.objective,
        steps,
        gen,
    )
    x.cpu()  # a GPU is waited for


def _training(cases: list[Any], steps: int) -> dict[str, Any]:
    """Images a second of the small preset's training."""
    from polyclinic.inpaint.training import PaintPlan, Trainer

    found: dict[str, Any] = {}
    for objective in ("flow", "ddpm"):
        plan = dataclasses.replace(PaintPlan(), objective=objective, steps=2 * steps)
        trainer = Trainer(cases, plan)
        list(trainer.run(2))  # warms up
        images, began = 0, time.perf_counter()
        for number in range(2, 2 + steps):
            images += len(trainer.crops.batch(number, plan.batch_size).x)
        cutting = time.perf_counter() - began
        began = time.perf_counter()
        list(trainer.run(steps))
        seconds = time.perf_counter() - began
        found[objective] = {
            "steps": steps,
            "images": images,
            "seconds": round(seconds, 3),
            "images_a_second": round(images / seconds, 1),
            "seconds_to_cut_the_crops_alone": round(cutting, 3),
        }
        print(json.dumps({objective: found[objective]["images_a_second"]}), flush=True)
    return found


def _timed(work: Callable[[], None], repeats: int, share: int = 1) -> dict[str, Any]:
    """Seconds a slice: the median, and every measurement."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) / share)
    return {"median": round(statistics.median(taken), 5), "runs": [round(t, 5) for t in taken]}


def _claims(rows: list[dict[str, Any]]) -> dict[str, bool]:
    found = {(row["objective"], row["size_px"], row["steps"]): row["one"]["median"] for row in rows}
    claims = {
        f"{size} px in {limit} s": found["flow", size, 4] <= limit
        for size, limit in LIMITS.items()
        if ("flow", size, 4) in found
    }
    for size in LIMITS:
        if ("ddpm", size, 50) in found:
            fast, slow = found["flow", size, 4], found["ddpm", size, 50]
            claims[f"{size} px, 10 times as fast as DDIM-50"] = slow >= 10 * fast
    return claims


if __name__ == "__main__":
    main()
