"""A painter that took one step, on made-up heads: for the `--smoke` of what measures painters."""

from pathlib import Path
from typing import Any


def train(folder: Path, **more: Any) -> Path:
    """Its run directory, in `folder`; `more` are fields of `PainterRun`."""
    from polyclinic.data.phantoms import brain
    from polyclinic.data.phantoms.layouts import write_cases
    from polyclinic.inpaint.training import PaintPlan
    from polyclinic.run.painter import PainterRun, train_painter

    write_cases(folder / "cases", brain.generate(5, size=48, slices=3))
    run = PainterRun((folder / "cases",), plan=PaintPlan(steps=1, batch_size=2), **more)
    train_painter(run, folder / "flow")
    return folder / "flow"
