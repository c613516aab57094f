"""What an exchange of secure aggregation is about, as every site works it out for itself.

The name of the exchange holds a digest of all that is asked of the sites, of the encoder that they
are sent, and of what each agreed to when it joined. Sites sign their keys for that name. So sites
that were told different things share no key, and a server that would let all but one of them send
nothing (Pasquini et al. 2022, "Eluding Secure Aggregation in Federated Learning via Model
Inconsistency") gets no sum.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

from polyclinic.config import Weighting
from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.tasks import Task
from polyclinic.federation.ledger import digest
from polyclinic.federation.secure.masking import quantisation
from polyclinic.federation.secure.messages import Terms
from polyclinic.federation.secure.quantise import Quantisation

_OWN = ("kind", "head", "encoder", "exchange", "content", "bootstrap")
"""Fields of a task that differ between sites or rounds, or say nothing of training. To one `head` a
stage each site holds the server itself (`secret_site`)."""


def terms_of(agreement: Agreement, task: Task, roster: Mapping[str, str]) -> Terms:
    """The terms of an exchange; `roster` has the sites' public keys, confirmed by people."""
    told = {name: value for name, value in asdict(task).items() if name not in _OWN}
    about = json.dumps({"asked": told, "agreed": asdict(agreement)}, sort_keys=True)
    return Terms(
        f"{task.method}, seed {task.seed}, stage {task.stage + 1}, exchange {task.exchange} of "
        f"{digest(about.encode())}",
        agreement.threshold,
        {site: bytes.fromhex(key) for site, key in roster.items()},
    )


def weighting_of(agreement: Agreement, method: str) -> Weighting:
    """By what a method weighs sites."""
    return agreement.weighting if method == "universal" else "size"


def how_of(agreement: Agreement, method: str) -> Quantisation:
    """How numbers are written, from what was agreed and not from what the server says now."""
    weighting = weighting_of(agreement, method)
    return quantisation(weighting, len(agreement.sites), agreement.federation.secure_clip)
