"""How the levels of a flow are spaced, and how far what is painted lies from the truth.

    python benchmarks/painter_levels.py RUN
    python benchmarks/painter_levels.py --smoke    # a minute: does it work?

RUN is a directory of `polyclinic inpaint train`, objective `flow`. Its test patients are not read.
Random crops of its validation patients are painted with few and many steps at several `power` and
`lowest` (see `polyclinic.inpaint.objectives.Levels`), without guidance, feather and grain. `error`
is the root mean square difference to the truth in the region, intensities from -1 to 1;
`difference` that of two samples with different noise. For a sampler that draws from the true
distribution the two are equal, as the truth is one more draw from it; the mean of that distribution
has an error smaller by the square root of 2. `painter_settings.py` chooses by what is painted in
whole slices; this shows what many steps do at low levels.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import painter_untrained
import records

SEED = 0
CROPS, BATCHES = 16, 3
STEPS = (4, 8, 16, 50)
SPACINGS = ((1.0, 0.0), (3.0, 0.0), (1.0, 0.1), (3.0, 0.1))
PACKAGES = ("polyclinic", "torch", "numpy", "scipy", "monai")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--smoke", action="store_true", help="made-up heads, an untrained network")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/painter_levels.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.smoke:
        with tempfile.TemporaryDirectory() as folder:
            result = _measure(painter_untrained.train(Path(folder)), (2,), batches=1)
    elif arguments.run is None:
        parser.error("RUN is required (or --smoke)")
    else:
        result = _measure(arguments.run, STEPS, BATCHES)
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "painter_levels.json")


def _measure(run: Path, steps: tuple[int, ...], batches: int) -> dict[str, Any]:
    from polyclinic.inpaint.crops import Crops, Views
    from polyclinic.inpaint.objectives import Levels
    from polyclinic.inpaint.regions import Mixture
    from polyclinic.run.painter_evaluation.inputs import read_inputs

    inputs = read_inputs(run, (), "auto", "val")
    config = inputs.painter.network.config
    crops = Crops(inputs.held_out, config, SEED, Views().plain(), Mixture())
    drawn = [crops.batch(number, CROPS) for number in range(batches)]
    rows = []
    for count in steps:
        for power, lowest in SPACINGS:
            found = _distances(inputs.painter, drawn, count, Levels(power, lowest))
            row = {"steps": count, "power": power, "lowest": lowest, **found}
            print(json.dumps(row), flush=True)
            rows.append(row)
    return records.circumstances(PACKAGES, seed=SEED) | {
        "painter": inputs.painter.digest,
        "patients": len({case.patient for case in inputs.held_out}),
        "crops": sum(len(batch.x) for batch in drawn),
        "rows": rows,
    }


def _distances(painter: Any, drawn: list[Any], steps: int, levels: Any) -> dict[str, float]:
    """Root mean squares over all painted pixels: to the truth, and between two samples."""
    import torch

    from polyclinic.inpaint.training import to_device
    from polyclinic.seeding import generator

    squares = {"error": 0.0, "difference": 0.0}
    pixels = 0.0
    for number, batch in enumerate(drawn):
        moved = to_device(batch)
        one, other = (
            painter.sample(
                moved.request,
                torch.randn(batch.x.shape, generator=generator(SEED, number, draw)).to(moved.x),
                steps,
                levels,
            )[:, :1]
            for draw in range(2)
        )
        fill = moved.request.fill_mask
        squares["error"] += float(((one - moved.x[:, :1]).square() * fill).sum())
        squares["difference"] += float(((one - other).square() * fill).sum())
        pixels += float(fill.sum())
    return {name: round((value / pixels) ** 0.5, 4) for name, value in squares.items()}


if __name__ == "__main__":
    main()
