"""`polyclinic export`: a run's encoder as a folder that may be passed on."""

from pathlib import Path
from typing import get_args

import click

from polyclinic.cli import engine
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.config import MethodName


@click.command(short_help="Write a run's encoder, with a card, for others.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--onnx", is_flag=True, help="Write encoder.onnx as well.")
@click.option(
    "--method",
    type=click.Choice(get_args(MethodName)),
    help="Whose encoder.  [default: the leading method of the run]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Of which seed.  [default: the first of the run]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
def export(
    run: Path, out: Path, onnx: bool, method: str | None, seed: int | None, as_json: bool
) -> None:
    """Write the encoder of the run directory RUN as safetensors, with its model card."""
    with telling(quiet=True) as tell:
        files = engine.export_run(run, out, method=method, seed=seed, onnx=onnx, tell=tell)
    if as_json:
        emit({"event": "export", "out": str(out), "files": [str(file) for file in files]})
        return
    for file in files:
        click.echo(file)
