"""CarveMix: lesions cut out of one case and pasted into another, to compare painting with.

Zhang et al., arXiv 2108.06883. It needs no generative model, and it leaves the seam that it cuts.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.errors import DataError
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.placing import frame_of

MIN_TISSUE = 20
"""Pixels of healthy head below which intensities cannot be matched."""


def carve_mix(source: Case, target: Case, rng: np.random.Generator) -> Case:
    """`target` with the tumour of `source`, and a random amount of its surroundings, pasted in.

    The region is where the signed distance to the tumour (voxels, below 0 inside) is at most a
    random threshold: see `threshold`. Image and labels of the region replace the target's. Where
    this differs from the paper: heads are laid over each other by their middles, since these cases
    share no atlas; nothing is pasted outside the target's head; and the source's healthy tissue is
    first given the mean and spread of the target's, sequence by sequence. Only sequences that both
    have are kept.

    Neither case is changed. Raises `DataError` where the source shows no tumour, the two share no
    sequence, or no part of the region falls on the target's head.
    """
    if not (source.components > 0).any():
        raise DataError(f"{source.key}: shows no tumour; expected one to carve out")
    shared = sorted(source.volumes.keys() & target.volumes.keys())
    if not shared:
        raise DataError(
            f"{source.key} has the sequences {sorted(source.volumes)}, {target.key} has "
            f"{sorted(target.volumes)}; expected one at least in common"
        )
    distance = signed_distance(source.components > 0)
    region = distance <= threshold(distance, rng)
    from_source = np.argwhere(region & source.head)
    to_target = from_source + _middle(target.head) - _middle(source.head)
    inside = ((to_target >= 0) & (to_target < target.components.shape)).all(axis=1)
    from_source, to_target = from_source[inside], to_target[inside]
    on_head = target.head[tuple(to_target.T)]
    taken, pasted = tuple(from_source[on_head].T), tuple(to_target[on_head].T)
    components = target.components.copy()
    components[pasted] = source.components[taken]
    if not (source.components[taken] > 0).any():
        raise DataError(
            f"the tumour of {source.key} falls outside the head of {target.key}; expected heads of "
            "about one size; choose another pair"
        )
    volumes = {}
    for number in shared:
        volumes[number] = target.volumes[number].copy()
        gain, shift = _matching(source, target, number)
        volumes[number][pasted] = source.volumes[number][taken] * gain + shift
    return Case(
        f"{target.key}+{source.key}",
        volumes,
        components,
        target.head.copy(),
        {number: target.scalings[number] for number in shared},
        target.head_px,
        patient=target.patient,
    )


def signed_distance(tumour: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the tumour's border in voxels, below 0 inside it; of the same shape.

    A voxel next to the border has 1 or -1.
    """
    outside: NDArray[np.float64] = ndimage.distance_transform_edt(~tumour)
    within: NDArray[np.float64] = ndimage.distance_transform_edt(tumour)
    return outside - within


def threshold(distance: NDArray[np.float64], rng: np.random.Generator) -> float:
    """The distance up to which is carved out: in half of the cases between minus half the tumour's
    depth and 0, else between 0 and its whole depth, uniformly each."""
    depth = -float(distance.min())
    within = rng.random() < 0.5
    return float(rng.uniform(-depth / 2, 0) if within else rng.uniform(0, depth))


def _middle(head: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The middle of the box around the head: slice, row, column."""
    return np.floor(frame_of(head).middle - 0.5).astype(np.intp)


def _matching(source: Case, target: Case, sequence: int) -> tuple[np.float32, np.float32]:
    """Gain and shift that give the source's healthy tissue the target's mean and spread."""
    healthy = [
        case.volumes[sequence][case.head & (case.components == 0)] for case in (source, target)
    ]
    if min(len(values) for values in healthy) < MIN_TISSUE or float(healthy[0].std()) == 0:
        return np.float32(1), np.float32(0)
    gain = healthy[1].std() / healthy[0].std()
    return np.float32(gain), np.float32(healthy[1].mean() - gain * healthy[0].mean())
