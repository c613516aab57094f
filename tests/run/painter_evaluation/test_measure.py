"""Rows and judges: what a perfect, a wrong and a careless painter get."""

import json

import numpy as np
import pytest

from polyclinic.inpaint.crops import outlines
from polyclinic.inpaint.painting import Painted
from polyclinic.run.painter_evaluation.judges import (
    SHIFT,
    WINDOWS,
    TrainingImages,
    region_box,
)
from polyclinic.run.painter_evaluation.measure import REAL, rows_of
from polyclinic.run.painter_evaluation.plan import plan_edits
from polyclinic.run.painter_evaluation.variants import Variant

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def edits(cases):
    return plan_edits(cases[2:4], outlines(cases[:2]), 2, 0)


def variant(edit, change):
    """A variant that returns the truth, changed."""

    def paint(slices, regions, sequence, head_px, seed):
        inside = edit.fill_mask
        after = np.where(inside, change(slices, seed), slices).astype(np.float32)
        return Painted(after, edit.fill_maps)

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

    def paint(slices, regions, sequence, head_px, seed):
        after = slices.copy()
        after[0, 0, :3] += 1
        return Painted(after, edit.fill_maps)

    (_, row), _ = rows_of(edit, [Variant("v", paint, 1, limit=5)], judges, 2)
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
    for row in rows:
        assert all(part["dice"] == part["as_asked"] == 1 for part in row["components"])
    asked = {int(c) for c in np.unique(edit.fill_maps) if c > 0}
    assert len(rows[1]["components"]) == len(asked)
    assert "psnr" not in rows[1]
    monkeypatch.setattr(Segmenter, "predict", lambda *_: edit.components * 0)
    rows, _ = rows_of(edit, [variant(edit, lambda s, _: s * 0.5)], judges, 1)
    assert all(part["dice"] == 0 and part["as_none"] == 1 for part in rows[1]["components"])


def test_boxes_hold_what_the_model_chose(edits, judges):
    edit = first(edits, "tumour", "box")

    def paint(slices, regions, sequence, head_px, seed):
        return Painted(slices, np.where(edit.components > 0, edit.fill_maps, edit.fill_maps * 0))

    (real, row), _ = rows_of(edit, [Variant("v", paint, 1)], judges, 1)
    assert row["containment"] == 1
    assert 0 < row["filled"] == real["filled"] < 1
    assert [part["pixels"] for part in row["components"]] == [
        part["pixels"] for part in real["components"]
    ]


def test_a_training_image_is_found_again(cases, edits):
    edit = first(edits, "infill")
    images = TrainingImages(cases[2:4], seed=0)
    candidates = images.candidates(edit)
    rows, columns = region_box(edit.fill_mask[edit.middle])
    shifts = (2 * SHIFT + 1) ** 2
    assert candidates.shape == (
        2 * shifts * WINDOWS,
        rows.stop - rows.start,
        columns.stop - columns.start,
    )
    np.testing.assert_array_equal(candidates, images.candidates(edit))
    none = TrainingImages([], seed=0).candidates(edit)
    assert len(none) == 0
