"""`polyclinic evaluate`: a trained encoder on any other data set."""

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
from polyclinic.errors import ConfigError, RunError
from polyclinic.run.start import is_unused

if TYPE_CHECKING:
    from polyclinic.data.readers.reader import TaskChoice

FILE = "evaluation.json"


def labels(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """`5,10,50` as numbers, each once."""
    del context, parameter
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"expected whole numbers above 0, such as 5,10,50; got {value!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


@click.command(short_help="Judge an encoder on another data set.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--on", "data", type=click.Path(path_type=Path), required=True, help="The data set's folder."
)
@click.option(
    "--labels-per-class",
    metavar="N,N,...",
    callback=labels,
    default="5,10,50",
    show_default=True,
    help="How few labels the probes may use.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Repeats of what is drawn or trained.",
)
@click.option(
    "--method",
    type=click.Choice(get_args(MethodName)),
    help="Whose encoder.  [default: the leading method of the run]",
)
@declared
@click.option("--out", type=click.Path(path_type=Path), help=f"A new folder for {FILE}.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def evaluate(
    run: Path,
    data: Path,
    labels_per_class: tuple[int, ...],
    seeds: int,
    method: str | None,
    format_: str,
    task: "TaskChoice",
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge the encoder in RUN, a run directory or an exported folder, on another data set.

    Its classes may be others than those of the sites that trained it.
    """
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")
    if out is not None and not is_unused(out):
        raise RunError(f"{out}: exists already and is not empty; choose another folder with --out")
    with telling(as_json=as_json, quiet=quiet) as tell:
        results = engine.judge_encoder(
            run,
            data,
            format=format_,
            task=task,
            method=method,
            labels_per_class=labels_per_class,
            seeds=seeds,
            tell=tell,
        )
    if out is not None:
        _write(out / FILE, results)
    if as_json:
        emit({"event": "encoder-evaluation", "out": None if out is None else str(out), **results})
    elif not quiet:
        click.echo(evaluation_text(results))
        if out is not None:
            click.echo(f"\nwritten: {out / FILE}")


def evaluation_text(results: dict[str, Any]) -> str:
    """The primary scores and the gains as tables."""
    data = results["data"]
    scores = [row for row in results["scores"] if row["primary"]]
    starts = list(dict.fromkeys(row["start"] for row in scores))
    cells = {(r["start"], r["protocol"], r["labels_per_class"]): r for r in scores}
    rows = [
        [_name(protocol, few), *(_cell(cells.get((start, protocol, few))) for start in starts)]
        for protocol, few in dict.fromkeys((r["protocol"], r["labels_per_class"]) for r in scores)
    ]
    text = (
        f"{data['name']}: {data['task']}, {data['images']} images, {results['metric']}, "
        f"{data['split']['test']} test images\n\n{table(['judged by', *starts], rows)}"
    )
    gains = [
        [
            f"over {row['over']}",
            _name(row["protocol"], row["labels_per_class"]),
            _number(row["value"], "+.3f"),
            f"{_number(row['low'], '+.3f')} to {_number(row['high'], '+.3f')}",
        ]
        for row in results["gains"]
    ]
    if not gains:
        return text
    return f"{text}\n\n{table(['gain', 'judged by', 'value', '95 % interval'], gains)}"


def _name(protocol: str, few: int | None) -> str:
    shown = {"k-nn": "nearest neighbours"}.get(protocol, protocol.replace("-", " "))
    return shown if few is None else f"{shown}, {few} labels a class"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    interval = f"{_number(row['low'], '.3f')} to {_number(row['high'], '.3f')}"
    return f"{_number(row['value'], '.3f')} ({interval})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as part:
        part.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
