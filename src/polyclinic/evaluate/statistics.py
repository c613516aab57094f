"""Is one method better than another over all sites: wins, mean gain, signed-rank tests, Holm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyclinic.errors import DataError

DECIMALS = 12
"""Differences are rounded to this many decimals: what is left of equal scores is no win."""


@dataclass(frozen=True)
class Comparison:
    """`method` against `over` on primary metrics; one unit is one site with one training seed.

    `p` treats all `n` units as independent, which seeds of one site are not: they share its
    patients, so `p` speaks of these sites only. `p_sites` tests the sites' means over seeds, one
    number per site; it is the cautious one, and with 8 sites cannot be below 2/256 = 0.0078.
    `p_holm` and `p_sites_holm` are corrected for all comparisons of the same call.
    """

    method: str
    over: str
    n: int
    wins: int
    ties: int
    mean_gain: float
    p: float
    p_holm: float
    sites_won: int  # sites whose mean difference over seeds is above 0
    sites: int
    p_sites: float
    p_sites_holm: float


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for multiple tests: (m,) to (m,), in the order given, at most 1.

    Holm 1979, "A simple sequentially rejective multiple test procedure". Raises `DataError` when
    a value is not between 0 and 1.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"holm: expected a list of p-values between 0 and 1, got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def wilcoxon(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that differences are symmetric about zero.

    Zeros are dropped first (Wilcoxon 1945); 1.0 when nothing is left. Exact for up to 50
    differences of distinct size, and for up to 13 with ties; beyond that the normal approximation
    with correction for ties. Raises `DataError` when a difference is not finite.
    """
    d = np.asarray(differences, np.float64)
    if not np.isfinite(d).all():
        raise DataError("wilcoxon: expected finite differences; leave out undefined units first")
    d = d[d != 0]
    if len(d) == 0:
        return 1.0
    from scipy.stats import wilcoxon as signed_rank  # slow to import, needed only here

    return float(signed_rank(d, alternative="two-sided").pvalue)


def compare(
    scores: Mapping[tuple[str, str, int], float], ours: str, others: Sequence[str]
) -> list[Comparison]:
    """Compare `ours` with each of `others`, in their order.

    `scores[(method, site, seed)]` is a primary metric, higher is better. A unit counts where both
    methods have a finite score; a method that shares no unit with `ours` is left out, and does
    not count in Holm's correction.
    """
    found: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]] = []
    for other in others:
        by_site = _differences(scores, ours, other)
        if by_site:
            units = np.array([d for site in by_site.values() for d in site])
            means = np.array([np.mean(site) for site in by_site.values()]).round(DECIMALS)
            found.append((other, units, means))
    p = [wilcoxon(units) for _, units, _ in found]
    p_sites = [wilcoxon(means) for _, _, means in found]
    p_holm, p_sites_holm = holm(p).tolist(), holm(p_sites).tolist()
    return [
        Comparison(
            method=ours,
            over=other,
            n=len(units),
            wins=int((units > 0).sum()),
            ties=int((units == 0).sum()),
            mean_gain=float(units.mean()),
            p=p[i],
            p_holm=p_holm[i],
            sites_won=int((means > 0).sum()),
            sites=len(means),
            p_sites=p_sites[i],
            p_sites_holm=p_sites_holm[i],
        )
        for i, (other, units, means) in enumerate(found)
    ]


def _differences(
    scores: Mapping[tuple[str, str, int], float], ours: str, other: str
) -> dict[str, list[float]]:
    """Differences by site, in a fixed order, where both scores are finite."""
    by_site: dict[str, list[float]] = {}
    for method, site, seed in sorted(scores):
        if method == ours and (other, site, seed) in scores:
            difference = scores[ours, site, seed] - scores[other, site, seed]
            if np.isfinite(difference):
                by_site.setdefault(site, []).append(round(float(difference), DECIMALS))
    return by_site
