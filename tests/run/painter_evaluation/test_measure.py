"""Rows and judges: what a perfect, a wrong and a careless painter get."""

import json
import math

import numpy as np
import pytest

from polyclinic.evaluate.painting.variety import standardised
from polyclinic.inpaint.crops import outlines
from polyclinic.run.painter_evaluation.judges import SHIFT, TrainingImages, region_box
from polyclinic.run.painter_evaluation.measure import REAL, rows_of, sequence_label
from polyclinic.run.painter_evaluation.plan import MIN_PIXELS, plan_edits
from polyclinic.run.painter_evaluation.variants import PaintedEdit, Variant

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def edits(cases):
    return plan_edits(cases[2:4], outlines(cases[:2]), 2, 0)


def variant(edit, change):
    """A variant that returns the truth, changed."""

    def paint(volumes, regions, head_px, seed):
        inside = edit.fill_mask
        after = {
            number: np.where(inside, change(slices, seed), slices).astype(np.float32)
            for number, slices in volumes.items()
        }
        return PaintedEdit(after, edit.fill_maps, calls=3)

    return Variant("v", paint, calls=3)


def first(edits, kind, shape="exact"):
    return next(edit for edit in edits if (edit.kind, edit.shape) == (kind, shape))


def test_the_truth_gets_what_the_truth_deserves(edits, judges):
    edit = first(edits, "infill")
    (real, row), results = rows_of(edit, [variant(edit, lambda s, _: s)], judges, samples=2)
    assert results.keys() == {REAL, "v"}
    assert (row["mse"], row["psnr"], row["ssim"]) == (0, None, pytest.approx(1))
    assert row["seam_ratio"] == 1
    assert (row["diversity"], row["changed_outside"], row["calls"]) == (0, 0, 3)
    for key in ("texture", "features", "ring", "nearest", "found_tumour"):
        assert row[key] == real[key]
    json.dumps([real, row], allow_nan=False)


def test_errors_and_seeds_show(edits, judges):
    edit = first(edits, "infill")
    (_, row), _ = rows_of(edit, [variant(edit, lambda s, _: s + 0.2)], judges, 2)
    assert row["mse"] == pytest.approx(0.01, rel=1e-4)  # 0.2 of a range of 2
    assert row["psnr"] == pytest.approx(20, rel=1e-4)
    assert row["seam_ratio"] > 1
    noisy = variant(edit, lambda s, seed: s + 0.1 * (seed - edit.seed))
    (_, row), _ = rows_of(edit, [noisy], judges, 3)
    assert row["diversity"] == pytest.approx(0.4 / 3, rel=1e-4)


def test_a_change_outside_is_counted(edits, judges):
    edit = first(edits, "infill")

    def paint(volumes, regions, head_px, seed):
        ((number, slices),) = volumes.items()
        after = slices.copy()
        after[0, 0, :3] += 1
        return PaintedEdit({number: after}, edit.fill_maps)

    (_, row), _ = rows_of(edit, [Variant("v", paint, 1, repeats=False)], judges, 2)
    assert row["changed_outside"] == 3
    assert "diversity" not in row  # slow ones are painted once


def test_volumes_get_the_challenges_scores(edits, judges):
    edit = first(edits, "volume")
    (real, row), _ = rows_of(edit, [variant(edit, lambda s, _: s)], judges, 1)
    assert (row["challenge_mse"], row["challenge_ssim"]) == (
        pytest.approx(0, abs=1e-12),
        pytest.approx(1),
    )
    assert row["between_slices"] == real["between_slices"] > 0
    (_, row), _ = rows_of(edit, [variant(edit, lambda s, _: s * 0)], judges, 1)
    assert row["challenge_mse"] > 0.001
    assert row["between_slices"] == 0


def test_a_tumour_is_judged_by_what_was_asked(edits, judges, monkeypatch):
    from polyclinic.inpaint.segmenter import Segmenter

    edit = first(edits, "tumour")
    monkeypatch.setattr(Segmenter, "predict", lambda *_: edit.components)
    rows, _ = rows_of(edit, [variant(edit, lambda s, _: s * 0.5)], judges, 1)
    named = [(row["variant"], row["sequence"]) for row in rows]
    labels = [sequence_label(number) for number in edit.sequences]
    assert len(labels) == 2
    assert named == [(name, label) for name in (REAL, "v") for label in labels]
    parts = [row["components"] for row in rows]
    assert parts[1] == parts[3] == []  # what all sequences show is said once
    assert all(part["dice"] == part["as_asked"] == 1 for part in parts[0] + parts[2])
    asked = {int(c) for c in np.unique(edit.fill_maps) if c > 0}
    assert len(parts[2]) == len(asked)
    assert all("psnr" not in row for row in rows)
    assert rows[2]["calls"] == 3 / 2  # a sequence and slice
    monkeypatch.setattr(Segmenter, "predict", lambda *_: edit.components * 0)
    rows, _ = rows_of(edit, [variant(edit, lambda s, _: s * 0.5)], judges, 1)
    assert all(part["dice"] == 0 and part["as_none"] == 1 for part in rows[2]["components"])


def test_the_segmenter_sees_all_sequences_that_were_painted_together(edits, judges, monkeypatch):
    from polyclinic.inpaint.segmenter import Segmenter

    seen = []

    def predict(_, volumes):
        seen.append(sorted(volumes))
        return np.zeros(next(iter(volumes.values())).shape, np.uint8)

    monkeypatch.setattr(Segmenter, "predict", predict)
    for kind in ("infill", "tumour"):
        seen.clear()
        edit = first(edits, kind)
        rows_of(edit, [variant(edit, lambda s, _: s)], judges, 1)
        assert seen == [sorted(edit.sequences)] * 2


def test_boxes_hold_what_the_model_chose(edits, judges):
    edit = first(edits, "tumour", "box")

    def paint(volumes, regions, head_px, seed):
        chosen = np.where(edit.components > 0, edit.fill_maps, edit.fill_maps * 0)
        return PaintedEdit(dict(volumes), chosen)

    (real, _, row, _), _ = rows_of(edit, [Variant("v", paint, 1)], judges, 1)
    assert row["containment"] == 1
    assert 0 < row["filled"] == real["filled"] < 1
    assert [part["pixels"] for part in row["components"]] == [
        part["pixels"] for part in real["components"]
    ]


@pytest.mark.parametrize("kind", ["infill", "tumour"])
def test_a_training_image_is_found_again(cases, edits, kind):
    """Whichever training slice was copied, mirrored, with another contrast, a pixel off."""
    edit = first(edits, kind)
    (number, *_) = edit.sequences
    region = edit.fill_mask[edit.middle]
    rows, columns = region_box(region)
    training = TrainingImages(cases[:2]).like(edit, number)
    shown = [
        (case, z)
        for case in cases[:2]
        for z in range(len(case.head))
        if kind == "infill" or np.count_nonzero(case.components[z]) >= MIN_PIXELS
    ]
    shifts = (2 * SHIFT + 1) ** 2
    assert training.candidates.shape == (2 * shifts * len(shown), region.sum())
    plane = edit.volumes[number][edit.middle].copy()
    assert training.nearest(plane) > 0.2
    for case, z in shown:
        if kind == "infill":  # the same place in the head
            middles = [region_box(head) for head in (case.head[z], edit.case.head[edit.first])]
            off = [
                round((a.start + a.stop - b.start - b.stop) / 2)
                for a, b in zip(*middles, strict=True)
            ]
            there = np.roll(case.volumes[number][z], [-off[0], -off[1]], (0, 1))[rows, columns]
        else:
            tumour = region_box(case.components[z] > 0)
            corner = [
                (t.start + t.stop) // 2 - (own.stop - own.start) // 2
                for t, own in zip(tumour, (rows, columns), strict=True)
            ]
            padded = np.pad(case.volumes[number][z], 48, constant_values=-1)
            there = padded[
                corner[0] + 48 : corner[0] + 48 + rows.stop - rows.start,
                corner[1] + 48 : corner[1] + 48 + columns.stop - columns.start,
            ]
        plane[rows, columns] = 0.3 + 0.5 * there[:, ::-1]
        flat = np.ptp(plane[region]) == 0
        assert training.nearest(plane) == pytest.approx(0, abs=2e-3) or flat


def test_without_training_images_nothing_is_near(edits):
    edit = first(edits, "infill")
    training = TrainingImages([]).like(edit, edit.sequences[0])
    assert math.isnan(training.nearest(edit.volumes[edit.sequences[0]][edit.middle]))


def test_the_fast_distance_is_that_of_one_window_after_the_other(edits, cases):
    edit = first(edits, "infill")
    (number,) = edit.sequences
    training = TrainingImages(cases[:2]).like(edit, number)
    plane = edit.volumes[number][edit.middle]
    pixels = standardised(plane[edit.fill_mask[edit.middle]][None])[0]
    slow = min(np.sqrt(np.mean((window - pixels) ** 2)) for window in training.candidates)
    assert training.nearest(plane) == pytest.approx(slow, rel=1e-4)
