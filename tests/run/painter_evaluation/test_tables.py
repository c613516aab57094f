"""Tables: from rows alone, paired with the real slices, undefined numbers left out."""

import json

import numpy as np
import pytest

from polyclinic.run.painter_evaluation import intervals
from polyclinic.run.painter_evaluation.tables import TABLES, tables


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 30)


def row(edit, variant, kind="infill", **more):
    rng = np.random.default_rng([edit, len(variant)])
    return {
        "edit": edit,
        "variant": variant,
        "patient": f"p{edit % 4}",
        "case": f"p{edit % 4}",
        "slice": edit // 4,
        "sequence": "t2f",
        "kind": kind,
        "shape": "exact",
        "request": "tumour-free" if kind == "infill" else "parts",
        "size": "small",
        "texture": rng.normal(size=12).tolist(),
        "features": rng.normal(size=4).tolist(),
        "ring": rng.normal(size=(3, 8)).tolist(),
        "nearest": 1.0,
        "between_slices": None,
        "components": [],
        **more,
    }


def value(found, table, variant, measure, **where):
    entries = [
        e
        for e in found[table]
        if (e["variant"], e["measure"]) == (variant, measure)
        and all(e[key] == wanted for key, wanted in {"by": "all", **where}.items())
    ]
    (entry,) = entries
    return entry


def part(dice, component="oedema", size="small", wrong=0.1):
    return {
        "component": component,
        "size": size,
        "pixels": 9,
        "dice": dice,
        "as_asked": 0.8,
        "as_another": wrong,
        "as_none": 0.1,
    }


@pytest.fixture
def rows():
    made = []
    for edit in range(8):
        made.append(row(edit, "real", found_tumour=0.0))
        for variant, psnr in (("flow", 20.0 + edit), ("other", 18.0 + edit)):
            numbers = {"psnr": psnr, "ssim": 0.5, "mse": 0.01, "seconds": 0.1, "calls": 4}
            made.append(row(edit, variant, **numbers, changed_outside=0, seam_ratio=1.2))
    for edit in range(8, 12):
        made.append(row(edit, "real", "tumour", components=[part(0.8)]))
        dice = None if edit == 8 else 0.6
        made.append(row(edit, "flow", "tumour", components=[part(dice, size="large")]))
    return made


def test_means_and_paired_differences(rows):
    found = tables(rows, 0)
    mean = value(found, "infill", "flow", "psnr")
    assert mean["value"] == pytest.approx(23.5)
    assert (mean["edits"], mean["patients"]) == (8, 4)
    assert mean["low"] < 23.5 < mean["high"]
    difference = value(found, "differences", "other", "psnr", by="against")
    assert [difference[key] for key in ("value", "low", "high")] == pytest.approx([-2, -2, -2])
    assert value(found, "containment", "flow", "changed_outside")["value"] == 0


def test_others_may_be_compared_with_more_than_the_first(rows):
    found = tables(rows, 0, ["other", "not there"])
    against = {(e["variant"], e["group"]) for e in found["differences"]}
    assert against == {("other", "flow"), ("flow", "other")}
    difference = value(found, "differences", "flow", "psnr", by="against")
    assert difference["value"] == pytest.approx(2)


def test_what_all_sequences_show_together_counts_once():
    made = []
    for edit in range(4):
        for variant in ("real", "flow"):
            for sequence in ("t1c", "t2f"):
                parts = [part(0.5)] if sequence == "t1c" else []
                made.append(row(edit, variant, "tumour", sequence=sequence, components=parts))
    found = tables(made, 0)
    assert value(found, "components", "flow", "dice", by="component")["edits"] == 4
    kid = value(found, "features", "flow", "kid", kind="tumour")
    assert kid["edits"] == 8
    assert kid["value"] == pytest.approx(0)


def test_features_without_spread_say_nothing(rows):
    for one in rows:
        one["features"][0] = 3.0 if one["variant"] == "real" else 3.5
    rows.append({**rows[0], "edit": 99, "sequence": "t1n"})
    rows.append({**rows[1], "edit": 99, "sequence": "t1n", "features": [9.0] * 4})
    kid = value(tables(rows, 0), "features", "flow", "kid", kind="infill")["value"]
    assert abs(kid) < 10


def test_components_are_paired_with_the_real_ones(rows):
    found = tables(rows, 0)
    ratio = value(found, "components", "flow", "dice_ratio", by="component")
    assert ratio["group"] == "oedema, exact"
    assert (ratio["value"], ratio["edits"]) == (pytest.approx(0.75), 3)
    # what the real part measures says how large it is
    assert value(found, "components", "flow", "dice", by="size")["group"] == "oedema, small"
    assert value(found, "components", "flow", "dice_real", by="component")["value"] == 0.8


def test_every_table_is_there_and_is_json(rows):
    found = tables(rows, 0)
    assert found.keys() == {*TABLES, "differences"}
    json.dumps(found, allow_nan=False)
    keys = {"variant", "kind", "by", "group", "measure", "value", "low", "high"}
    for entries in found.values():
        assert all(entry.keys() == keys | {"edits", "patients"} for entry in entries)
    assert found["challenge"] == []


def test_the_challenge_s_scores_are_told_by_sequence_too():
    rows = []
    for edit in range(6):
        sequence = "t2f" if edit < 4 else "t1c"
        step = {"sequence": sequence, "between_slices": 0.2}
        rows.append(row(edit, "real", "volume", **step))
        score = {"challenge_ssim": edit / 10, "seconds": 0.1, "calls": 4, "changed_outside": 0}
        rows.append(row(edit, "flow", "volume", **(step | score)))
    found = tables(rows, 0)
    everything = value(found, "challenge", "flow", "challenge_ssim")
    assert (everything["value"], everything["edits"]) == (pytest.approx(0.25), 6)
    for group, mean in (("t2f", 0.15), ("t1c", 0.45)):
        entry = value(found, "challenge", "flow", "challenge_ssim", by="sequence", group=group)
        assert entry["value"] == pytest.approx(mean)
        ratio = value(found, "challenge", "flow", "between_slices", by="sequence", group=group)
        assert ratio["value"] == pytest.approx(1)


def test_a_copy_is_noticed(rows):
    for one in rows:
        if one["variant"] == "flow" and one["edit"] % 2:
            one["nearest"] = 0.1
    found = tables(rows, 0)
    assert value(found, "copies", "flow", "copies", kind="infill")["value"] == 0.5
    assert value(found, "copies", "other", "copies", kind="infill")["value"] == 0
    assert value(found, "copies", "flow", "copies_real", kind="infill")["value"] == 0


def test_a_seam_is_told(rows):
    for one in rows:
        if one["variant"] == "flow":
            one["ring"] = [[value + 10 for value in patch] for patch in one["ring"]]
    found = tables(rows, 0)
    assert value(found, "seams", "flow", "ring_auc", kind="infill")["value"] > 0.95
    assert value(found, "seams", "other", "ring_auc", kind="infill")["value"] < 0.8


def test_one_patient_alone_has_no_auc_and_no_interval(rows):
    found = tables([{**one, "patient": "p"} for one in rows], 0)
    assert value(found, "seams", "flow", "ring_auc", kind="infill")["value"] is None
    assert value(found, "infill", "flow", "psnr")["low"] is None


def test_the_scale_of_features_does_not_matter_to_kid(rows):
    def kid(rows):
        return value(tables(rows, 0), "features", "flow", "kid", kind="infill")["value"]

    scale, shift = np.array([1e-3, 1.0, 50.0, 1.0]), np.array([0.0, 7.0, -3.0, 0.0])
    scaled = [{**r, "features": (np.array(r["features"]) * scale + shift).tolist()} for r in rows]
    assert kid(scaled) == pytest.approx(kid(rows), rel=1e-6)


def test_features_are_scaled_within_their_sequence(rows):
    """Each sequence has brightness of its own, which must not hide what differs within it."""

    def kid(rows):
        return value(tables(rows, 0), "features", "flow", "kid", kind="infill")["value"]

    other = [{**r, "sequence": "t1n" if r["edit"] % 2 else "t2f"} for r in rows]
    apart = [
        {**r, "features": (np.array(r["features"]) + 100 * (r["edit"] % 2)).tolist()} for r in other
    ]
    assert kid(apart) == pytest.approx(kid(other), rel=1e-6)


def test_a_feature_that_never_differs_says_nothing(rows):
    same = [{**r, "features": [0.5] * 4} for r in rows]
    assert value(tables(same, 0), "features", "flow", "kid", kind="infill")["value"] == 0
