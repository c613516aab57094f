"""`polyclinic data check`: what is wrong with a site's folder, and what to do about it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from polyclinic.cli import engine
from polyclinic.cli.output import emit, table
from polyclinic.cli.progress import telling
from polyclinic.errors import ConfigError

if TYPE_CHECKING:
    from polyclinic.run.data_check import Checked

WARNINGS, ERRORS = 6, 7  # exit codes
LISTED = 10  # findings of a check that are printed; --json and --html have all of them


@click.command(short_help="Say what is wrong with a site's data.")
@click.argument("folder", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Progress and findings as JSON lines.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a contact sheet with the suspects' pictures; it is for the site alone.",
)
@click.option(
    "--share",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write counts and histograms that may leave the site.",
)
@click.option("--quiet", is_flag=True, help="Nothing but errors; the exit code says what it is.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Processes that look at images.  [default: one per core]",
)
@click.option("--force", is_flag=True, help="Write over --html and --share that are there.")
def check(
    folder: Path,
    as_json: bool,
    html: Path | None,
    share: Path | None,
    quiet: bool,
    jobs: int | None,
    force: bool,
) -> int:
    """Look at every file of the site's folder PATH and say what is wrong with it.

    Nothing in PATH is changed, nothing leaves this machine. Exit codes: 0 nothing to correct,
    6 warnings, 7 errors.
    """
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one")
    for path in filter(None, (html, share)):
        _refuse(path, folder, force=force)
    with telling(as_json=as_json, quiet=quiet) as tell:
        checked = engine.check_data(folder, jobs=jobs or _cores(), tell=tell)
    shared = engine.write_shared(checked, share) if share else None
    sheet = engine.write_contact_sheet(checked, html) if html else None
    counts = checked.counts()
    if as_json:
        paths = {"html": sheet and str(sheet), "share": shared and str(shared)}
        emit({"event": "check", **engine.findings_json(checked), **paths})
    elif not quiet:
        click.echo(_text(checked))
        for name, written in (("contact sheet", sheet), ("shared", shared)):
            if written:
                click.echo(f"{name}: {written}")
    return ERRORS if counts["error"] else WARNINGS if counts["warning"] else 0


def _refuse(path: Path, folder: Path, *, force: bool) -> None:
    """Raise before any work where a file cannot be written, or must not be."""
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; expected the name of a file to write")
    if path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{path}: lies in {folder}, where nothing is changed; name another")
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists already; use --force to overwrite it, or another name")


def _text(checked: "Checked") -> str:
    """A table of the checks, then the findings; those of info last, many of a kind cut short."""
    scan = checked.survey.scan
    number, readable = len(scan.items), len(checked.survey.readable)
    images = "1 image" if number == 1 else f"{number} images"
    images += f", {number - readable} of them unreadable" if readable < number else ""
    kind = f"{scan.format}, {scan.task}" if checked.recognised else "no known format"
    head = f"{scan.folder}: {kind}, {images}"
    rows = [
        [name, *(sum(f.severity == s for f in notes) for s in ("error", "warning", "info"))]
        for name, notes in checked.findings.items()
    ]
    lines = [head, "", table(["check", "errors", "warnings", "notes"], rows), ""]
    for severity in ("error", "warning", "info"):
        for name, notes in checked.findings.items():
            some = [finding for finding in notes if finding.severity == severity]
            for finding in some[:LISTED]:
                where = f"{finding.where}: " if finding.where else ""
                advice = f"; {finding.do}" if finding.do else ""
                lines.append(f"{severity}: {name}: {where}{finding.what}{advice}")
            if len(some) > LISTED:
                rest = f"{len(some) - LISTED} more; --json and --html list all of them"
                lines.append(f"{severity}: {name}: {rest}")
    counts = checked.counts()
    lines.append(
        ", ".join(
            f"{number} {noun if number == 1 else noun + 's'}"
            for number, noun in (
                (counts["error"], "error"),
                (counts["warning"], "warning"),
                (counts["info"], "note"),
            )
        )
        + f" in {checked.seconds:.1f} s"
    )
    return "\n".join(lines)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
