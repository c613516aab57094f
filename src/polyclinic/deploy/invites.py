"""Invitations: a file for each site, good once and for some days.

It carries the server's address, the certificate of its authority, a code, and what the site agrees
to by joining. The server keeps the code's digest only. The site answers with the public halves of
its keys; from then on the keys count.
"""

import contextlib
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from polyclinic.config import build_table, is_name
from polyclinic.deploy.address import wrong_address
from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.folders import Record, held, read_record, write_private, write_record
from polyclinic.deploy.link import trusting
from polyclinic.deploy.settings import DEPLOYABLE
from polyclinic.errors import ConfigError, KnowledgeError, RunError

SCHEMA = "polyclinic.invite/2"
FILE = "sites.json"
_FAR = 1e11  # s since 1970: some thousand years


@dataclass(frozen=True)
class Invite:
    """What a site needs to join; `expires` is in seconds since 1970."""

    schema: str
    federation: str
    site: str
    address: str
    port: int
    ca: str  # PEM
    code: str
    expires: float
    agreement: Agreement


def read_invite(path: Path) -> Invite:
    """Read an invitation; `ConfigError` says what is wrong with the file."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; expected the invitation that the coordinator sent"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: not an invitation ({error}); ask the coordinator for it again"
        ) from None
    if isinstance(table, dict) and table.get("schema") != SCHEMA:
        raise ConfigError(
            f"{path}: expected an invitation of kind {SCHEMA}, got {table.get('schema')!r}; "
            "install the version of polyclinic that the server has"
        )
    invite: Invite = build_table(Invite, table, path.parent, str(path))
    _check(invite, path)
    return invite


def _check(invite: Invite, path: Path) -> None:
    """Refuse what no server of ours writes: it becomes names of files, lines on a terminal, a way
    to the network."""
    agreement = invite.agreement
    wrong = next((n for n in (invite.site, *agreement.sites) if not is_name(n)), None)
    unknown = next((m for m in agreement.methods if m not in DEPLOYABLE), None)
    if wrong is not None:
        text = f"site: expected letters, digits, - and _, got {wrong[:80]!r}"
    elif invite.site not in agreement.sites:
        text = f"site: expected one of {', '.join(agreement.sites)}, got {invite.site!r}"
    elif unknown is not None:
        text = f"methods: expected some of {', '.join(DEPLOYABLE)}, got {unknown[:80]!r}"
    elif reason := wrong_address(invite.address):
        text = f"address: {reason}"
    elif not 0 < invite.port < 65536:
        text = f"port: expected 1 to 65535, got {invite.port}"
    elif not 0 < invite.expires < _FAR:
        text = f"expires: expected seconds since 1970, got {invite.expires}"
    else:
        try:
            trusting(invite.ca)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}; ask the coordinator for it again") from None
        return
    raise ConfigError(f"{path}: {text}; ask the coordinator for it again")


class Register:
    """Who was invited and who has joined, in a server's folder."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = folder / FILE
        self.invites = folder / "invites"
        self._clock = clock
        self._guard = threading.Lock()

    def nodes(self) -> dict[str, int]:
        """The node number of each site that has joined."""
        return {
            name: int(entry["node"])
            for name, entry in read_sites(self.path).items()
            if "node" in entry
        }

    def roster(self) -> dict[str, str]:
        """The public key for secure aggregation of each site that has joined."""
        return {
            name: str(entry["identity"])
            for name, entry in read_sites(self.path).items()
            if "identity" in entry
        }

    def invite(
        self,
        names: Sequence[str],
        federation: str,
        address: str,
        port: int,
        ca: str,
        days: float,
        agreement: Agreement,
    ) -> list[Path]:
        """Write an invitation for each site that has not joined; a good one is left alone."""
        made = []
        with self._alone():
            sites = read_sites(self.path)
            for name in names:
                entry = sites.get(name, {})
                path = self.invites / f"{name}.invite"
                if "node" in entry:
                    path.unlink(missing_ok=True)
                    continue
                good = entry.get("expires", 0) > self._clock() and path.exists()
                if good and _says(path, address, port, agreement):
                    continue
                code, expires = secrets.token_urlsafe(24), self._clock() + days * 86400
                sites[name] = {"digest": digest_of(code), "expires": expires}
                write_record(self.path, sites, lasting=True)
                invite = Invite(
                    SCHEMA, federation, name, address, port, ca, code, expires, agreement
                )
                write_private(path, (json.dumps(asdict(invite), indent=1) + "\n").encode())
                made.append(path)
        return made

    def forget(self, site: str) -> bool:
        """Let an invitation, and the keys that a site has joined with, count no more.

        The next `invite` writes it another one. True where the site had joined.
        """
        with self._alone():
            sites = read_sites(self.path)
            entry = sites.pop(site, {})
            write_record(self.path, sites, lasting=True)
            (self.invites / f"{site}.invite").unlink(missing_ok=True)
        return "node" in entry

    def join(
        self, site: str, code: str, key: str, identity: str, enrol: Callable[[str, str], int]
    ) -> int:
        """Let a site in, once: its node number; `KnowledgeError` where the code is not good.

        `enrol(site, key)` makes the key known and gives the number, and the same one where the key
        is known already: the server may be killed before it has noted it. `identity` is kept for
        the roster. The same site may ask again with the same keys, because an answer may get lost
        on its way.
        """
        with self._alone():
            sites = read_sites(self.path)
            entry = sites.get(site)
            digest = entry["digest"] if entry else digest_of("")
            # compared in constant time, and for an unknown site too
            if not hmac.compare_digest(digest, digest_of(code)) or entry is None:
                raise KnowledgeError("this invitation is not known to the server")
            if "node" in entry:
                if (entry["key"], entry["identity"]) != (key, identity):
                    raise KnowledgeError(
                        "this invitation has been used, by another key; if that was not you, tell "
                        "the coordinator"
                    )
                return int(entry["node"])
            if entry["expires"] < self._clock():
                raise KnowledgeError("this invitation has expired; ask for another one")
            if any(other.get("key") == key for other in sites.values()):
                raise KnowledgeError("this key is that of another site; join from a new folder")
            node = enrol(site, key)
            sites[site] = {**entry, "node": str(node), "key": key, "identity": identity}
            write_record(self.path, sites, lasting=True)
            (self.invites / f"{site}.invite").unlink(missing_ok=True)
            return node

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """For one thread of one process at a time."""
        with self._guard, held(self.path.parent):
            yield


def _says(path: Path, address: str, port: int, agreement: Agreement) -> bool:
    try:
        invite = read_invite(path)
    except ConfigError:  # of an earlier version
        return False
    return (invite.address, invite.port, invite.agreement) == (address, port, agreement)


def read_sites(path: Path) -> dict[str, Record]:
    """Who was invited and who has joined, by site; `RunError` where the file is not of our making.

    Of each the digest of its code and when that expires; of who has joined the keys as well.
    """
    sites = read_record(path)
    for name, entry in sites.items():
        known = isinstance(entry, dict) and (
            isinstance(entry.get("digest"), str)
            and isinstance(entry.get("expires"), int | float)
            and ("node" not in entry or _has_joined(entry))
        )
        if not known:
            raise RunError(
                f"{path}: expected what is known of each site, got {entry!r:.40} for {name!r}; "
                "restore it from a backup"
            )
    return sites


def _has_joined(entry: Record) -> bool:
    texts = all(isinstance(entry.get(part), str) for part in ("node", "key", "identity"))
    return texts and str(entry["node"]).isdecimal()


def digest_of(code: str) -> str:
    """What is kept of an invitation's code."""
    return hashlib.sha256(code.encode()).hexdigest()
