"""What a site can find out before it joins: data, disk, clock, certificate, reach of the server."""

import datetime
import email.utils
import http.client
import importlib.util
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polyclinic.deploy.agreement import Agreement, promise
from polyclinic.deploy.gateway import HEALTH
from polyclinic.deploy.invites import Invite, read_invite
from polyclinic.errors import PolyclinicError

FREE = 2 * 2**30  # bytes
CLOCK = 60.0  # s; Flower refuses requests that are signed at another time
SOON = 14  # days


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at; `good` is None for a warning."""

    what: str
    good: bool | None
    text: str


def preflight(
    invite: Path, data: Path, folder: Path, describe: Callable[[Path], str]
) -> Iterator[Checked]:
    """Look at everything that joining needs; `describe` says what the data are, or raises."""
    found = importlib.util.find_spec("flwr") is not None
    yield Checked(
        "Flower", found, "installed" if found else "not installed; install polyclinic[deploy]"
    )
    try:
        yield Checked("data", True, describe(data))
    except PolyclinicError as error:
        yield Checked("data", False, str(error))
    yield _disk(folder)
    try:
        read = read_invite(invite)
    except PolyclinicError as error:
        yield Checked("invitation", False, str(error))
        return
    left = read.expires - time.time()
    text = f"for the site `{read.site}`, good for another {left / 86400:.1f} days"
    yield Checked("invitation", left > 0, text if left > 0 else "has expired; ask for another one")
    yield _privacy(read.agreement)
    yield _aggregation(read.agreement)
    yield _authority(read)
    yield from _server(read)


def _disk(folder: Path) -> Checked:
    here = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(here).free
    text = f"{free / 2**30:.1f} GiB free for {folder}"
    enough = f"{text}; expected {FREE / 2**30:.0f} GiB"
    return Checked("disk", True if free >= FREE else None, text if free >= FREE else enough)


def _privacy(agreement: Agreement) -> Checked:
    """What will be spent, and whether what is needed for it is there."""
    privacy = agreement.privacy
    text = promise(privacy, agreement.trainings)
    if privacy.site_epsilon:
        text += (
            "; the server says that it adds noise for whole sites, epsilon "
            f"{privacy.site_epsilon:g} (a site cannot check that)"
        )
    if privacy.epsilon and importlib.util.find_spec("opacus") is None:
        return Checked("privacy", False, f"{text}; install polyclinic[privacy]")
    return Checked("privacy", True, text)


def _aggregation(agreement: Agreement) -> Checked:
    """Whether the server sees the site's change, or the sum alone."""
    federation, sites = agreement.federation, len(agreement.sites)
    if not federation.secure:
        text = "open: the server sees this site's change"
        if agreement.universal.exchange == "cyclic" and "universal" in agreement.methods:
            text += ", and the next site is sent the encoder that this one has trained"
        if federation.echo:
            text += (
                f", of an encoder that {federation.echo} of {sites} sites have signed, once "
                "`polyclinic site roster` was confirmed"
            )
        return Checked("aggregation", True, text)
    text = (
        f"secure: the server sees the sum of {agreement.threshold} sites or more of "
        f"{sites}, once `polyclinic site roster` was confirmed"
    )
    return Checked("aggregation", True, text)


def _authority(invite: Invite) -> Checked:
    try:
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(invite.ca.encode())
    except (ValueError, ImportError) as error:
        return Checked("certificate", False, f"cannot be read ({error})")
    now = datetime.datetime.now(datetime.UTC)
    days = (certificate.not_valid_after_utc - now).days
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        dates = f"{certificate.not_valid_before_utc:%F} to {certificate.not_valid_after_utc:%F}"
        return Checked("certificate", False, f"good from {dates}, and today is {now:%F}")
    good = True if days > SOON else None
    return Checked("certificate", good, f"the server's authority is good for {days} days")


def _server(invite: Invite) -> Iterator[Checked]:
    about = f"{invite.address}, port {invite.port}"
    context = ssl.create_default_context(cadata=invite.ca)
    link = http.client.HTTPSConnection(invite.address, invite.port, context=context, timeout=15)
    try:
        began = time.time()
        link.request("GET", HEALTH)
        reply = link.getresponse()
        reply.read()
    except ssl.SSLCertVerificationError as error:
        text = f"{about}: not the server of this invitation ({error.verify_message})"
        yield Checked("server", False, text)
        return
    except (OSError, http.client.HTTPException) as error:
        text = (
            f"{about}: cannot be reached ({error}); is it running, and does the firewall allow it?"
        )
        yield Checked("server", False, text)
        return
    finally:
        link.close()
    seconds = time.time() - began
    yield Checked("server", reply.status == 200, f"{about}: answers after {seconds:.2f} s")
    told = email.utils.parsedate_to_datetime(reply.headers.get("Date", "")).timestamp()
    off = abs(told - began)
    text = f"{off:.0f} s from the server's; at most {CLOCK:.0f} s are allowed"
    yield Checked("clock", off <= CLOCK, text)
