import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.data.dataset import SPLITS, Item
from polyclinic.data.splits import KEPT_OF_CLASS, leaking_patients, limit_rows, split_items
from polyclinic.seeding import generator

SHARES = {"val_share": 0.15, "test_share": 0.2}


def split_by_key(items, seed=0, **options):
    rows = split_items(items, ("a", "b", "c"), seed=seed, **SHARES, **options)
    assert sorted(np.concatenate([rows[s] for s in SPLITS])) == list(range(len(items)))
    for split in SPLITS:
        assert rows[split].dtype == np.int64
        assert list(rows[split]) == sorted(rows[split])
    return {items[row].key: split for split in SPLITS for row in rows[split]}


@st.composite
def patients_of_one_class(draw):
    """Items of patients, every patient of one of three classes, with 1 to 4 images."""
    patients = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=40))
    return [
        Item(f"{p}/{i}", f"p{p}", label)
        for p, (label, count) in enumerate(patients)
        for i in range(count)
    ]


@settings(max_examples=80, derandomize=True)
@given(patients_of_one_class(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_patients_stay_together_classes_are_everywhere_and_order_is_nothing(items, seed, chance):
    where = split_by_key(items, seed)
    sides: dict[str, set[str]] = {}
    for item in items:
        sides.setdefault(item.patient, set()).add(where[item.key])
    assert all(len(side) == 1 for side in sides.values())
    for label in range(3):
        patients = {item.patient for item in items if item.target == label}
        if len(patients) >= 3:
            shown = {where[item.key] for item in items if item.target == label}
            assert shown == set(SPLITS)
        elif patients:
            assert "train" in {where[item.key] for item in items if item.target == label}
    shuffled = list(items)
    chance.shuffle(shuffled)
    assert split_by_key(shuffled, seed) == where


def test_shares_hold_for_every_class():
    items = [Item(str(n), str(n), 0 if n < 100 else 1) for n in range(300)]
    where = split_by_key(items)
    for label, size in ((0, 100), (1, 200)):
        counts = Counter(where[i.key] for i in items if i.target == label)
        assert counts["val"] == pytest.approx(0.15 * size, abs=1)
        assert counts["test"] == pytest.approx(0.2 * size, abs=1)


def test_seed_changes_the_draw():
    items = [Item(str(n), str(n), 0) for n in range(60)]
    assert split_by_key(items, 0) == split_by_key(items, 0)
    assert split_by_key(items, 0) != split_by_key(items, 1)


def test_rare_label_of_a_multi_label_site_is_in_every_split():
    items = [Item(str(n), str(n), (1, int(n % 20 == 0), 0)) for n in range(60)]
    items += [Item(f"none{n}", f"none{n}", (0, 0, 0)) for n in range(20)]
    where = split_by_key(items)
    assert {where[i.key] for i in items if i.target[1]} == set(SPLITS)
    assert {where[i.key] for i in items if not any(i.target)} == set(SPLITS)


def test_regression_is_stratified_by_fifths():
    items = [Item(str(n), str(n), n / 7) for n in range(200)]
    where = split_by_key(items)
    for fifth in range(5):
        part = Counter(where[str(n)] for n in range(fifth * 40, fifth * 40 + 40))
        assert part["test"] == pytest.approx(8, abs=2)
        assert part["val"] == pytest.approx(6, abs=2)


def test_segmentation_spreads_what_the_masks_show():
    items = [Item(f"{p}#{z}", f"case{p}") for p in range(30) for z in range(5)]
    presence = np.zeros((150, 3), bool)
    presence[:, 0] = True
    presence[[2, 52, 102], 2] = True  # three patients show the rare class
    where = split_by_key(items, presence=presence)
    assert {where[items[row].key] for row in (2, 52, 102)} == set(SPLITS)


def test_given_splits_are_kept():
    given_splits = ["train", "val", "test"] * 10
    items = [Item(str(n), str(n), n % 2, s) for n, s in enumerate(given_splits)]
    assert split_by_key(items) == {str(n): s for n, s in enumerate(given_splits)}


def test_missing_validation_comes_from_training_by_patient():
    items = [Item(f"{n}", f"p{n // 2}", 0, "train") for n in range(80)]
    items += [Item(f"t{n}", f"t{n}", 0, "test") for n in range(20)]
    where = split_by_key(items)
    assert {where[f"t{n}"] for n in range(20)} == {"test"}
    counts = Counter(where[f"{n}"] for n in range(80))
    assert counts == {"train": 64, "val": 16}  # 0.15 of 0.8, in pairs
    assert all(where[f"{n}"] == where[f"{n + 1}"] for n in range(0, 80, 2))


def test_an_image_without_split_follows_its_patient():
    items = [Item("a", "p", 0, "test"), Item("b", "p", 0), Item("c", "q", 0)]
    items += [Item(f"v{n}", f"v{n}", 0, "val") for n in range(3)]
    where = split_by_key(items)
    assert (where["a"], where["b"], where["c"]) == ("test", "test", "train")


def test_contradicting_given_splits_stay_and_are_reported():
    items = [Item("a", "p", 0, "train"), Item("b", "p", 0, "test"), Item("c", "q", 0, "train")]
    assert leaking_patients(items) == ["p"]
    where = split_by_key(items)
    assert (where["a"], where["b"]) == ("train", "test")
    random.Random(0).shuffle(items)
    assert split_by_key(items) == where


def limited(targets, most, classes=("a", "b", "c"), seed=0):
    items = [Item(str(n), str(n), target) for n, target in enumerate(targets)]
    rows = np.arange(len(items))
    kept = limit_rows(rows, items, classes, most, seed, "limit", "x")
    assert len(kept) == min(most or len(rows), len(rows))
    assert sorted(set(kept)) == list(kept)
    return list(kept)


@pytest.mark.parametrize("most", [0, 20, 21])
def test_nothing_is_drawn_without_need(most):
    assert limited([n % 3 for n in range(20)], most) == list(range(20))


def test_a_class_keeps_what_it_needs():
    targets = [0] * 500 + [1] * 30 + [2] * 3
    counts = Counter(targets[row] for row in limited(targets, 50))
    assert counts[1] >= KEPT_OF_CLASS
    assert counts[2] == 3
    several = [(1, 0, int(n == 7)) if n < 200 else (0, int(n < 204), 0) for n in range(400)]
    kept = [several[row] for row in limited(several, 40)]
    assert np.sum(kept, axis=0)[1:].tolist() == [4, 1]
    assert sum(not any(target) for target in kept) >= KEPT_OF_CLASS


def test_classes_take_turns_where_the_limit_is_below_their_needs():
    counts = Counter(n % 3 for n in limited([n % 3 for n in range(300)], 12))
    assert counts == {0: 4, 1: 4, 2: 4}


def test_every_fifth_of_a_regression_is_kept():
    values = np.random.default_rng(0).exponential(size=200)
    kept = values[limited(values.tolist(), 40, classes=())]
    edges = np.quantile(values, [0.2, 0.4, 0.6, 0.8])
    assert np.bincount(np.searchsorted(edges, kept)).tolist() == [KEPT_OF_CLASS] * 5


@pytest.mark.parametrize("targets", [[None] * 100, [n % 2 for n in range(100)]])
def test_where_no_class_is_short_the_draw_is_a_plain_one(targets):
    order = torch.randperm(100, generator=generator(0, "limit", "x"))
    assert limited(targets, 60, ("a", "b")) == order[:60].sort().values.tolist()
    assert limited(targets, 60, ("a", "b"), seed=1) != limited(targets, 60, ("a", "b"))


def test_no_items():
    assert split_by_key([]) == {}
