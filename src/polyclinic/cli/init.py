"""`polyclinic init`: look at folders of data, write a configuration for them."""

import shlex
from pathlib import Path

import click

from polyclinic.cli.output import emit
from polyclinic.cli.sites import as_name, find_sites, site_json, sites_text
from polyclinic.cli.template import config_template
from polyclinic.config import SiteConfig, load_config
from polyclinic.data.writing import writing
from polyclinic.errors import ConfigError


@click.command(short_help="Write a configuration for a folder of sites.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    help="Public images without labels.  [default: FOLDER/corpus]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("federation.toml"),
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Overwrite that file.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
def init(folder: Path, corpus: Path | None, out: Path, force: bool, as_json: bool) -> None:
    """Recognise the data sets below FOLDER and write a configuration for them.

    Each subfolder of FOLDER (or of FOLDER/sites) is a site; FOLDER/corpus is the public corpus.
    No image is decoded, none is copied.
    """
    if out.exists() and not force:
        raise ConfigError(f"{out}: exists already; use --force to overwrite it, or another --out")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: the folder {out.parent} does not exist; create it first")
    found = find_sites(folder, corpus)
    text = config_template(
        [
            SiteConfig(site.name, site.path, site.scan.format, site.scan.task)
            for site in found.sites
        ],
        found.corpus,
        name=as_name(folder.resolve().name),
        folder=out.parent,
    )
    _write(out, text)
    load_config(out)
    if as_json:
        emit(
            {
                "event": "init",
                "config": str(out),
                "corpus": {"path": str(found.corpus), "images": found.corpus_images},
                "sites": [site_json(site) for site in found.sites],
                "skipped": [{"path": str(s.path), "reason": s.reason} for s in found.skipped],
            }
        )
        return
    click.echo(sites_text(found.sites))
    for skip in found.skipped:
        click.echo(f"skipped: {skip.reason}")
    click.echo(f"corpus: {found.corpus_images} images in {found.corpus}")
    click.echo(f"wrote {out}; next: {shlex.join(['polyclinic', 'run', str(out)])}")


def _write(out: Path, text: str) -> None:
    """Write the file, whole or not at all."""
    try:
        with writing(out) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be written ({error.strerror or error}); free some space or choose "
            "another --out"
        ) from None
