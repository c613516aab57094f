"""`polyclinic inpaint train`."""

import time
from pathlib import Path
from typing import Literal

import click

from polyclinic.cli.inpaint import engine
from polyclinic.cli.inpaint.options import (
    PATH,
    image_sequence_option,
    json_option,
    labels_option,
    one_of,
    patient_pattern_option,
    quiet_option,
)
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.cli.run import RUNS, newest_run
from polyclinic.errors import ConfigError, RunError
from polyclinic.run.start import is_unused

SIZES = ("small", "large")
OBJECTIVES = ("flow", "ddpm", "regression")
NAME = "painter"
"""Run directories of painters begin with it."""


@click.command(short_help="Train a painter.")
@click.argument("data", nargs=-1, type=PATH)
@click.option(
    "--out",
    type=PATH,
    help="The run directory.  [default: runs/painter-DATE-TIME; with --resume the newest of these]",
)
@click.option("--resume", is_flag=True, help="Continue a training that was interrupted.")
@click.option(
    "--size",
    type=click.Choice(SIZES),
    default="small",
    show_default=True,
    help="small for processors, large for GPUs.",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    default="flow",
    show_default=True,
    help="What is learned; ddpm and regression are there to compare with.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=12_000,
    show_default=True,
    help="Steps of the optimiser.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Crops a step.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of weights, crops and noise.",
)
@labels_option
@image_sequence_option
@click.option(
    "--phantoms", type=click.IntRange(min=0), default=0, help="Made-up heads to train on as well."
)
@click.option(
    "--leave-out",
    metavar="PATTERN",
    multiple=True,
    help="Cases that are not read, such as 'TCGA_FG_*'; may be repeated.",
)
@patient_pattern_option
@click.option(
    "--start-from",
    metavar="PAINTER",
    help="A run or file of weights to begin with, or small: the package's own painter.",
)
@json_option
@quiet_option
def train(
    data: tuple[Path, ...],
    out: Path | None,
    resume: bool,
    size: Literal["small", "large"],
    objective: Literal["flow", "ddpm", "regression"],
    steps: int,
    batch_size: int,
    seed: int,
    labels: Literal["auto", "brats", "msd", "mask"],
    sequence: str | None,
    phantoms: int,
    leave_out: tuple[str, ...],
    patient_pattern: str | None,
    start_from: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a painter on the folders DATA.

    DATA are BraTS-like folders of patients, folders laid out as in the Medical Segmentation
    Decathlon, or folders with images/ and masks/. With --phantoms no folder is needed.
    """
    if not data and not phantoms:
        raise ConfigError("nothing to train on: name a folder of brain MRI, or add --phantoms 24")
    one_of(as_json, quiet)
    fresh = RUNS / f"{NAME}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = out or (newest_run(NAME) if resume else fresh)
    if not resume and not is_unused(out):
        raise RunError(f"{out}: exists already; add --resume to continue it, or use another --out")
    again: list[object] = ["polyclinic", "inpaint", "train", *data, "--out", out, "--resume"]
    again += ["--size", size, "--objective", objective, "--steps", steps]
    again += ["--batch-size", batch_size, "--seed", seed, "--labels", labels]
    again += ["--phantoms", phantoms, *(w for p in leave_out for w in ("--leave-out", p))]
    again += ["--sequence", sequence] if sequence else []
    again += ["--patient-pattern", patient_pattern] if patient_pattern else []
    again += ["--start-from", start_from] if start_from else []
    with resumable(again), telling(as_json=as_json, quiet=quiet) as tell:
        painter = engine.train_painter(
            data,
            out,
            size=size,
            objective=objective,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            labels=labels,
            sequence=sequence,
            phantoms=phantoms,
            leave_out=leave_out,
            patient_pattern=patient_pattern,
            start_from=start_from,
            resume=resume,
            tell=tell,
        )
    if as_json:
        emit({"event": "result", "run": str(out), "painter": str(painter)})
    elif not quiet:
        click.echo(f"painter: {painter}")
