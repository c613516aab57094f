"""`polyclinic site`: a hospital's side of a federation across machines."""

import sys
from pathlib import Path
from typing import get_args, get_type_hints

import click

from polyclinic.cli import engine
from polyclinic.cli.declared import known_format
from polyclinic.cli.interrupt import resumable
from polyclinic.config import SiteConfig
from polyclinic.errors import DataError

TASKS = get_args(get_type_hints(SiteConfig)["task"])
_MARKS = {True: "good", None: "warning", False: "wrong"}


@click.group(short_help="Take part in a federation across machines.")
def site() -> None:
    """Take part in a federation across machines: docs/deploy.md tells how."""


@site.command(short_help="Join a federation, and work for it.")
@click.argument("invite", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="The folder of the site's data."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Folder for key, heads, logs and results.  [default: site-NAME]",
)
@click.option(
    "--format",
    "format_",
    callback=known_format,
    default="auto",
    show_default=True,
    help="See docs/data.md.",
)
@click.option(
    "--task", type=click.Choice(TASKS), default="auto", show_default=True, help="Likewise."
)
@click.option("--keep-scores", is_flag=True, help="Do not tell the server how encoders score here.")
@click.option("--background", is_flag=True, help="Return once it works; `site stop` ends it.")
def join(
    invite: Path,
    data: Path,
    state: Path | None,
    format_: str,
    task: str,
    keep_scores: bool,
    background: bool,
) -> None:
    """Join the federation of INVITE, the coordinator's file, and work for it until stopped.

    The site's key is made here and stays here; so do images, labels, heads and predictions.
    Called again, it goes on with the key that is there.
    """
    state = state or Path(f"site-{engine.invited_site(invite)}")
    name = engine.join_federation(
        invite, state, data=data, format=format_, task=task, tells_scores=not keep_scores
    )
    options = ["--format", format_, "--task", task, *(["--keep-scores"] if keep_scores else [])]
    arguments = ["site", "join", str(invite), "--data", str(data), "--state", str(state), *options]
    if background:
        pid = engine.in_background(
            arguments, state / "logs" / "site.log", lambda: engine.site_ready(state)
        )
        click.echo(f"{name} works in the background (process {pid}); log: {state}/logs")
        return
    with resumable(["polyclinic", *arguments]):
        engine.work_for_federation(state, _say)


@site.command(short_help="See what may be in the way, before joining.")
@click.argument("invite", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="The folder of the site's data."
)
@click.option(
    "--state", type=click.Path(path_type=Path), default=".", help="Where the site's folder will be."
)
@click.pass_context
def check(context: click.Context, invite: Path, data: Path, state: Path) -> None:
    """See whether INVITE can be followed: data, disk, certificate, clock, way to the server.

    Nothing is sent but a question whether the server is there. Exit code 3 where something is
    wrong.
    """
    wrong = []
    for checked in engine.preflight(invite, data, state):
        click.echo(f"{_MARKS[checked.good]:8} {checked.what}: {checked.text}")
        if checked.good is False:
            wrong.append(checked.what)
    if wrong:
        context.exit(DataError.exit_code)


@site.command(short_help="See and confirm the keys of the other sites.")
@click.argument("state", type=click.Path(path_type=Path))
@click.option("--confirm", help="The fingerprint that the sites have compared.")
def roster(state: Path, confirm: str | None) -> None:
    """See the public keys of all sites, at the site in STATE.

    For secure aggregation, and where sites compare what they are sent. The keys come from the
    server, which may lie. Compare the fingerprint with the other sites, by telephone: where all
    have the same, confirm it. Until then the site takes no part.
    """
    keys, fingerprint, confirmed = engine.site_roster(state, confirm)
    for name, key in sorted(keys.items()):
        click.echo(f"{name:16} {key}")
    click.echo(f"fingerprint: {fingerprint}")
    if confirmed:
        click.echo("confirmed: no other roster is taken from now on")
    else:
        click.echo(
            "not confirmed: compare it with the other sites, then use "
            f"polyclinic site roster {state} --confirm {fingerprint}"
        )


@site.command(short_help="Stop a site; it can go on later.")
@click.argument("state", type=click.Path(path_type=Path))
def stop(state: Path) -> None:
    """Stop the site that works in the folder STATE."""
    stopped = engine.stop_working(state)
    click.echo("stopped" if stopped else "it was not running")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
