"""`polyclinic status`: what servers and sites are doing."""

import time
from pathlib import Path

import click

from polyclinic.cli import deployment
from polyclinic.cli.output import emit
from polyclinic.errors import RunError

PAUSE = 1.0  # s


@click.command(short_help="What a federation's server and sites are doing.")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until the federation is finished.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each.")
def status(folders: tuple[Path, ...], wait: bool, as_json: bool) -> None:
    """Show what the servers and sites of FOLDERS are doing, or of all folders in this one."""
    found = deployment.deployed_states(folders)
    while wait:
        servers = [state for state in found if state.kind == "server"]
        if not servers:
            raise RunError(
                f"{', '.join(str(state.folder) for state in found)}: no server to wait for; name "
                "the folder of one, or change to where it was started"
            )
        busy = [state for state in servers if not state.finished]
        if not busy:
            break
        if stopped := [state.folder for state in busy if not state.running]:
            raise RunError(
                f"{stopped[0]}: its server has stopped before the end; look into "
                f"{stopped[0] / 'logs'}, then start it again"
            )
        time.sleep(PAUSE)
        found = deployment.deployed_states(folders)
    for state in found:
        if as_json:
            about = {"running": state.running, "finished": state.finished, **state.about}
            emit({"event": state.kind, "folder": str(state.folder), **about})
            continue
        doing = "running" if state.running else "finished" if state.finished else "stopped"
        click.echo(f"{state.kind} {state.folder}: {doing}")
        for line in state.lines:
            click.echo(f"  {line}")
