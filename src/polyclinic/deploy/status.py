"""What a server or a site is doing, read from its folder."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyclinic.deploy.folders import ACCOUNTS, STATUS, read_record, running
from polyclinic.deploy.invites import FILE, read_sites
from polyclinic.deploy.roster import confirmed, fingerprint
from polyclinic.deploy.server import DEPLOYMENT, FAILURE, RESULT, RUN
from polyclinic.deploy.site import RECORD
from polyclinic.errors import RunError
from polyclinic.run.traffic import in_words


@dataclass(frozen=True)
class State:
    """A server or a site; `about` is what `polyclinic status --json` adds."""

    kind: str
    folder: Path
    running: bool
    finished: bool
    lines: tuple[str, ...]
    about: dict[str, Any]


def find_folders(where: Path) -> list[Path]:
    """The folders of servers and sites in `where`."""
    return sorted(path.parent for name in (DEPLOYMENT, RECORD) for path in where.glob(f"*/{name}"))


def states(folders: Iterable[Path]) -> list[State]:
    """The state of each; `RunError` for a folder that is neither a server's nor a site's."""
    return [_state(folder) for folder in folders]


def states_in(where: Path) -> list[State]:
    """The state of all folders of servers and sites in `where`; `RunError` where there is none.

    One that cannot be read is of the kind `unreadable`, and keeps nobody from seeing the others.
    """
    folders = find_folders(where)
    if not folders:
        raise RunError(
            f"{where.absolute()}: no folder of a server or a site is in here; name theirs, or "
            "change to the folder where they were started"
        )
    found = []
    for folder in folders:
        try:
            found.append(_state(folder))
        except RunError as error:
            about = {"error": str(error)}
            alive = running(folder) is not None
            found.append(State("unreadable", folder, alive, False, (str(error),), about))
    return found


def _state(folder: Path) -> State:
    kinds = ((DEPLOYMENT, _server), (RECORD, _site))
    for name, read in kinds:
        if (folder / name).exists():
            try:
                return read(folder)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                about = f"{type(error).__name__}: {error}"
                raise RunError(
                    f"{folder}: its files are not as they were written ({about}); restore "
                    f"{name}, and what lies beside it, from a backup"
                ) from None
    raise RunError(f"{folder}: neither a server's folder nor a site's")


def _server(folder: Path) -> State:
    deployment = read_record(folder / DEPLOYMENT)
    names = [site["name"] for site in deployment["config"]["sites"]]
    invited = read_sites(folder / FILE)
    joined = [name for name, entry in invited.items() if "node" in entry]
    result = read_record(folder / RUN / RESULT)
    failure = read_record(folder / FAILURE).get("error")
    waiting = read_record(folder / f"waiting-{STATUS}")
    finished = bool(result.get("finished"))
    alive = running(folder) is not None
    lines = [f"joined: {len(joined)} of {len(names)}"]
    if missing := [name for name in names if name not in joined]:
        lines[0] += f"; not yet: {', '.join(missing)}"
    roster = {n: e["identity"] for n, e in invited.items() if "identity" in e}
    if _needs_roster(deployment["config"]) and not missing:
        lines.append(f"roster: {fingerprint(roster)}")
    if waiting and alive and not finished:
        age = time.time() - waiting["time"]
        left = [name for name in waiting["asked"] if name not in waiting["answered"]]
        away = [name for name in left if name not in waiting["reachable"]]
        text = f"now: {waiting['about']}; waiting for {', '.join(left) or 'nobody'}"
        lines.append(f"{text}{f'; away: {chr(44).join(away)}' if away else ''} ({age:.0f} s ago)")
    for text in result.get("privacy", []):
        lines.append(f"privacy: {text}")
    for run in result.get("runs", []):
        for stage in run["stages"]:
            about = f"{run['method']}, seed {run['seed']}, stage {stage['stage']}"
            passed = in_words(stage.get("bytes_up", 0), stage.get("bytes_down", 0))
            lines.append(f"{about}: {stage['who']}{f'; {passed}' if passed else ''}")
            lines += [f"  {entry['site']}: {entry['reason']}" for entry in stage["absent"]]
        for judged in run["judged"]:
            lines.append(f"{run['method']}, seed {run['seed']}, {judged['site']}: {_told(judged)}")
    if failure:
        lines.append(f"failed: {failure}")
    if finished:
        lines.append(f"finished: {folder / RUN / RESULT}")
    known = {"sites": names, "joined": joined, "waiting": waiting, "runs": result.get("runs", [])}
    return State("server", folder, alive, finished, tuple(lines), known)


def _site(folder: Path) -> State:
    record = read_record(folder / RECORD)
    work = read_record(folder / f"work-{STATUS}")
    lines = [f"{record['name']}, for the server at {record['address']}, port {record['port']}"]
    lines += [f"{key}: {work[key]}" for key in ("doing", "done") if key in work]
    accounts = read_record(folder / ACCOUNTS)
    lines += _spent(accounts)
    known = confirmed(folder)
    if _needs_roster(record.get("agreement", {})):
        said = f"confirmed, {fingerprint(known)}" if known else "not confirmed yet"
        lines.append(f"roster: {said}")
    statements = {k: v["statement"] for k, v in accounts.get("accounts", {}).items()}
    together = accounts.get("together")
    about = {
        "name": record["name"],
        "work": work,
        "privacy": statements,
        "privacy_together": together,
        "roster": fingerprint(known) if known else None,
    }
    return State("site", folder, running(folder) is not None, False, tuple(lines), about)


def _needs_roster(settings: dict[str, Any]) -> bool:
    """Whether sites must know each other's keys, by a configuration or an agreement."""
    federation = settings.get("federation", {})
    return bool(federation.get("secure") or federation.get("echo"))


def _spent(accounts: dict[str, Any]) -> list[str]:
    """What a site has spent of its privacy budgets, a line each."""
    found = [(k, v["statement"]) for k, v in accounts.get("accounts", {}).items()]
    lines = [
        f"privacy, {about}: epsilon {s['epsilon']:.3g} of {s['budget']:g} at delta {s['delta']:g} "
        f"for each {s['unit']}"
        for about, s in found
    ]
    if len(found) > 1:
        whole = accounts["together"]
        lines.append(f"together: epsilon {whole['epsilon']:.3g} at delta {whole['delta']:g}")
    return lines


def _told(judged: dict[str, Any]) -> str:
    if judged["absent"]:
        return f"absent ({judged['absent']})"
    known = {k: v for k, v in judged["scores"].items() if v is not None}
    if not known:
        return "judged; keeps its scores"
    return ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in known.items())
