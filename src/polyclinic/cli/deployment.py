"""The parts of a federation between machines, imported when a command calls them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic.config import SiteConfig
from polyclinic.run.progress import Tell

if TYPE_CHECKING:
    from polyclinic.data.readers.reader import TaskChoice
    from polyclinic.deploy.status import State
    from polyclinic.deploy.terms import Checked as SiteChecked


def require_deployment(federation: Path) -> None:
    """Raise `ConfigError` where FEDERATION, or what runs it, is not as it must be."""
    from polyclinic.deploy import flower, settings

    flower.require()
    settings.load_deployment(federation)


def serve(federation: Path, state: Path, say: Callable[[str], None]) -> Path:
    """See `polyclinic.deploy.server.serve`."""
    from polyclinic.deploy import server

    return server.serve(federation, state, say)


def invite_again(federation: Path, state: Path, site: str) -> tuple[Path, bool]:
    """See `polyclinic.deploy.server.invite_again`."""
    from polyclinic.deploy import server

    return server.invite_again(federation, state, site)


def server_ready(state: Path) -> bool:
    """See `polyclinic.deploy.server.ready`."""
    from polyclinic.deploy import server

    return server.ready(state)


def usual_site_folder(invite: Path) -> Path:
    """See `polyclinic.deploy.site.usual_folder`."""
    from polyclinic.deploy import site

    return site.usual_folder(invite)


def join_federation(
    invite: Path,
    state: Path,
    *,
    data: Path,
    format: str,
    task: str,
    tells_scores: bool | None,
) -> str:
    """See `polyclinic.deploy.site.join`."""
    from polyclinic.deploy import site

    return site.join(invite, state, data=data, format=format, task=task, tells_scores=tells_scores)


def work_for_federation(state: Path, say: Callable[[str], None]) -> None:
    """See `polyclinic.deploy.site.work`."""
    from polyclinic.deploy import site

    site.work(state, say)


def site_roster(state: Path, confirm: str | None) -> tuple[dict[str, str], str, bool]:
    """See `polyclinic.deploy.site.roster`."""
    from polyclinic.deploy import site

    return site.roster(state, confirm)


def site_ready(state: Path) -> bool:
    """See `polyclinic.deploy.site.ready`."""
    from polyclinic.deploy import site

    return site.ready(state)


def preflight(invite: Path, state: Path | None) -> "Iterator[SiteChecked]":
    """See `polyclinic.deploy.preflight.preflight`."""
    from polyclinic.deploy import preflight as checks

    return checks.preflight(invite, state)


def check_site_data(
    invite: Path, data: Path, *, format: str, task: "TaskChoice", tell: Tell
) -> "list[SiteChecked]":
    """See `polyclinic.deploy.preflight.check_data`."""
    from polyclinic.deploy import preflight as checks
    from polyclinic.run.progress import Progress, time_left

    site, left = SiteConfig(data.name or "data", data, format, task), time_left()

    def done(share: float) -> None:
        tell(Progress("prepare", share, seconds_left=left(share)))

    return list(checks.check_data(invite, site, done))


def in_background(arguments: Sequence[str], log: Path, ready: Callable[[], bool]) -> int:
    """See `polyclinic.deploy.background.in_background`."""
    from polyclinic.deploy import background

    return background.in_background(arguments, log, ready)


def stop_server(state: Path) -> bool:
    """See `polyclinic.deploy.server.stop`."""
    from polyclinic.deploy import server

    return server.stop(state)


def stop_site(state: Path) -> bool:
    """See `polyclinic.deploy.site.stop`."""
    from polyclinic.deploy import site

    return site.stop(state)


def deployed_states(folders: Sequence[Path]) -> "list[State]":
    """See `polyclinic.deploy.status.states`; all of the working folder where none is named."""
    from polyclinic.deploy import status

    return status.states(folders) if folders else status.states_in(Path())
