"""A site: joins a federation once, and from then on works for it until it is stopped.

All connections go out. What listens does so on this machine alone, for the site's own processes.
"""

import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyclinic.deploy import flower, folders
from polyclinic.deploy.address import with_port
from polyclinic.deploy.folders import (
    ACCOUNTS,
    EXCHANGES,
    LEDGER,
    STATUS,
    read_record,
    running,
    working_in,
    write_private,
    write_record,
    write_status,
)
from polyclinic.deploy.gateway import JOIN, ROSTER
from polyclinic.deploy.invites import Invite, digest_of, read_invite
from polyclinic.deploy.keys import ensure_site_key
from polyclinic.deploy.link import opened, trusting
from polyclinic.deploy.roster import (
    asking,
    check_roster,
    confirmed,
    ensure_identity,
    fingerprint,
    read_roster,
)
from polyclinic.deploy.roster import confirm as write_confirmed
from polyclinic.deploy.server import asked_to_stop, free_port
from polyclinic.deploy.supervise import Kept
from polyclinic.errors import ConfigError, LedgerError, RunError
from polyclinic.federation.privacy.accounting import need
from polyclinic.federation.signing import create_key

RECORD = "site.json"
_REMEMBERED = {"name": str, "address": str, "port": int, "ca": str, "agreement": dict}
PAUSE = 0.5  # s
Say = Callable[[str], None]


def join(
    invite: Path,
    folder: Path,
    *,
    data: Path,
    format: str,
    task: str,
    tells_scores: bool | None = None,
) -> str:
    """Join the federation that `invite` names, from `folder`; the site's name.

    Makes the site's key, sends its public half with the invitation's code, and remembers where the
    data lie. Where the site has joined already, only the latter happens. `tells_scores` is what the
    site said last where it is None, and true in the beginning. Nothing is changed where a site
    works in the folder. Raises `ConfigError` and `RunError`.
    """
    flower.require()
    require_data(data)
    found = read_invite(invite) if invite.exists() or not (folder / RECORD).exists() else None
    if found is not None and found.agreement.privacy.epsilon:
        need()
    with working_in(folder):
        if found is not None:
            check_folder(folder, found)
        if (folder / RECORD).exists():
            known = joined(folder)
        else:
            known = _joined(found or read_invite(invite), folder)
        if tells_scores is None:
            tells_scores = bool(known.get("tells_scores", True))
        told = {
            "data": str(data.absolute()),
            "format": format,
            "task": task,
            "tells_scores": tells_scores,
        }
        write_record(folder / RECORD, {**known, **told}, lasting=True)
        return str(known["name"])


def require_data(data: Path) -> None:
    """`ConfigError` where there is no folder of data."""
    if not data.is_dir():
        raise ConfigError(f"--data {data}: no such folder; expected the site's data")


def joined(folder: Path) -> dict[str, Any]:
    """What a site remembers of its joining; `RunError` where none has joined from `folder`."""
    record = read_record(folder / RECORD)
    if not record:
        raise RunError(f"{folder}: no site has joined from here; join with an invitation")
    for key, kind in _REMEMBERED.items():
        if not isinstance(record.get(key), kind):
            raise RunError(
                f"{folder / RECORD}: `{key}` is missing or of another kind, got "
                f"{record.get(key)!r:.40}; restore the file from a backup"
            )
    return record


def check_folder(folder: Path, invite: Invite) -> None:
    """`ConfigError` where another site, or the same by an earlier invitation, has `folder`."""
    known = read_record(folder / RECORD)
    if known and (invite.site, invite.ca) != (known.get("name"), known.get("ca")):
        raise ConfigError(
            f"{folder}: belongs to the site `{known.get('name')}` of another federation, or to "
            f"another site; choose another folder for `{invite.site}` with --state"
        )
    if known and known.get("invite", "") not in ("", digest_of(invite.code)):
        raise ConfigError(
            f"{folder}: `{invite.site}` has joined from here by an earlier invitation, whose keys "
            "count no more; choose a new folder with --state"
        )


def usual_folder(invite: Path) -> Path:
    """Where the site of an invitation works unless it is told: `site-NAME`, in this folder.

    A server deletes an invitation once it was used; then the file's name says which site it was
    for. `ConfigError` where no site of that name has joined from here.
    """
    if invite.exists():
        return Path(f"site-{read_invite(invite).site}")
    folder = Path(f"site-{invite.stem}")
    if read_record(folder / RECORD).get("name") == invite.stem:
        return folder
    there = [str(path.parent) for path in sorted(Path().glob(f"*/{RECORD}"))]
    hint = f"; a site that has joined goes on with --state {' or '.join(there)}" if there else ""
    raise ConfigError(
        f"{invite}: no such file; expected the invitation that the coordinator sent{hint}"
    )


def work(folder: Path, say: Say) -> None:
    """Work for the federation until asked to stop, by `KeyboardInterrupt`."""
    flower.require()
    with working_in(folder), asked_to_stop():
        record = joined(folder)
        if not (folder / LEDGER).exists():
            raise LedgerError(
                f"{folder / LEDGER}: the site's ledger is gone, and with it what has left it; "
                "restore the file from a backup, or join with another invitation and folder"
            )
        home = folder / "supernode" / "home"
        programs = flower.write_programs(folder / "supernode" / "programs", flower.SITE_PROGRAMS)
        environment = flower.surroundings(home, programs, **{flower.SITE: str(folder.absolute())})
        server = with_port(str(record["address"]), int(record["port"]))
        node = Kept(
            "supernode",
            lambda: flower.supernode(folder, server, free_port()),
            environment,
            folder / "logs" / "supernode.log",
        )
        scores = "are told" if record.get("tells_scores") else "stay here"
        say(f"{record['name']} works for the server at {server}; its scores {scores}")
        told = ""
        with node:
            while True:
                code = node.look()
                if code is not None:
                    say(f"Flower's SuperNode ended with code {code} and is started again")
                write_status(folder / STATUS, {"supernode_starts": node.starts})
                told = _tell_changes(folder, told, say)
                time.sleep(PAUSE)


def stop(folder: Path) -> bool:
    """Stop the site that works in `folder`; False where it does not work.

    `RunError` where no site has joined from there.
    """
    if not (folder / RECORD).exists():
        raise RunError(f"{folder}: no site has joined from here; expected a folder like site-NAME")
    return folders.stop(folder)


def ready(folder: Path) -> bool:
    """Whether a site works in `folder`."""
    return running(folder) is not None


def request(invite: Invite | dict[str, Any], method: str, path: str, body: bytes = b"") -> Any:
    """Ask the server's gateway, whose certificate must be signed by the invitation's authority.

    Returns (status, JSON object); raises `RunError` where the server cannot be reached.
    """
    record = invite.__dict__ if isinstance(invite, Invite) else invite
    address, port = str(record["address"]), int(record["port"])
    try:
        with contextlib.closing(opened(address, port, trusting(str(record["ca"])), 130)) as link:
            link.request(method, path, body, {"Content-Type": "application/json"})
            reply = link.getresponse()
            content = json.loads(reply.read())
        if not isinstance(content, dict):
            raise ValueError("its answer is no JSON object")
        return reply.status, content
    except ssl.SSLCertVerificationError as error:
        raise RunError(
            f"{address}, port {port}: not the server of this invitation ({error.verify_message}); "
            "if the coordinator has set it up again, ask for a new invitation"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RunError(
            f"{address}, port {port}: the server cannot be reached ({error}); is it running, and "
            "does your firewall let connections out to this port?"
        ) from None


def _joined(invite: Invite, folder: Path) -> dict[str, Any]:
    # here and never again: without them the site does not know what it has spent, unmasked or sent
    for path, part in ((ACCOUNTS, "accounts"), (EXCHANGES, "unmasked")):
        if not (folder / path).exists():
            write_record(folder / path, {part: {}}, lasting=True)
    if not (folder / LEDGER).exists():
        write_private(folder / LEDGER, b"", lasting=True)
    key = ensure_site_key(folder / "keys" / "site.key")
    create_key(folder / "keys" / "ledger.key")
    write_private(folder / "keys" / "ca.crt", invite.ca.encode())
    identity = ensure_identity(folder)
    asked = {"site": invite.site, "code": invite.code, "key": key, "identity": identity}
    status, content = request(invite, "POST", JOIN, json.dumps(asked).encode())
    if status != 200:
        raise RunError(
            f"{invite.address}, port {invite.port}: the server does not let `{invite.site}` in: "
            f"{content.get('error', status)}"
        )
    return {
        "name": invite.site,
        "federation": invite.federation,
        "address": invite.address,
        "port": invite.port,
        "ca": invite.ca,
        "node": content["node"],
        "invite": digest_of(invite.code),
        "agreement": asdict(invite.agreement),
    }


def roster(folder: Path, confirm: str | None = None) -> tuple[dict[str, str], str, bool]:
    """The sites' public keys, their fingerprint, and whether it was confirmed at this site.

    Asks the server until it was confirmed; `confirm` is the fingerprint that people compared.
    Raises `RunError` where sites are missing, `KnowledgeError` where keys are not as they must be.
    """
    record, known = joined(folder), confirmed(folder)
    if known is None or confirm is not None:
        name, names = str(record["name"]), tuple(record["agreement"]["sites"])
        status, content = request(record, "POST", ROSTER, json.dumps(asking(folder, name)).encode())
        if status != 200:
            raise RunError(f"the server does not tell the roster: {content.get('error', status)}")
        found = read_roster(content.get("sites", {}))
        if missing := sorted(set(names) - set(found)):
            raise RunError(
                f"{', '.join(missing)} have not joined yet; ask for the roster again when they have"
            )
        check_roster(folder, name, names, found)
        if confirm is not None:
            write_confirmed(folder, found, confirm)
            return found, fingerprint(found), True
        return found, fingerprint(found), False
    return known, fingerprint(known), True


def _tell_changes(folder: Path, told: str, say: Say) -> str:
    done = str(read_record(folder / f"work-{STATUS}").get("done", ""))
    if done and done != told:
        say(f"done: {done}")
    return done
