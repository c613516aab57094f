"""Whom differential privacy protects: the units of a site's training split, and drawing them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyclinic.config import PrivacyUnit
from polyclinic.data.dataset import SiteData
from polyclinic.errors import PrivacyError
from polyclinic.federation.privacy.randomness import uniform

Units = Sequence[NDArray[np.int64]]
"""The rows of the training images of each unit."""


def units_of(site: SiteData, unit: PrivacyUnit) -> Units:
    """The site's units: each training image, or each patient's training images.

    Raises `PrivacyError` where patients are asked for and the data name none.
    """
    rows = site.split["train"]
    if unit == "record":
        return np.split(rows, len(rows))
    if not site.has_patient_ids:
        raise PrivacyError(
            f"site '{site.name}': privacy.unit is patient, and its data name no patients; expected "
            'patient numbers in the data, or privacy.unit = "record"'
        )
    patients = site.patients[rows]
    order = np.argsort(patients, kind="stable")
    starts = np.flatnonzero(np.diff(patients[order])) + 1
    return np.split(rows[order], starts)


def poisson_sample(units: int, rate: float, secret: bytes, *name: int | str) -> NDArray[np.int64]:
    """Numbers of the units that take part in a step: each by itself with probability `rate`."""
    return np.flatnonzero(uniform(units, secret, *name) < rate)


def images_of(
    units: Units, drawn: NDArray[np.int64], most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Images of the units `drawn`, at most `most` of each, those at random.

    Returns rows (B,), for each the position of its unit in `drawn` (B,), and one over the number
    of images of its unit (B,), float32: the weights of a mean over a unit's images.
    """
    rows, positions, weights = [], [], []
    for position, number in enumerate(drawn):
        own = torch.from_numpy(units[number])
        if len(own) > most:
            own = own[torch.randperm(len(own), generator=generator)[:most]]
        rows.append(own)
        positions.append(torch.full((len(own),), position))
        weights.append(torch.full((len(own),), 1 / len(own)))
    return torch.cat(rows), torch.cat(positions), torch.cat(weights)
