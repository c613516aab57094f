"""`polyclinic site`: a hospital's side of a federation across machines."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from polyclinic.cli import deployment
from polyclinic.cli.declared import declared
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.progress import telling
from polyclinic.errors import DataError

if TYPE_CHECKING:
    from polyclinic.data.readers.reader import TaskChoice
    from polyclinic.deploy.terms import Checked


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
@declared
@click.option(
    "--keep-scores/--tell-scores",
    "keeps_scores",
    default=None,
    help="Whether the server is told how encoders score here.  [default: as before, at first told]",
)
@click.option("--background", is_flag=True, help="Return once it works; `site stop` ends it.")
def join(
    invite: Path,
    data: Path,
    state: Path | None,
    format_: str,
    task: str,
    keeps_scores: bool | None,
    background: bool,
) -> None:
    """Join the federation of INVITE, the coordinator's file, and work for it until stopped.

    The site's key is made here and stays here; so do images, labels, heads and predictions.
    Called again, it goes on with the key that is there.
    """
    state = state or deployment.usual_site_folder(invite)
    tells = None if keeps_scores is None else not keeps_scores
    name = deployment.join_federation(
        invite, state, data=data, format=format_, task=task, tells_scores=tells
    )
    options = ["--format", format_, "--task", task]
    if keeps_scores is not None:
        options.append("--keep-scores" if keeps_scores else "--tell-scores")
    arguments = ["site", "join", str(invite), "--data", str(data), "--state", str(state), *options]
    if background:
        pid = deployment.in_background(
            arguments, state / "logs" / "site.log", lambda: deployment.site_ready(state)
        )
        click.echo(f"{name} works in the background (process {pid}); log: {state}/logs")
        return
    with resumable(["polyclinic", *arguments]):
        deployment.work_for_federation(state, _say)


@site.command(short_help="See what may be in the way, before joining.")
@click.argument("invite", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="The folder of the site's data."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Where the site's folder will be.  [default: site-NAME]",
)
@declared
@click.pass_context
def check(
    context: click.Context,
    invite: Path,
    data: Path,
    state: Path | None,
    format_: str,
    task: "TaskChoice",
) -> None:
    """See what joining by INVITE agrees to, and whether anything is in the way.

    All images are read, as the federation wants them. Nothing is sent but a question whether the
    server is there. Exit code 3 where something is wrong.
    """
    wrong = False
    for checked in deployment.preflight(invite, state):
        wrong |= _show(checked)
    with telling() as tell:
        found = deployment.check_site_data(invite, data, format=format_, task=task, tell=tell)
    for checked in found:
        wrong |= _show(checked)
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
    keys, fingerprint, confirmed = deployment.site_roster(state, confirm)
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
    stopped = deployment.stop_site(state)
    click.echo("stopped" if stopped else "it was not running")


def _show(checked: "Checked") -> bool:
    """Print a line; whether it is about something wrong."""
    click.echo(f"{checked.mark:8} {checked.what}: {checked.text}")
    return checked.mark == "wrong"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
