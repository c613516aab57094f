"""`polyclinic data fetch`: real public sets, for those with a network."""

from pathlib import Path

import click

from polyclinic.cli import engine
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.errors import ConfigError

COLLECTIONS = ("medmnist",)
SIZES = (28, 64, 128, 224)


@click.command(short_help="Fetch real public data sets.")
@click.argument("collection", type=click.Choice(COLLECTIONS))
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option(
    "--size",
    type=click.Choice([str(size) for size in SIZES]),
    default=str(SIZES[0]),
    show_default=True,
    help="Side of the images, px.",
)
@click.option(
    "--source", metavar="URL", help="Where the files are, such as a mirror.  [default: Zenodo]"
)
@click.option("--json", "as_json", is_flag=True, help="Progress and result as JSON lines.")
@click.option("--quiet", is_flag=True, help="Nothing but errors.")
def fetch(
    collection: str,
    names: tuple[str, ...],
    out: Path,
    size: str,
    source: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fetch the sets NAME of a collection into a folder of sites: OUT/NAME/NAME.npz.

    The checksums of the publisher are verified. Called again after an interruption, it goes on
    where it stopped.
    """
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one")
    with telling(as_json=as_json, quiet=quiet) as tell:
        sets = engine.fetch(collection, names, out, size=int(size), source=source, tell=tell)
        for one in sets:
            if as_json:
                emit({"event": "fetch", **one})
            elif not quiet:
                did = "fetched" if one["new"] else "is there already"
                click.echo(f"{one['path']}: {did}, licence {one['licence']}")
