"""Sites compare what they are asked and sent before they train: a signed echo.

Without it the server could send one site an encoder of its own, and what that site sends back would
show more of its images than the change of an encoder that all have. So each site signs what it is
about to do (Reiter 1994, "Secure agreement protocols: reliable and atomic group multicast in
Rampart", echo multicast), the server gathers the signatures and hands them to all, and a site
trains once `federation.echo` sites have signed the same as itself. A site signs one thing a stage.

The keys are those of the roster that people at the sites have confirmed (`deploy.roster`).

    secure/echoes.json      what this site has signed, by stage
"""

from collections.abc import Mapping
from pathlib import Path

from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.folders import EXCHANGES, held, read_record, write_record
from polyclinic.deploy.roster import needed_roster, private_identity
from polyclinic.deploy.session import asked_of
from polyclinic.deploy.tasks import Task
from polyclinic.errors import KnowledgeError
from polyclinic.federation.secure.messages import read, unhex, write
from polyclinic.federation.secure.primitives import is_signed, signed

ECHOES = EXCHANGES.with_name("echoes.json")
SIGNATURE = 64  # bytes
_VERSION = b"polyclinic.echo/1\0"


def sign(folder: Path, site: str, agreement: Agreement, task: Task) -> bytes:
    """The site's signature under what it is asked and will be sent, as a message.

    `RosterError` where nobody has confirmed whose the others' keys are; `KnowledgeError` where it
    has signed something else in this stage.
    """
    needed_roster(folder, site)
    about, path = asked_of(agreement, task), folder / ECHOES
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.parent):
        book = read_record(path)
        before = book.setdefault("signed", {}).setdefault(task.place, about)
        if before != about:
            raise KnowledgeError(
                f"site '{site}' signs nothing: in {task.place} it was asked for something else "
                "before, and two encoders in one stage would be two broadcasts; a stage that is "
                "repeated is repeated as it was"
            )
        write_record(path, book, lasting=True)
    signature = signed(private_identity(folder), _to_sign(about, site))
    return write("echo", site=site, signature=signature.hex())


def check(folder: Path, site: str, agreement: Agreement, task: Task) -> None:
    """`KnowledgeError` unless enough sites have signed what this one is asked and sent."""
    roster, about = needed_roster(folder, site), asked_of(agreement, task)
    who = f"the echoes that site '{site}' was handed"
    signatures = read(task.content, "echoes", who)["signatures"]
    for name, text in signatures.items():
        if not _is_echo(roster, name, text, about, who):
            raise KnowledgeError(
                f"{who}: '{name}' has not signed what this site is asked for in {task.place}; the "
                "server asked or sent it something else, or somebody changed its signature: "
                "nothing is trained, ask the other sites"
            )
    if len(signatures) < agreement.federation.echo:
        raise KnowledgeError(
            f"{who}: {len(signatures)} of {len(agreement.sites)} sites have signed what it is "
            f"asked for in {task.place}, expected {agreement.federation.echo}; nothing is trained"
        )


def echo_of(agreement: Agreement, task: Task, site: str, key: str, message: bytes) -> str:
    """The signature in a site's message; `KnowledgeError` where it is not for what all are asked.

    For the server, so that it can say whose echo is wrong; sites do not rely on it.
    """
    who = f"the echo of site '{site}'"
    fields = read(message, "echo", who)
    text = str(fields["signature"])
    about = asked_of(agreement, task)
    if fields["site"] != site or not _is_echo({site: key}, site, text, about, who):
        raise KnowledgeError(f"{who}: not signed with its key, or for something else; see its log")
    return text


def echoes(signatures: Mapping[str, str]) -> bytes:
    """What the server hands to all: every site's signature."""
    return write("echoes", signatures=dict(signatures))


def _is_echo(roster: Mapping[str, str], site: str, text: str, about: str, who: str) -> bool:
    key = roster.get(site)
    signature = unhex(text, SIGNATURE, f"{who}, site '{site}'")
    return key is not None and is_signed(bytes.fromhex(key), _to_sign(about, site), signature)


def _to_sign(about: str, site: str) -> bytes:
    return _VERSION + site.encode() + b"\0" + about.encode()
