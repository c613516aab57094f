"""What can be painted and on what: components, sequences, and how data sets number and colour them.

A component map has the number of a component in `COMPONENTS` in every pixel: 0 where there is no
tumour. A fill map has `KEEP` where a pixel stays as it is, and elsewhere the number of the
component to paint.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import ConfigError, DataError, did_you_mean

COMPONENTS = ("tumour-free", "core", "oedema", "enhancing", "mixed")
TUMOUR_FREE, CORE, OEDEMA, ENHANCING, MIXED = range(len(COMPONENTS))
KEEP = -1
"""A pixel of a fill map that is not painted."""
MASK_LABELS = {CORE: 1, OEDEMA: 2, ENHANCING: 3, TUMOUR_FREE: 5, MIXED: 6}
"""What a written mask calls a painted component; 0 is kept, and 4 is left to older BraTS."""

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
"""Native T1, T1 after contrast, T2, T2-FLAIR."""
UNKNOWN_SEQUENCE = len(SEQUENCES)

_OTHER_NAMES = {
    "tumor-free": "tumour-free",
    "tumourless": "tumour-free",
    "tumorless": "tumour-free",
    "tumour-less": "tumour-free",
    "tumor-less": "tumour-free",
    "necrosis": "core",
    "necrotic-core": "core",
    "edema": "oedema",
    "enhancement": "enhancing",
    "mixture": "mixed",
    "t1": "t1n",
    "t1ce": "t1c",
    "t1gd": "t1c",
    "t2": "t2w",
    "flair": "t2f",
}

COLOURS: Mapping[tuple[int, int, int], int] = {
    (0, 255, 255): TUMOUR_FREE,
    (255, 0, 0): CORE,
    (0, 255, 0): OEDEMA,
    (0, 0, 255): ENHANCING,
    (255, 255, 0): MIXED,
}
"""Colours (red, green, blue) of the components in drawings made for the tool published with
Rouzrokh et al., arXiv 2210.12113."""

COLOUR_TOLERANCE = 40
"""How far each of red, green and blue may be off, of 255."""
COLOURED = 100
"""A pixel whose red, green and blue differ by more than this was drawn; a blend of a colour with as
much grey has 127."""

LABELS: Mapping[str, Mapping[int, int]] = {
    "brats": {1: CORE, 2: OEDEMA, 3: ENHANCING, 4: ENHANCING},
    "msd": {1: OEDEMA, 2: CORE, 3: ENHANCING},
}
"""What the labels of a segmentation mean: BraTS challenges (enhancing tumour is 4 until 2020, 3
from 2023), the brain task of the Medical Segmentation Decathlon."""
MASK = "mask"
"""The order of labels in which everything that is not 0 is a mixture."""


_CONTRAST = {"c", "ce", "gd", "gad", "gado", "gadolinium", "post", "contrast", "km"}
_NO_CONTRAST = {"pre", "non", "without", "native", "nativ"}


def described_sequence(description: str, contrast: bool = False) -> int | None:
    """The number of the sequence that a scanner's description of a series names, None where it
    names none, or several. `contrast`: an agent was given.

    >>> [described_sequence(name) for name in ("AX FLAIR", "t1_se_tra +KM", "DWI")]
    [3, 1, None]
    """
    words = {word for word in re.split(r"[^a-z0-9*]+", description.lower()) if word}
    if any("flair" in word for word in words) or {"dark", "fluid"} <= words:
        return SEQUENCES.index("t2f")
    t1, t2 = ({word for word in words if word.startswith(kind)} for kind in ("t1", "t2"))
    if bool(t1) == bool(t2) or t2 & {"t2*", "t2star"} or "star" in words:
        return None
    if t2:
        return SEQUENCES.index("t2w")
    said = words & _CONTRAST or t1 & {"t1c", "t1ce", "t1gd", "t1post"}
    enhanced = (contrast or said) and not words & _NO_CONTRAST
    return SEQUENCES.index("t1c" if enhanced else "t1n")


def component(name: str) -> int:
    """The number of a component; `ConfigError` with the nearest name if it is unknown."""
    return COMPONENTS.index(_known(name, COMPONENTS, "component"))


def sequence(name: str, names: Sequence[str] = SEQUENCES) -> int:
    """The number of a sequence in `names`; `ConfigError` with the nearest name if it is unknown."""
    return names.index(_known(name, names, "sequence"))


def from_labels(labels: NDArray[np.generic], order: str, name: str) -> NDArray[np.uint8]:
    """The component map of a segmentation whose labels follow `order`, a key of `LABELS` or `MASK`.

    Raises `DataError`, which calls the segmentation `name`, at a label that the order lacks, and
    where it has both labels of the enhancing tumour: then one of them must mean something else.
    """
    if order == MASK:
        return np.where(labels != 0, MIXED, TUMOUR_FREE).astype(np.uint8)
    meaning = LABELS[order]
    components = np.zeros(labels.shape, np.uint8)
    for value in np.unique(labels):
        if value == 0:
            continue
        if float(value) not in meaning:
            known = ", ".join(map(str, (0, *meaning)))
            raise DataError(f"{name}: label {value:g}; in {order} order expected one of {known}")
        components[labels == value] = meaning[int(value)]
    if order == "brats" and np.isin((3, 4), labels).all():
        raise DataError(
            f"{name}: has both labels 3 and 4; expected enhancing tumour as 4 (until 2020) or as 3 "
            "(from 2023)"
        )
    return components


def to_mask(realised: NDArray[np.int8]) -> NDArray[np.uint8]:
    """A mask of realised components: numbers of `MASK_LABELS`, 0 where a pixel was kept."""
    mask = np.zeros(realised.shape, np.uint8)
    for number, label in MASK_LABELS.items():
        mask[realised == number] = label
    return mask


def from_colours(image: NDArray[np.uint8], name: str) -> NDArray[np.int8]:
    """The fill map (H, W) of a drawing (H, W, 3): `COLOURS` are painted, all grey pixels kept.

    Raises `DataError`, which calls the drawing `name`, where a pixel is `COLOURED` and near to none
    of them, as along blended edges and in most JPEG files: what it asks for cannot be told.
    """
    fill_map = np.full(image.shape[:2], KEEP, np.int8)
    for colour, number in COLOURS.items():
        off = np.abs(image.astype(np.int16) - np.array(colour)).max(axis=-1)
        fill_map[off <= COLOUR_TOLERANCE] = number
    expected = (
        "expected pure cyan, red, green, blue or yellow, each channel within "
        f"{COLOUR_TOLERANCE} of it: save the drawing as PNG, without blended edges"
    )
    spread = image.max(axis=-1).astype(np.int16) - image.min(axis=-1)
    strays = np.argwhere((spread > COLOURED) & (fill_map == KEEP))
    if len(strays):
        row, column = strays[0]
        raise DataError(
            f"{name}: {len(strays)} px in colours that mean no component, the first "
            f"{tuple(image[row, column].tolist())} in column {column}, row {row}; {expected}"
        )
    if (fill_map == KEEP).all():
        raise DataError(f"{name}: in colours, but none of them means a component; {expected}")
    return fill_map


def _known(name: str, names: Sequence[str], kind: str) -> str:
    lower = name.strip().lower().replace("_", "-").replace(" ", "-")
    lower = _OTHER_NAMES.get(lower, lower)
    if lower in names:
        return lower
    others = (other for other, meant in _OTHER_NAMES.items() if meant in names)
    guess = did_you_mean(lower, [*names, *others])
    raise ConfigError(f"no {kind} {name!r}: expected one of {', '.join(names)}{guess}")
