"""`polyclinic demo`: a whole federation on made-up images, in minutes."""

import json
from pathlib import Path
from typing import Any

import click

from polyclinic.cli import engine
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.run import show, train
from polyclinic.cli.sites import find_sites
from polyclinic.cli.template import config_template
from polyclinic.config import Config, SiteConfig, load_config, quick
from polyclinic.data.writing import writing
from polyclinic.errors import ConfigError, RunError
from polyclinic.run.progress import Progress, Tell
from polyclinic.run.start import is_unused

MARKER = "demo.json"  # says that the folder is a demo, and of which seed
IMAGES_PER_SITE, VAL_SHARE = 264, 0.2  # the smallest site still fills every split
SHORT = {  # what makes it end within about three minutes on two cores
    "mim.epochs": 4,
    "local.min_steps": 8,
    "local.max_steps": 8,
    "local.dense_head_epochs": 1,
    "evaluation.fine_tune_max_steps": 8,
}


@click.command(short_help="See a whole federation on made-up images.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for images, configuration and run.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of images and run."
)
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def demo(out: Path, seed: int, as_json: bool, quiet: bool) -> None:
    """Make up images of several hospitals, train a federation on them, write the report.

    Needs no data and no network. Called again, it continues where it stopped.
    """
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")
    claim(out, seed)
    run, results = out / "run", out / "run" / "results.json"
    page = run / "report.html"
    if page.is_file() and finished(results):
        if not (as_json or quiet):
            click.echo(f"{out}: this demo is complete; remove the folder to start afresh\n")
        show(results, page, as_json=as_json, quiet=quiet)
        return
    again = ["polyclinic", "demo", "--out", out, "--seed", seed]
    with resumable(again):
        resume = (run / "config.json").exists()
        train(
            lambda tell: prepare(out, seed, tell), run, resume=resume, as_json=as_json, quiet=quiet
        )
    if not (as_json or quiet):
        click.echo("these images are made up; for your own data: polyclinic init FOLDER")


def claim(out: Path, seed: int) -> None:
    """Make `out` a demo's folder; `RunError` where it is something else, or of another seed."""
    marker = out / MARKER
    if marker.is_file():
        made = _read(marker).get("seed")
        if made != seed:
            raise RunError(
                f"{marker}: expected a demo with seed {seed}, got {made}; "
                f"remove {out} or choose another folder with --out"
            )
        return
    if not is_unused(out):
        raise RunError(f"{out}: exists and is not a demo; choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    _write_whole(marker, json.dumps({"seed": seed}) + "\n")


def prepare(out: Path, seed: int, tell: Tell) -> Config:
    """Write phantoms and configuration below `out`, unless that was done before."""
    path, data = out / "federation.toml", out / "data"
    if not data.exists():  # it appears as a whole
        engine.write_phantoms(
            data,
            seed=seed,
            images_per_site=IMAGES_PER_SITE,
            tell=lambda text: tell(Progress("prepare", 0.0, message=text)),
        )
    if not path.is_file():
        found = find_sites(data, None)
        text = config_template(
            [SiteConfig(s.name, s.path, s.scan.format, s.scan.task) for s in found.sites],
            found.corpus,
            name="demo",
            folder=out,
            chosen={"seeds": [seed], "quick": True, "data.val_share": VAL_SHARE, **SHORT},
        )
        _write_whole(path, text)
    return quick(load_config(path))


def finished(results: Path) -> bool:
    """Whether `results` is there and says that the run went to its end."""
    return _read(results).get("finished") is True


def _write_whole(path: Path, text: str) -> None:
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
