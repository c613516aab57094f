"""A site: joins a federation once, and from then on works for it until it is stopped.

All connections go out. What listens does so on this machine alone, for the site's own processes.
"""

import http.client
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyclinic.deploy import flower
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
PAUSE = 0.5  # s
Say = Callable[[str], None]


def join(
    invite: Path, folder: Path, *, data: Path, format: str, task: str, tells_scores: bool
) -> str:
    """Join the federation that `invite` names, from `folder`; the site's name.

    Makes the site's key, sends its public half with the invitation's code, and remembers where the
    data lie. Where the site has joined already, only the latter happens. Raises `ConfigError` and
    `RunError`.
    """
    flower.require()
    found = read_invite(invite) if invite.exists() or not (folder / RECORD).exists() else None
    known = read_record(folder / RECORD)
    if not data.is_dir():
        raise ConfigError(f"--data {data}: no such folder; expected the site's data")
    if found is not None and known and (found.site, found.ca) != (known["name"], known["ca"]):
        raise ConfigError(
            f"{folder}: belongs to the site `{known['name']}` of another federation, or to another "
            f"site; choose another folder for `{found.site}` with --state"
        )
    if found is not None and known and known.get("invite", "") not in ("", digest_of(found.code)):
        raise ConfigError(
            f"{folder}: `{found.site}` has joined from here by an earlier invitation, whose keys "
            "count no more; choose a new folder with --state"
        )
    if not known:
        assert found is not None
        known = _joined(found, folder)
    told = {
        "data": str(data.absolute()),
        "format": format,
        "task": task,
        "tells_scores": tells_scores,
    }
    write_record(folder / RECORD, {**known, **told})
    return str(known["name"])


def work(folder: Path, say: Say) -> None:
    """Work for the federation until asked to stop, by `KeyboardInterrupt`."""
    flower.require()
    with working_in(folder), asked_to_stop():
        record = read_record(folder / RECORD)
        if not record:
            raise RunError(f"{folder}: no site has joined from here; join with an invitation")
        if not (folder / LEDGER).exists():
            raise LedgerError(
                f"{folder / LEDGER}: the site's ledger is gone, and with it what has left it; "
                "restore the file from a backup, or join with another invitation and folder"
            )
        home = folder / "supernode" / "home"
        programs = flower.write_programs(folder / "supernode" / "programs", flower.SITE_PROGRAMS)
        environment = flower.surroundings(home, programs, **{flower.SITE: str(folder.absolute())})
        server = f"{record['address']}:{record['port']}"
        node = Kept(
            "supernode",
            lambda: flower.supernode(folder, server, free_port()),
            environment,
            folder / "logs" / "supernode.log",
        )
        say(f"{record['name']} works for the server at {server}")
        told = ""
        with node:
            while True:
                code = node.look()
                if code is not None:
                    say(f"Flower's SuperNode ended with code {code} and is started again")
                write_status(folder / STATUS, {"supernode_starts": node.starts})
                told = _tell_changes(folder, told, say)
                time.sleep(PAUSE)


def ready(folder: Path) -> bool:
    """Whether a site works in `folder`."""
    return running(folder) is not None


def request(invite: Invite | dict[str, Any], method: str, path: str, body: bytes = b"") -> Any:
    """Ask the server's gateway, whose certificate must be signed by the invitation's authority.

    Returns (status, JSON object); raises `RunError` where the server cannot be reached.
    """
    record = invite.__dict__ if isinstance(invite, Invite) else invite
    context = ssl.create_default_context(cadata=record["ca"])
    address, port = str(record["address"]), int(record["port"])
    link = http.client.HTTPSConnection(address, port, context=context, timeout=130)
    try:
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
    finally:
        link.close()


def _joined(invite: Invite, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if invite.agreement.privacy.epsilon:
        need()
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
    record = read_record(folder / RECORD)
    if not record:
        raise RunError(f"{folder}: no site has joined from here; join with an invitation")
    known = confirmed(folder)
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
