"""Is what was painted what was asked for, and where: boxes, components, Dice.

Component maps hold the number of a component in each pixel; 0 is no tumour. In a map of what was
asked for, numbers of 0 and below ask for no component. A segmenter's map is `found`.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.checks import Mask, expect_mask

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Shares:
    """Of `pixels` in which a component was asked for: the shares found as asked, as another
    component, and as no tumour. They add up to 1, or are NaN where nothing was asked."""

    pixels: int
    as_asked: float
    as_another: float
    as_none: float


def box_containment(mask: Mask, box: Mask) -> float:
    """The share of a mask's pixels that lie in the box; arrays of one shape, NaN for no pixel."""
    expect_mask("box containment", mask, box)
    _expect_one_shape("box containment", mask, box)
    pixels = int(np.count_nonzero(mask))
    return int(np.count_nonzero(mask & box)) / pixels if pixels else math.nan


def component_shares(
    asked: Labels,
    found: Labels,
    component: int,
    also_right: Collection[int] = (),
) -> Shares:
    """Where `component` was asked for: found as it, as another (the wrong-component rate), as none.

    Arrays of one shape. Numbers in `also_right` count as asked: every component is right where a
    mixture was asked for.
    """
    _expect_one_shape("component shares", asked, found)
    here = found[asked == component]
    pixels = len(here)
    if not pixels:
        return Shares(0, math.nan, math.nan, math.nan)
    right = int(np.count_nonzero(np.isin(here, [component, *also_right])))
    none = int(np.count_nonzero(here <= 0))
    return Shares(pixels, right / pixels, (pixels - right - none) / pixels, none / pixels)


def component_dice(
    asked: Labels, found: Labels, region: Mask, components: Collection[int]
) -> Mapping[int, float]:
    """Dice of each component between what was asked for and what a segmenter found.

    Only pixels of `region` count: outside it, the segmenter may find a tumour that was there
    before. Arrays of one shape; 0 of 0 is NaN.
    """
    expect_mask("component Dice", region)
    _expect_one_shape("component Dice", asked, found, region)
    wanted, seen = asked[region], found[region]
    dice = {}
    for component in components:
        a, b = wanted == component, seen == component
        size = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
        dice[component] = 2 * int(np.count_nonzero(a & b)) / size if size else math.nan
    return dice


def _expect_one_shape(measure: str, *arrays: NDArray[Any]) -> None:
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1:
        raise DataError(
            f"{measure}: expected arrays of one shape, got {', '.join(map(str, shapes))}"
        )
