"""Volumes as slices: which of them are used, how bright they are, and decoding a case only once."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Image, Item
from polyclinic.data.images import HIGH_PERCENTILE, LOW_PERCENTILE, scale
from polyclinic.data.nifti import Volume
from polyclinic.errors import DataError

EVERY = 5
"""Of the slices without a label, every so many is used."""
MIN_SHOWN = 0.01
"""Slices with a smaller share of pixels above the background are left out, unless labelled."""
AIR_HU = -900.0
"""CT values below are air around the patient, and count for no percentile."""

Slices = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]
"""Images (Z, H, W) or (Z, H, W, 3), and label maps (Z, H, W) where there are any."""


def chosen(labelled: NDArray[np.bool_], shown: NDArray[np.bool_]) -> list[int]:
    """Slices to use, by numbers from the feet up: all with a label, and every fifth of the others.

    `labelled` (Z,) and `shown` (Z,), which says whether there is anything to see. The first of the
    others is the third of them, so that of five in a row the middle one is taken.
    """
    others = np.flatnonzero(shown & ~labelled)[EVERY // 2 :: EVERY]
    return sorted({*np.flatnonzero(labelled).tolist(), *others.tolist()})


def shown_slices(volume: Volume, is_ct: bool) -> NDArray[np.bool_]:
    """Which slices (Z,) of a volume (X, Y, Z) show something: see `MIN_SHOWN`."""
    share = np.count_nonzero(_inside(volume, is_ct), axis=(0, 1)) / volume[..., 0].size
    found: NDArray[np.bool_] = share >= MIN_SHOWN
    return found


def as_grey(volume: Volume, is_ct: bool) -> NDArray[np.uint8]:
    """A volume to 0..255 by its own percentiles 0.5 and 99.5: one scale for all of its slices.

    Of CT, voxels above `AIR_HU` count; of others those that are not 0, and 0 stays black.
    """
    inside = _inside(volume, is_ct)
    seen = volume[inside]
    if not seen.size:
        return np.zeros(volume.shape, np.uint8)
    ends = np.percentile(seen, (LOW_PERCENTILE, HIGH_PERCENTILE), overwrite_input=True)
    low, high = (float(value) for value in ends)
    low = min(low, 0.0) if low == high else low
    scaled = scale(volume, low, high)
    scaled[~inside] = 0
    return scaled


def loader(
    decode: Callable[[str], Slices], unusable: dict[str, str]
) -> Callable[[Item], tuple[Image, NDArray[np.uint8] | None]]:
    """A `Scan.load` for keys `CASE#Z`. Two cases are kept, as slices are asked for in a row.

    `unusable` says of cases that have no slices why not.
    """
    lock = threading.Lock()  # two threads that ask for slices of one case must not both decode it

    @functools.lru_cache(maxsize=2)
    def kept(case: str) -> Slices | str:
        try:
            return decode(case)
        except DataError as error:  # kept, so that a broken case is not decoded for every slice
            return str(error).removeprefix(f"{case}: ")

    def load(item: Item) -> tuple[Image, NDArray[np.uint8] | None]:
        if item.key in unusable:
            raise DataError(f"{item.key}: {unusable[item.key]}")
        case, _, z = item.key.rpartition("#")
        with lock:
            result = kept(case)
        if isinstance(result, str):
            raise DataError(f"{item.key}: {result}")
        images, labels = result
        return images[int(z)], None if labels is None else labels[int(z)]

    return load


def _inside(volume: Any, is_ct: bool) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = volume > AIR_HU if is_ct else volume != 0
    return found
