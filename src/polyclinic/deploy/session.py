"""What a stage is about, as every site works it out for itself: for secure aggregation and echoes.

The name of an exchange holds a digest of all that is asked of the sites, of the encoder that they
are sent, and of what each agreed to when it joined. Sites sign their keys for that name. So sites
that were told different things share no key, and a server that would let all but one of them send
nothing (Pasquini et al. 2022, "Eluding Secure Aggregation in Federated Learning via Model
Inconsistency") gets no sum.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.tasks import Task
from polyclinic.federation.ledger import digest
from polyclinic.federation.plans import weighting_of
from polyclinic.federation.secure.masking import quantisation
from polyclinic.federation.secure.messages import Terms
from polyclinic.federation.secure.quantise import Quantisation

_OWN = ("kind", "head", "encoder", "exchange", "content", "bootstrap")
"""Fields of a task that differ between sites or rounds, or say nothing of training. To one `head` a
stage each site holds the server itself (`secret_site`)."""


def asked_of(agreement: Agreement, task: Task) -> str:
    """The digest of all that is asked of every site in a stage, of its encoder, and of what was
    agreed."""
    told = {name: value for name, value in asdict(task).items() if name not in _OWN}
    about = json.dumps({"asked": told, "agreed": asdict(agreement)}, sort_keys=True)
    return digest(about.encode())


def terms_of(agreement: Agreement, task: Task, roster: Mapping[str, str]) -> Terms:
    """The terms of an exchange; `roster` has the sites' public keys, confirmed by people."""
    return Terms(
        f"{task.place}, exchange {task.exchange} of {asked_of(agreement, task)}",
        agreement.threshold,
        {site: bytes.fromhex(key) for site, key in roster.items()},
    )


def how_of(agreement: Agreement, method: str) -> Quantisation:
    """How numbers are written, from what was agreed and not from what the server says now."""
    weighting = weighting_of(agreement, method)
    return quantisation(weighting, len(agreement.sites), agreement.federation.secure_clip)
