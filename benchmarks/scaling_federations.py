"""Other federations made of the same sites: split, skewed, small, with wrong labels.

Only training rows change. Every part of a split site keeps the whole site's validation split.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import SiteData
from polyclinic.errors import DataError
from polyclinic.seeding import derive

Sites = dict[str, SiteData]
LEAST = 4
"""Training images that every part of a site has, at least."""
TRIES = 1000


def split(sites: Mapping[str, SiteData], parts: int, skew: float, seed: int) -> Sites:
    """Every site as `parts` sites, patient by patient; `blood` becomes `blood-1`, `blood-2`, ...

    With `skew` 0 each part has its share of every class. Else each class is dealt out with shares
    from a symmetric Dirichlet distribution of that concentration (Hsu et al. 2019), drawn again
    while a part has fewer than `LEAST` images; segmentation, which has no class of an image, is
    dealt out evenly. `DataError` where a site has too few patients.
    """
    if parts == 1:
        return dict(sites)
    found: Sites = {}
    for name, site in sites.items():
        rng = np.random.default_rng(derive(seed, "split", name, parts))
        for number, rows in enumerate(_dealt(site, parts, skew, rng), 1):
            own = f"{name}-{number}"
            found[own] = replace(site, name=own, split={**site.split, "train": rows})
    return found


def tenth(site: SiteData, seed: int) -> SiteData:
    """The site with a tenth of its training images, of every class at least one."""
    rng = np.random.default_rng(derive(seed, "tenth", site.name))
    rows = rng.permutation(site.split["train"])
    labels = _labels(site)[rows]
    kept = np.concatenate(
        [
            rows[labels == label][: max(1, int((labels == label).sum()) // 10)]
            for label in np.unique(labels)
        ]
    )
    return replace(site, split={**site.split, "train": np.sort(kept)})


def mislabelled(site: SiteData, share: float, seed: int) -> SiteData:
    """The site with a share of its training images under another class, any of the others."""
    rng = np.random.default_rng(derive(seed, "wrong", site.name))
    rows = rng.permutation(site.split["train"])
    chosen = rows[: round(share * len(rows))]
    targets = site.targets.copy()
    shift = rng.integers(1, len(site.classes), len(chosen))
    targets[chosen] = (targets[chosen] + shift) % len(site.classes)
    return replace(site, targets=targets)


def _labels(site: SiteData) -> NDArray[np.int64]:
    """The class of every image; 0 where images have none."""
    if site.task == "single-label":
        return site.targets.astype(np.int64)
    return np.zeros(len(site), np.int64)


def _dealt(
    site: SiteData, parts: int, skew: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The training rows of each part."""
    rows, labels = site.split["train"], _labels(site)
    first: dict[int, int] = {}
    for row in rows.tolist():
        first.setdefault(int(site.patients[row]), int(labels[row]))
    skewed = skew > 0 and site.task == "single-label"
    for _ in range(TRIES):
        place: dict[int, int] = {}
        turn = 0
        for label in sorted(set(first.values())):
            own = rng.permutation([patient for patient, one in first.items() if one == label])
            if skewed:
                dealt = rng.choice(parts, len(own), p=rng.dirichlet([skew] * parts))
            else:
                dealt = (turn + np.arange(len(own))) % parts
                turn += len(own)
            place |= dict(zip(own.tolist(), dealt.tolist(), strict=True))
        of_row = np.array([place[int(site.patients[row])] for row in rows])
        found = [rows[of_row == number] for number in range(parts)]
        if min(map(len, found)) >= LEAST:
            return found
    raise DataError(
        f"site '{site.name}': {len(rows)} training images of {len(first)} patients cannot be "
        f"dealt out to {parts} sites with {LEAST} each; ask for fewer parts"
    )
