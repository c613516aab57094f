"""What a site can find out before it joins: what it agrees to, and what would be in the way."""

import contextlib
import datetime
import email.utils
import http.client
import importlib.util
import shutil
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from polyclinic.config import DataConfig, LocalConfig, PrivacyConfig, SiteConfig
from polyclinic.data.dataset import Finding, SiteData
from polyclinic.data.decoding import Done, unheard
from polyclinic.deploy.gateway import HEALTH
from polyclinic.deploy.invites import Invite, read_invite
from polyclinic.deploy.link import opened, trusting
from polyclinic.deploy.site import check_folder, require_data
from polyclinic.deploy.terms import Checked, terms
from polyclinic.errors import ConfigError, PolyclinicError
from polyclinic.federation.privacy.stage import require_guarantee
from polyclinic.federation.privacy.units import units_of
from polyclinic.models.device import asked_precision, device
from polyclinic.models.training import site_plan
from polyclinic.run.experiment import prepared_site

FREE = 2 * 2**30  # bytes
CLOCK = 60.0  # s; Flower refuses requests that are signed at another time
SOON = 14  # days
LISTED = 10  # findings about the data


def preflight(invite: Path, folder: Path | None = None) -> Iterator[Checked]:
    """What joining agrees to, and all that it needs but the data, which `check_data` looks at.

    `folder` will be the site's; None for the usual one.
    """
    found = importlib.util.find_spec("flwr") is not None
    yield (
        Checked("good", "Flower", "installed")
        if found
        else Checked("wrong", "Flower", "not installed; install polyclinic[deploy]")
    )
    try:
        read = read_invite(invite)
    except PolyclinicError as error:
        yield Checked("wrong", "invitation", str(error))
        return
    left = read.expires - time.time()
    if left > 0:
        text = f"for the site `{read.site}`, good for another {left / 86400:.1f} days"
        yield Checked("good", "invitation", text)
    else:
        yield Checked("wrong", "invitation", "has expired; ask for another one")
    yield from terms(read.agreement, read.site)
    folder = folder or Path(f"site-{read.site}")
    try:
        check_folder(folder, read)
    except PolyclinicError as error:
        yield Checked("wrong", "folder", str(error))
    yield _disk(folder)
    yield _authority(read)
    yield from _server(read)


def check_data(invite: Path, site: SiteConfig, done: Done = unheard) -> Iterator[Checked]:
    """Prepare the data as the federation of an invitation wants them; what is wrong with them.

    What a stage would refuse is wrong, every other finding a warning. The prepared images are kept
    for the first stage. `done` is told the share that is decoded. Where the invitation cannot be
    read, the usual settings are taken.
    """
    settings, privacy = DataConfig(), PrivacyConfig()
    with contextlib.suppress(ConfigError):  # `preflight` says that
        read = read_invite(invite)
        site = replace(site, name=read.site)
        settings, privacy = read.agreement.data, read.agreement.privacy
    try:
        require_data(site.path)
        device()
        asked_precision()
        data = prepared_site(site, settings, done)
        if privacy.epsilon:
            plan = replace(site_plan(settings, LocalConfig()), privacy=privacy)
            require_guarantee(data, units_of(data, privacy.unit), plan)
    except PolyclinicError as error:
        yield Checked("wrong", "data", str(error))
        return
    yield Checked("good", "data", _described(data))
    findings = [finding for finding in data.findings if finding.severity != "info"]
    for finding in findings[:LISTED]:
        yield Checked("warning", "data", _told(finding))
    if len(findings) > LISTED:
        more = f"{len(findings) - LISTED} findings more; `polyclinic data check` has all of them"
        yield Checked("warning", "data", more)


def _described(data: SiteData) -> str:
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in data.split.items())
    patients = "patients are named" if data.has_patient_ids else "no patients are named"
    return f"{data.format}, {data.task}, {len(data)} images ({sizes}); {patients}"


def _told(finding: Finding) -> str:
    where = f"{finding.where}: " if finding.where else ""
    return f"{where}{finding.what}" + (f"; {finding.do}" if finding.do else "")


def _disk(folder: Path) -> Checked:
    here = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(here).free
    text = f"{free / 2**30:.1f} GiB free for {folder}"
    if free >= FREE:
        return Checked("good", "disk", text)
    return Checked("warning", "disk", f"{text}; expected {FREE / 2**30:.0f} GiB")


def _authority(invite: Invite) -> Checked:
    try:
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(invite.ca.encode())
    except (ValueError, ImportError) as error:
        return Checked("wrong", "certificate", f"cannot be read ({error})")
    now = datetime.datetime.now(datetime.UTC)
    days = (certificate.not_valid_after_utc - now).days
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        dates = f"{certificate.not_valid_before_utc:%F} to {certificate.not_valid_after_utc:%F}"
        return Checked("wrong", "certificate", f"good from {dates}, and today is {now:%F}")
    text = f"the server's authority is good for {days} days"
    return Checked("good" if days > SOON else "warning", "certificate", text)


def _server(invite: Invite) -> Iterator[Checked]:
    about = f"{invite.address}, port {invite.port}"
    try:
        link = opened(invite.address, invite.port, trusting(invite.ca), 15)
        with contextlib.closing(link):
            began = time.time()
            link.request("GET", HEALTH)
            reply = link.getresponse()
            reply.read()
    except ssl.SSLCertVerificationError as error:
        text = f"{about}: not the server of this invitation ({error.verify_message})"
        yield Checked("wrong", "server", text)
        return
    except (OSError, ValueError, http.client.HTTPException, ConfigError) as error:
        text = (
            f"{about}: cannot be reached ({error}); is it running, and does the firewall allow it?"
        )
        yield Checked("wrong", "server", text)
        return
    if reply.status != 200:
        yield Checked("wrong", "server", f"{about}: answers with {reply.status}, expected 200")
        return
    yield Checked("good", "server", f"{about}: answers after {time.time() - began:.2f} s")
    try:
        told = email.utils.parsedate_to_datetime(reply.headers["Date"]).timestamp()
    except (TypeError, ValueError):
        yield Checked("warning", "clock", "the server does not say what time it is")
        return
    off = abs(told - began)
    text = f"{off:.0f} s from the server's; at most {CLOCK:.0f} s are allowed"
    yield Checked("good" if off <= CLOCK else "wrong", "clock", text)
