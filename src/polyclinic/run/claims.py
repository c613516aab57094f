"""What may be claimed of privacy, as results.json has it, in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def bound(epsilon: float) -> str:
    """Three decimals, never less than it is: it is claimed as a bound.

    >>> bound(0.12345)
    '0.124'
    """
    return f"{math.ceil(round(1000 * epsilon, 6)) / 1000:.3f}"


def limit_claim(limit: Row) -> str:
    """What `privacy_limit` of results.json says: a bound by accounts that the sites keep.

    >>> limit_claim({"epsilon": 8.0, "delta": 1e-05, "unit": "record", "methods": ["fedavg"]})
    'at each site, epsilon at most 8 at delta 1e-05 for each record, by the account of the site'
    """
    return (
        f"at each site, epsilon at most {limit['epsilon']:g} at delta {limit['delta']:g} for each "
        f"{limit['unit']}, by the account of the site"
    )


def weight_claims(results: Row, method: str, seed: int) -> list[str]:
    """What may be said of the weights of a method and seed; of a training without noise, nothing.

    Of images or patients, and of whole sites, in a sentence each.
    """
    found = []
    own = [
        (site["name"], row)
        for site in results["sites"]
        for row in _of(site.get("privacy", []), method, seed)
    ]
    if own:
        spent = "; ".join(
            f"epsilon {bound(row['epsilon'])} at delta {row['delta']:g} at {site}"
            for site, row in own
        )
        about = own[0][1]
        found.append(f"for each {about['unit']} ({about['neighbours']}), {spent}.")
    limit = results.get("privacy_limit")
    if limit and method in limit["methods"]:
        found.append(f"{limit_claim(limit)}, which the server does not see.")
    found += [
        f"for each site ({row['neighbours']}), epsilon {bound(row['epsilon'])} at delta "
        f"{row['delta']:g}."
        for row in _of(results.get("site_privacy", []), method, seed)
    ]
    return [f"Differential privacy {text}" for text in found]


def _of(rows: Sequence[Row], method: str, seed: int) -> list[Row]:
    return [row for row in rows if (row["method"], row["seed"]) == (method, seed)]
