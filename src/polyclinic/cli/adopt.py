"""`polyclinic adopt`: a hospital fits a model to its own few labels."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from polyclinic.cli import engine
from polyclinic.cli.declared import declared
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.config import MethodName
from polyclinic.errors import ConfigError

if TYPE_CHECKING:
    from polyclinic.data.readers.reader import TaskChoice

SHOWN = 8  # classes that are named


@click.command(short_help="Fit a model to a hospital's few labels.")
@click.argument("run", metavar="RUN_OR_EXPORT", type=click.Path(path_type=Path))
@click.argument("data", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the model.  [default: models/NAME-DATE-TIME]",
)
@click.option("--fine-tune", is_flag=True, help="Train the encoder as well, not the head alone.")
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.9,
    show_default=True,
    help="Share of images that are to be answered; the model abstains from the others.",
)
@click.option(
    "--method",
    type=click.Choice(get_args(MethodName)),
    help="Whose encoder.  [default: the leading method of the run]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of folds, views and heads.",
)
@declared
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def adopt(
    run: Path,
    data: Path,
    out: Path | None,
    fine_tune: bool,
    coverage: float,
    method: str | None,
    seed: int,
    format_: str,
    task: "TaskChoice",
    as_json: bool,
    quiet: bool,
) -> None:
    """Fit a head to the labelled images in PATH, and say honestly how good it is.

    RUN_OR_EXPORT is a run directory or what `polyclinic export` wrote.
    """
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")
    name = data.resolve().name
    folder = out or Path("models") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with telling(as_json=as_json, quiet=quiet) as tell:
        model = engine.adopt(
            run,
            data,
            folder,
            format=format_,
            task=task,
            method=method,
            fine_tune=fine_tune,
            coverage=coverage,
            seed=seed,
            tell=tell,
        )
    facts = model.facts
    if as_json:
        emit(
            {
                "event": "adopt",
                "model": str(folder),
                "estimates": facts["estimates"],
                "coverage": facts["coverage"],
                "least_confidence": model.least_confidence,
            }
        )
    elif not quiet:
        click.echo(f"read as {facts['format']}, {model.task}: {_named(model.classes)}")
        click.echo(estimate_text(facts))
        again = shlex.join(["polyclinic", "predict", str(folder), "FOLDER"])
        click.echo(f"model: {folder}\npredict with: {again}")


def _named(classes: Sequence[str]) -> str:
    """The first classes, and how many more there are; a folder may be taken for another."""
    if not classes:
        return "a number"
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return f"{', '.join(classes[:SHOWN])}{more}"


def estimate_text(facts: dict[str, Any]) -> str:
    """What cross-validation found, in words."""
    main = facts["estimates"][facts["metric"]]
    value = "undefined" if main["value"] is None else f"{main['value']:.3f}"
    interval = ""
    if main["low"] is not None:
        interval = f" (95 % interval {main['low']:.3f} to {main['high']:.3f})"
    by = "by patient" if facts["patients"] else "by image, as no patient is named,"
    lines = [
        f"{facts['images']} images, cross-validated {by} in {facts['folds']} parts: "
        f"{facts['metric']} {value}{interval}"
    ]
    error = "1 - Dice" if facts["metric"] == "dice" else "error"
    lines += [
        f"the surest {100 * row['share']:.0f} %: {error} {row['error']:.3f}"
        for row in facts["coverage"]
        if row["share"] in (1.0, 0.9, 0.8)
    ]
    return "\n".join(lines)
