"""`polyclinic report`: the report of a run, written anew."""

from pathlib import Path

import click

from polyclinic.cli import engine
from polyclinic.cli.output import emit
from polyclinic.errors import RunError


@click.command(short_help="Write report.html anew.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
def report(run: Path, as_json: bool) -> None:
    """Write report.html anew from the results in the run directory RUN."""
    if run.name == "results.json":
        run = run.parent
    if not (run / "results.json").is_file():
        raise RunError(
            f"{run}: no results.json in this folder; expected a run directory of `polyclinic run`, "
            "or the folder `run` of a server that has finished"
        )
    page = engine.write_report(run)
    if as_json:
        emit({"event": "report", "run": str(run), "report": str(page)})
    else:
        click.echo(f"report: {page}")
