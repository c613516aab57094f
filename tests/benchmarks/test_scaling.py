"""Federations under stress: what is changed, what is left alone, and what is summed up."""

from collections import Counter

import numpy as np
import pytest

import scaling
from polyclinic.data.dataset import SiteData
from polyclinic.errors import DataError
from scaling_federations import LEAST, mislabelled, split, tenth


def site(name="skin", *, images=240, classes=4, each=2, task="single-label"):
    """A site whose patients have `each` images of one class; the last 40 rows do not train."""
    rng = np.random.default_rng(3)
    patients = np.arange(images) // each
    labels = rng.integers(0, classes, images // each)[patients]
    targets = labels if task == "single-label" else np.zeros((images, 8, 8), np.uint8)
    rows = np.arange(images)
    return SiteData(
        name,
        task,
        tuple("abcdefgh"[:classes]),
        np.zeros((images, 1, 8, 8), np.uint8),
        targets,
        patients,
        tuple(map(str, rows)),
        {"train": rows[:-40], "val": rows[-40:-20], "test": rows[-20:]},
        "folders",
    )


@pytest.mark.parametrize("skew", [0.0, 0.1])
@pytest.mark.parametrize("task", ["single-label", "segmentation"])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_split_deals_every_patient_out_once(parts, task, skew):
    whole = site(task=task)
    found = split({"skin": whole}, parts, skew, seed=1)
    assert [*found] == [f"skin-{number}" for number in range(1, parts + 1)]
    rows = np.concatenate([part.split["train"] for part in found.values()])
    assert sorted(rows) == sorted(whole.split["train"])
    homes = [set(part.patients[part.split["train"]].tolist()) for part in found.values()]
    assert sum(map(len, homes)) == len(set().union(*homes))
    for name, part in found.items():
        assert part.name == name
        assert len(part.split["train"]) >= LEAST
        assert part.split["val"] is whole.split["val"]


def test_an_even_split_leaves_every_part_its_share_of_each_class():
    whole = site(each=1)
    total = Counter(whole.targets[whole.split["train"]].tolist())
    for part in split({"skin": whole}, 4, 0.0, seed=1).values():
        own = Counter(part.targets[part.split["train"]].tolist())
        for label, number in total.items():
            assert abs(own[label] - number / 4) <= 1


def test_a_skewed_split_leaves_a_part_few_classes():
    whole = site(images=840, classes=8, each=1)

    def most_common(skew):
        """The share of a part's most common class, the mean over parts."""
        shares = []
        for part in split({"skin": whole}, 4, skew, seed=1).values():
            own = np.bincount(part.targets[part.split["train"]])
            shares.append(own.max() / own.sum())
        return np.mean(shares)

    assert most_common(0.0) < 0.2
    assert most_common(0.1) > 0.3


def test_a_site_in_one_part_is_itself_and_in_too_many_is_refused():
    whole = site()
    assert split({"skin": whole}, 1, 0.0, seed=1) == {"skin": whole}
    with pytest.raises(DataError, match="'skin': 20 training images of 10 patients"):
        split({"skin": site(images=60)}, 8, 0.0, seed=1)


def test_a_tenth_keeps_every_class():
    whole = site(classes=8)
    few = tenth(whole, seed=0)
    kept = few.split["train"]
    assert set(kept) <= set(whole.split["train"])
    assert 8 <= len(kept) <= 20 + 8
    assert len(set(whole.targets[kept])) == 8


def test_wrong_labels_are_of_training_images_and_never_right():
    whole = site()
    wrong = mislabelled(whole, 0.2, seed=0)
    changed = np.flatnonzero(wrong.targets != whole.targets)
    assert len(changed) == round(0.2 * 200)
    assert set(changed) <= set(whole.split["train"])
    assert wrong.targets.max() < 4
    assert set(whole.targets[changed]) == {0, 1, 2, 3}


def test_sites_are_away_as_often_as_asked_and_nobody_where_nobody_is():
    away, nobody = scaling.Hardship(away=0.3).absent(seed=0), scaling.Hardship().absent(seed=0)
    calls = [(stage, name) for stage in range(1, 201) for name in "abcde"]
    assert np.mean([away(*call) for call in calls]) == pytest.approx(0.3, abs=0.04)
    assert not any(nobody(*call) for call in calls)


def test_every_cell_under_stress_is_beside_one_with_the_same_methods():
    for name, beside in scaling.BESIDE.items():
        assert set(scaling.CELLS[name].methods) <= set(scaling.CELLS[beside].methods)
        assert scaling.CELLS[name].parts == scaling.CELLS[beside].parts


def test_losses_are_paired_by_seed():
    def row(cell, seed, score, **more):
        found = {"linear-probe": {"blood": score, "skin": 0.5}, "mean": score, "sites": 8}
        return {"cell": cell, "method": "universal", "seed": seed, **found, **more}

    spent = {"bytes": 10, "training_seconds": 2.0, "absences": 0}
    rows = [row("8-sites", 0, 0.8, **spent), row("8-sites", 1, 0.9, **spent)]
    rows += [row("few", 1, 0.7, **spent)]
    whole, few = scaling.summed_up(rows)["cells"]
    assert whole["lost"] == {}
    assert whole["linear_probe"] == pytest.approx({"blood": 0.85, "skin": 0.5})
    assert few["lost"] == pytest.approx({"blood": 0.2, "skin": 0.0})
    assert (few["seeds"], few["bytes"]) == ([1], 10)
