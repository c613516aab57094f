"""`polyclinic predict`: answers for a folder of images."""

from pathlib import Path

import click

from polyclinic.cli import engine
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.errors import ConfigError


@click.command(short_help="Predict for a file or a folder of images.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("predictions"),
    show_default=True,
    help="A folder, or a file that ends in .csv.",
)
@click.option("--resume", is_flag=True, help="Continue what was interrupted.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Images that the network sees at once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def predict(
    model: Path, data: Path, out: Path, resume: bool, batch: int, as_json: bool, quiet: bool
) -> None:
    """Write what MODEL, a folder of `polyclinic adopt`, says about each image in INPUT."""
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")
    again = ["polyclinic", "predict", model, data, "--out", out, "--batch", batch, "--resume"]
    with resumable(again), telling(as_json=as_json, quiet=quiet) as tell:
        done = engine.predict(model, data, out, batch=batch, resume=resume, tell=tell)
    counts = {
        "answered": done.answered,
        "abstained": done.abstained,
        "unreadable": done.unreadable,
    }
    if done.left_out and not (as_json or quiet):
        click.echo(f"{engine.left_out_line(done.left_out)}; --json has all", err=True)
    if as_json:
        masks = None if done.masks is None else str(done.masks)
        emit(
            {
                "event": "predict",
                "table": str(done.table),
                "masks": masks,
                "images": done.images,
                **counts,
                "resumed": done.resumed,
                "left_out": len(done.left_out),
                "left_out_files": dict(done.left_out),
            }
        )
    elif not quiet:
        if done.resumed == done.images:
            click.echo("already complete: nothing was left to predict")
        elif done.resumed:
            click.echo(f"continued after {done.resumed} of {done.images} rows")
        click.echo(", ".join(f"{number} {what}" for what, number in counts.items()))
        click.echo(f"table: {done.table}")
        if done.masks is not None:
            click.echo(f"masks: {done.masks}")
