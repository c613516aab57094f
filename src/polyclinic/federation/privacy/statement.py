"""What may be claimed of privacy, in figures and in words, for a run's results."""

from typing import Any

from polyclinic.config import PrivacyConfig
from polyclinic.federation.privacy.account import Account
from polyclinic.federation.privacy.accounting import ACCOUNTANT

_UNITS = {
    "record": "one image of the training split",
    "patient": "all images of one patient in the training split",
    "site": "all that one site sends",
}


def statement(account: Account, privacy: PrivacyConfig) -> dict[str, Any]:
    """What was spent by the steps of `account`, and under which assumptions it is true.

    Neighbours are data sets of which one has one `unit` more than the other. `steps` has, for
    each kind of step, the noise (standard deviation in clips), the probability with which a unit
    takes part, and how often.
    """
    of_sites = account.unit == "site"
    return {
        "epsilon": account.spent,
        "delta": account.delta,
        "budget": account.epsilon,
        "unit": account.unit,
        "neighbours": f"with and without {_UNITS[account.unit]}",
        "sampling": (
            "none: every site takes part in every stage"
            if of_sites
            else "Poisson: each unit takes part in each step by itself"
        ),
        "clip": privacy.site_clip if of_sites else privacy.clip,
        "images": privacy.patient_images if account.unit == "patient" else None,
        "steps": [{"noise": s.noise, "rate": s.rate, "number": s.number} for s in account.history],
        "accountant": ACCOUNTANT,
    }
