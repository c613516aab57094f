"""`polyclinic run`: train and judge a federation, write the report."""

import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click

from polyclinic.cli import engine
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.cli.sites import FoundSite, site_json, sites_text
from polyclinic.cli.summary import summarise, summary_text
from polyclinic.config import (
    METHODS,
    Config,
    MethodName,
    check_privacy,
    check_secure,
    config_from_dict,
    config_to_dict,
    load_config,
    quick,
)
from polyclinic.errors import ConfigError, RunError
from polyclinic.report.layout import read_results
from polyclinic.run.progress import Progress, Tell
from polyclinic.run.start import is_unused

RUNS = Path("runs")


@click.command(short_help="Train and judge a federation, write the report.")
@click.argument("config_file", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run directory.  [default: runs/NAME-DATE-TIME; with --resume the newest of these]",
)
@click.option(
    "--seed", "seeds", type=click.IntRange(min=0), multiple=True, help="Instead of CONFIG's seeds."
)
@click.option(
    "--method",
    "methods",
    type=click.Choice(get_args(MethodName)),
    multiple=True,
    help="Instead of CONFIG's methods.",
)
@click.option(
    "--hold-out",
    "hold_out",
    metavar="SITE",
    multiple=True,
    help="A site to judge on and not to train on; may be repeated.",
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Sites that train at the same time.")
@click.option("--quick", "as_quick", is_flag=True, help="One seed, small images, few steps.")
@click.option("--resume", is_flag=True, help="Continue a run that was interrupted.")
@click.option("--dry-run", is_flag=True, help="Check configuration and data; train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def run(
    config_file: Path,
    out: Path | None,
    seeds: tuple[int, ...],
    methods: tuple[MethodName, ...],
    hold_out: tuple[str, ...],
    jobs: int | None,
    as_quick: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train the federation in CONFIG by every method, judge them, and write the report.

    CONFIG is a TOML file; `polyclinic init` writes one. --seed and --method may be repeated.
    """
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")
    config = load_config(config_file)
    if seeds:
        config = dataclasses.replace(config, seeds=tuple(dict.fromkeys(seeds)))
    if methods:
        config = dataclasses.replace(config, methods=tuple(m for m in METHODS if m in methods))
        check_privacy(config, "--method")
        check_secure(config, "--method")
    if hold_out:
        config = dataclasses.replace(config, hold_out=tuple(dict.fromkeys(hold_out)))
        config = config_from_dict(config_to_dict(config), base=Path(), source="--hold-out")
    if jobs:
        config = dataclasses.replace(config, jobs=jobs)
    if as_quick or config.quick:
        config = quick(config)
    out = out or (newest_run(config.name) if resume else RUNS / f"{config.name}-{_now()}")
    if not resume and not is_unused(out):
        raise RunError(f"{out}: exists already; add --resume to continue it, or use another --out")
    if dry_run:
        check(config, out, as_json=as_json, quiet=quiet)
        return
    again: list[object] = ["polyclinic", "run", config_file, "--resume", "--out", out]
    again += [part for seed in seeds for part in ("--seed", seed)]
    again += [part for method in methods for part in ("--method", method)]
    again += [part for name in hold_out for part in ("--hold-out", name)]
    again += ["--jobs", jobs] if jobs else []
    again += ["--quick"] if as_quick else []
    with resumable(again):
        train(lambda _: config, out, resume=resume, as_json=as_json, quiet=quiet)


def train(
    prepare: Callable[[Tell], Config], out: Path, *, resume: bool, as_json: bool, quiet: bool
) -> None:
    """Run what `prepare` returns, write the report, and print what came out."""
    with telling(as_json=as_json, quiet=quiet) as tell:
        config = prepare(tell)
        results = engine.run_experiment(config, out, resume=resume, tell=tell)
        tell(Progress("report", 1.0))
        page = engine.write_report(results.parent)
    show(results, page, as_json=as_json, quiet=quiet)


def show(results: Path, page: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the summary of finished results, and where the report is."""
    numbers = read_results(results.parent)
    if as_json:
        emit(
            {
                "event": "result",
                "run": str(results.parent),
                "results": str(results),
                "report": str(page),
                "summary": summarise(numbers),
            }
        )
    elif not quiet:
        click.echo(summary_text(numbers))
        click.echo(f"\nreport: {page}")


def check(config: Config, out: Path, *, as_json: bool, quiet: bool) -> None:
    """What `--dry-run` does: scan every site, look at the corpus, print the plan."""
    corpus_images = len(engine.scan_corpus(config.corpus).items)
    sites = [
        FoundSite(
            site.name, site.path, engine.scan_site(site.path, format=site.format, task=site.task)
        )
        for site in config.sites
    ]
    if as_json:
        plan = {"run": str(out), "methods": config.methods, "seeds": config.seeds}
        stages = config.local.stages
        corpus = {"path": str(config.corpus), "images": corpus_images}
        found = [site_json(site) for site in sites]
        plan |= {"hold_out": config.hold_out} if config.hold_out else {}
        emit({"event": "plan", **plan, "stages": stages, "corpus": corpus, "sites": found})
    elif not quiet:
        click.echo(sites_text(sites))
        click.echo(f"corpus: {corpus_images} images in {config.corpus}")
        seeds = ", ".join(map(str, config.seeds))
        click.echo(f"methods: {', '.join(config.methods)}; seeds: {seeds}")
        if config.hold_out:
            click.echo(f"held out, not trained on: {', '.join(config.hold_out)}")
        click.echo(f"stages: {config.local.stages}; the run would be written to {out}")


def newest_run(name: str) -> Path:
    """The run directory of that name under `runs/` with the latest date; `RunError` if none."""
    stamped = re.compile(re.escape(name) + r"-\d{8}-\d{6}")
    found = [path for path in RUNS.glob(f"{name}-*") if stamped.fullmatch(path.name)]
    if not found:
        raise RunError(
            f"{RUNS}: no run of `{name}` in this folder to resume; name it with --out, "
            "or start one without --resume"
        )
    return max(found, key=lambda path: path.name)


def _now() -> str:
    return time.strftime("%Y%m%d-%H%M%S")
