"""`polyclinic server`: the coordinator's side of a federation across machines."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from polyclinic.cli import deployment, engine
from polyclinic.cli.interrupt import resumable

STATE = Path("server")


def _state(about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --state."""
    folder = click.Path(path_type=Path)
    return click.option("--state", type=folder, default=STATE, show_default=True, help=about)


@click.group(short_help="Coordinate a federation across machines.")
def server() -> None:
    """Coordinate a federation across machines: docs/deploy.md tells how."""


@server.command(short_help="Start a federation's server, or go on with it.")
@click.argument("federation", type=click.Path(path_type=Path))
@_state("Folder for keys, invitations, logs and the run.")
@click.option("--background", is_flag=True, help="Return once it works; `server stop` ends it.")
def start(federation: Path, state: Path, background: bool) -> None:
    """Start the server of FEDERATION, a TOML file, and run the federation to its end.

    Writes an invitation for each site into the folder. Started again after a crash, it goes on
    after the last finished stage.
    """
    arguments = ["server", "start", str(federation), "--state", str(state)]
    if background:
        deployment.require_deployment(federation)
        pid = deployment.in_background(
            arguments, state / "logs" / "server.log", lambda: deployment.server_ready(state)
        )
        click.echo(f"the server works in the background (process {pid}); log: {state}/logs")
        for invite in sorted((state / "invites").glob("*.invite")):
            click.echo(f"invitation: {invite}")
        return
    with resumable(["polyclinic", *arguments]):
        result = deployment.serve(federation, state, _say)
    click.echo(f"finished: {result}")
    click.echo(f"report: {engine.write_report(result.parent)}")


@server.command(short_help="Invite a site again that has lost its folder.")
@click.argument("federation", type=click.Path(path_type=Path))
@click.argument("site")
@_state("The server's folder.")
def invite(federation: Path, site: str, state: Path) -> None:
    """Write a new invitation for SITE of FEDERATION, for one that has lost its folder or its own.

    The server may run meanwhile. The keys that the site had joined with count no more.
    """
    path, joined = deployment.invite_again(federation, state, site)
    click.echo(f"invitation for {site}: {path}")
    if joined:
        click.echo(
            f"{site} had joined: its old keys count no more, and it joins from a new folder, where "
            "it knows nothing of its heads and of any privacy budget that it has spent",
            err=True,
        )


@server.command(short_help="Stop a server; it can go on later.")
@_state("The server's folder.")
def stop(state: Path) -> None:
    """Stop the server that works in a folder. Nothing that was finished is lost."""
    stopped = deployment.stop_server(state)
    click.echo("stopped" if stopped else "it was not running")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
