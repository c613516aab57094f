"""`polyclinic audit`: a site attacks the updates of its own training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from polyclinic.cli import engine
from polyclinic.cli.declared import declared
from polyclinic.cli.output import emit, table
from polyclinic.cli.progress import telling
from polyclinic.config import MethodName
from polyclinic.data.writing import writing
from polyclinic.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from polyclinic.data.readers.reader import TaskChoice

FILE = "audit.json"
ATTACKS = ("canary", "inversion", "membership", "labels")


def attacks(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """`canary,labels` as names, each once, in the order in which they run."""
    del context, parameter
    named = [part.strip() for part in value.split(",")]
    for name in named:
        if name not in ATTACKS:
            raise click.BadParameter(f"expected some of {', '.join(ATTACKS)}; got {name!r}")
    return tuple(name for name in ATTACKS if name in named)


@click.command(short_help="Attack the updates of a run's own training.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "folders",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A site's own data; may be repeated.  [default: the first site of the run]",
)
@click.option(
    "--attacks",
    "chosen",
    metavar="NAME,NAME,...",
    callback=attacks,
    default=",".join(ATTACKS),
    show_default=True,
    help="Which attacks.",
)
@click.option("--quick", is_flag=True, help="Few repetitions: to see whether everything works.")
@click.option(
    "--method",
    type=click.Choice(get_args(MethodName)),
    help="Whose encoder and training.  [default: the leading method of the run]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of victims, attacks and coins.",
)
@declared
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {FILE}.  [default: RUN]")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def audit(
    run: Path,
    folders: tuple[Path, ...],
    chosen: tuple[str, ...],
    quick: bool,
    method: str | None,
    seed: int,
    format_: str,
    task: "TaskChoice",
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Attack updates that a site's own training makes, under the settings of the run in RUN.

    RUN is a run directory, or the folder of a site that took part in a federation across machines.
    Only whoever has a site's images can audit it: attacks are judged against the truth.
    """
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")
    folder = out or run
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; expected a folder for {FILE}")
    for data in folders:
        if not data.exists():
            raise DataError(f"{data}: no such folder; expected a site's own data")
    with telling(as_json=as_json, quiet=quiet) as tell:
        results = engine.audit_run(
            run,
            folders,
            attacks=chosen,
            quick=quick,
            method=method,
            seed=seed,
            format=format_,
            task=task,
            tell=tell,
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with writing(path) as part:
        part.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        emit({"event": "audit", "audit": str(path), **results})
    elif not quiet:
        click.echo(f"{audit_text(results)}\n\nwritten: {path}")


def audit_text(results: dict[str, Any]) -> str:
    """A table of what was found, and what to make of it in a line."""
    several = len(results["sites"]) > 1
    rows = [
        [
            *([row["site"]] if several else []),
            row["attack"],
            row["setting"],
            _result(row),
            "-" if row["baseline"] is None else f"{row['baseline']:.3g}",
            row["verdict"],
        ]
        for row in results["rows"]
    ]
    header = ["attack", "setting", "result", "baseline or claim", "verdict"]
    lines = [table([*(["site"] if several else []), *header], rows)]
    lines += [
        f"warning: failed on a victim that was made to leak: {attack}; what it says of the run "
        "shows nothing"
        for attack in results["missed"]
    ]
    if results["quick"]:
        lines.append("a quick audit: few repetitions and short searches show little")
    return "\n\n".join([lines[0], "\n".join(lines[1:])] if lines[1:] else lines)


def _result(row: dict[str, Any]) -> str:
    shown = f"{row['value']:.3g}"
    if row["low"] is not None:
        shown += f" ({row['low']:.3g} to {row['high']:.3g})"
    return f"{row['measure']}: {shown}"
