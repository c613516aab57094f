"""Train, validation and test: by patient, balanced, and the same whatever the order of items."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyclinic.data.dataset import SPLITS, Item, Split
from polyclinic.seeding import generator

REGRESSION_BINS = 5
KEPT_OF_CLASS = 8
"""A class keeps this many images, or all that it has, where only some are drawn to train on."""


def split_items(
    items: Sequence[Item],
    classes: Sequence[str],
    *,
    seed: int,
    val_share: float,
    test_share: float,
    presence: NDArray[Any] | None = None,
) -> dict[Split, NDArray[np.int64]]:
    """Row numbers of each split, sorted. All images of a patient go to one split.

    Validation and test sets that the data give stay as they are; one that they lack is drawn
    from the patients in training. The draw goes label by label, the rarest first (after Sechidis
    et al. 2011, "On the Stratification of Multi-Label Data", with patients in the place of
    examples): every label with at least three patients is in every split that is drawn, provided
    that no patient has several labels. Regression is stratified by fifths. For segmentation
    `presence` (N, K) says which classes each image shows.
    """
    held = {item.split for item in items} & {"val", "test"}
    fixed: dict[str, Split] = {}
    for side in SPLITS[1:]:
        fixed.update({item.patient: side for item in items if item.split == side})
    strata = _strata(items, len(classes), presence)
    counts: dict[str, NDArray[np.int64]] = {}
    for item, row in zip(items, strata, strict=True):
        if item.patient not in fixed:
            counts[item.patient] = counts.get(item.patient, 0) + row
    shares: dict[Split, float] = {
        "train": 1 - val_share - test_share,
        "val": val_share,
        "test": test_share,
    }
    drawn = _draw(counts, {s: share for s, share in shares.items() if s not in held}, seed)
    rows: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for number, item in enumerate(items):
        given = item.split
        if given and (given in held or (given == "train" and item.patient in fixed)):
            rows[given].append(number)  # given; `leaking_patients` reports contradictions
        else:
            rows[fixed.get(item.patient) or drawn[item.patient]].append(number)
    return {split: np.array(rows[split], dtype=np.int64) for split in SPLITS}


def leaking_patients(items: Iterable[Item]) -> list[str]:
    """Patients whom the given splits put on more than one side, sorted."""
    seen: dict[str, set[Split]] = {}
    for item in items:
        if item.split is not None:
            seen.setdefault(item.patient, set()).add(item.split)
    return sorted(patient for patient, splits in seen.items() if len(splits) > 1)


def limit_rows(
    rows: NDArray[np.int64],
    items: Sequence[Item],
    classes: Sequence[str],
    most: int,
    *seed: int | str,
) -> NDArray[np.int64]:
    """At most `most` of `rows`, drawn at random, sorted; all of them where `most` is 0.

    Every class (every fifth, for regression) keeps `KEPT_OF_CLASS` images, or all that it has;
    where `most` is too small even for that, the classes take turns. `items[row]` is the item of a
    row; without targets the draw is a plain one.
    """
    if not most or len(rows) <= most:
        return rows
    order = rows[torch.randperm(len(rows), generator=generator(*seed)).numpy()]
    shown = _strata([items[row] for row in order], len(classes), None)
    earlier = np.cumsum(shown, axis=0) - shown  # images of the same class that come before
    turn = np.where(shown, np.minimum(earlier, KEPT_OF_CLASS), KEPT_OF_CLASS).min(axis=1)
    return np.sort(order[np.argsort(turn, kind="stable")[:most]])


def _strata(items: Sequence[Item], count: int, presence: NDArray[Any] | None) -> NDArray[np.int64]:
    """Which labels each item counts for, 0 or 1, (N, K + 1); the last is for those with none."""
    targets = [item.target for item in items]
    shown = np.zeros((len(items), count), np.int64)
    if presence is not None:
        shown = (presence != 0).astype(np.int64)
    elif targets and all(isinstance(target, tuple) for target in targets):
        shown = np.array(targets, np.int64)
    elif targets and count and all(isinstance(target, int) for target in targets):
        shown[np.arange(len(items)), np.array(targets, np.int64)] = 1
    elif targets and all(isinstance(target, int | float) for target in targets):
        values = np.array(targets, np.float64)
        edges = np.quantile(values, np.arange(1, REGRESSION_BINS) / REGRESSION_BINS)
        shown = np.eye(REGRESSION_BINS, dtype=np.int64)[np.searchsorted(edges, values)]
    none = ~shown.any(axis=1, keepdims=True)
    return np.hstack([shown, none.astype(np.int64)])


def _draw(
    counts: Mapping[str, NDArray[np.int64]], shares: Mapping[Split, float], seed: int
) -> dict[str, Split]:
    """A split for every patient, given the patient's images per label."""
    if not counts:
        return {}

    def by_size_then_chance(patient: str) -> tuple[int, bytes]:
        digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
        return -size[patient], digest

    size = dict(zip(counts, np.stack([*counts.values()]).sum(axis=1).tolist(), strict=True))
    order = sorted(counts, key=by_size_then_chance)
    having = [
        [patient for patient, shows in zip(order, column, strict=True) if shows]
        for column in np.stack([counts[patient] for patient in order]).T
    ]
    placed = {split: np.zeros(len(having)) for split in shares}
    assigned: dict[str, Split] = {}
    waiting = set(range(len(having)))
    while waiting:
        left = {k: sum(patient not in assigned for patient in having[k]) for k in waiting}
        label = min(waiting, key=lambda k: (left[k], k))
        waiting.remove(label)
        for patient in having[label]:
            if patient in assigned:
                continue
            # The emptiest split for its share; among equals the largest, so that a label with a
            # single patient is trained on.
            split = min(shares, key=lambda s: (placed[s][label] / shares[s], -shares[s]))
            assigned[patient] = split
            placed[split] += counts[patient]
    return assigned
