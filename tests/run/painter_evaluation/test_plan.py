"""The plan: the same from a seed, patients in turn, regions that are what they claim to be."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import KEEP, MIXED, TUMOUR_FREE
from polyclinic.inpaint.crops import outlines
from polyclinic.run.painter_evaluation.plan import (
    KEEP_OFF,
    MIN_VOLUME,
    REPEATED,
    plan_edits,
    size_class,
    tumour_regions,
)


@pytest.fixture
def edits(cases):
    return plan_edits(cases[2:], outlines(cases[:2]), 6, 0)


def told(edit):
    return edit.case.key, edit.first, edit.sequences, edit.kind, edit.shape, edit.request, edit.seed


def test_the_same_seed_gives_the_same_edits(cases, edits):
    again = plan_edits(cases[2:], outlines(cases[:2]), 6, 0)
    assert [told(edit) for edit in again] == [told(edit) for edit in edits]
    for one, other in zip(edits, again, strict=True):
        np.testing.assert_array_equal(one.fill_maps, other.fill_maps)
    others = plan_edits(cases[2:], outlines(cases[:2]), 6, 1)
    assert [told(edit) for edit in others] != [told(edit) for edit in edits]


def test_patients_come_in_turn_and_every_sequence_has_the_same_edit(cases, edits):
    assert [edit.number for edit in edits] == list(range(len(edits)))
    for kind in ("infill", "tumour"):
        slices = {(e.case.key, e.first) for e in edits if e.kind == kind}
        assert len(slices) <= 6
        assert {key for key, _ in slices} == {case.key for case in cases[2:]}
    by_seed = {}
    for edit in edits:
        by_seed.setdefault(edit.seed, []).append(edit)
    for same in by_seed.values():
        every = tuple(same[0].case.volumes)
        apart = [(number,) for number in every]
        assert [e.sequences for e in same] == ([every] if same[0].kind == "tumour" else apart)
        assert all((edit.fill_maps == same[0].fill_maps).all() for edit in same)


def test_timepoints_share_their_patient_s_turns(cases):
    first, *others = cases[2:5]
    again = replace(first, key="later", patient=first.patient)
    edits = plan_edits([first, again, *others], outlines(cases[:2]), 4, 0)
    keys = [key for key, _ in {(e.case.key, e.first) for e in edits if e.kind == "tumour"}]
    assert sorted(keys) == sorted([first.key, "later", *(case.key for case in others)])
    fewer = plan_edits([first, again, *others], outlines(cases[:2]), 3, 0)
    patients = [p for p, _ in {(e.case.patient, e.first) for e in fewer if e.kind == "tumour"}]
    assert sorted(patients) == sorted({case.patient for case in cases[2:5]})


def test_tumour_free_regions_keep_off_tumours_and_lie_in_the_head(edits):
    infill = [edit for edit in edits if edit.kind != "tumour"]
    assert infill
    for edit in infill:
        mask = edit.fill_mask
        assert set(np.unique(edit.fill_maps)) == {KEEP, TUMOUR_FREE}
        near = ndimage.binary_dilation(mask.any(axis=0), iterations=KEEP_OFF)
        assert not (near & (edit.components > 0)).any()
        part = edit.case.head[edit.first : edit.first + len(mask)]
        assert not (mask & ~part).any()
    boxes = [edit for edit in infill if edit.shape == "box"]
    for edit in boxes:
        rows, columns = np.nonzero(edit.fill_mask[0])
        assert edit.fill_mask[0].sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_volumes_go_through_neighbouring_slices(edits):
    volumes = [edit for edit in edits if edit.kind == "volume"]
    assert volumes
    for edit in volumes:
        assert len(edit.regions) >= MIN_VOLUME
        assert edit.fill_mask.any(axis=(1, 2)).all()
        sizes = edit.fill_mask.sum(axis=(1, 2))
        assert sizes[edit.middle] == sizes.max() >= sizes[0]
        (slices,) = edit.volumes.values()
        assert slices.shape == edit.components.shape == edit.fill_mask.shape


def test_exact_regions_are_the_tumour_and_boxes_hold_it(cases):
    plane = cases[0].components[2]
    for shape, request, region in tumour_regions(plane):
        asked = region.fill_map
        if shape == "exact":
            np.testing.assert_array_equal(asked != KEEP, plane > 0)
            same = np.full(plane.shape, MIXED) if request == "mixed" else plane
            np.testing.assert_array_equal(asked[plane > 0], same[plane > 0])
            assert not region.boxed.any()
        else:
            np.testing.assert_array_equal(asked > 0, region.boxed)
            if request == "mixed":
                assert (asked[plane > 0] == MIXED).all()
            else:
                assert set(np.unique(plane[asked > 0])) <= {0, asked.max()}


def test_a_part_among_others_gets_no_box_with_holes():
    plane = np.zeros((20, 20), np.uint8)
    plane[4:16, 4:16] = 2
    plane[7:13, 7:13] = 3
    found = [(shape, request) for shape, request, _ in tumour_regions(plane)]
    assert found == [
        ("exact", "parts"),
        ("exact", "mixed"),
        ("box", "mixed"),
        ("box", "enhancing"),
    ]
    only = [(s, r) for s, r, _ in tumour_regions(np.where(plane > 0, MIXED, 0))]
    assert only == [("exact", "mixed"), ("box", "mixed")]


def test_only_some_edits_are_painted_several_times(cases, monkeypatch):
    from polyclinic.run.painter_evaluation import plan

    monkeypatch.setattr(plan, "REPEATED", 2)
    edits = plan_edits(cases[2:], outlines(cases[:2]), 6, 0)
    for kind in {(edit.kind, edit.shape) for edit in edits}:
        mine = [edit for edit in edits if (edit.kind, edit.shape) == kind]
        assert sum(len(edit.sequences) for edit in mine if edit.repeated) == 2
    assert REPEATED > 2


def test_what_cannot_be_planned_is_refused(cases):
    with pytest.raises(ConfigError, match=r"max_slices: expected 1 or more, got 0"):
        plan_edits(cases, [], 0, 0)
    healthy = replace(cases[0], components=np.zeros_like(cases[0].components))
    with pytest.raises(DataError, match=r"1 held-out patients: nothing to paint on"):
        plan_edits([healthy], [], None, 0)
    # without a tumour no slices are known to be neighbours
    kinds = {edit.kind for edit in plan_edits([healthy], outlines(cases), None, 0)}
    assert kinds == {"infill"}


@pytest.mark.parametrize(
    ("pixels", "name"), [(12, "small"), (78, "small"), (79, "medium"), (400, "large")]
)
def test_size_classes_are_shares_of_the_head(pixels, name):
    assert size_class(pixels, 100.0) == name
    assert size_class(4 * pixels, 200.0) == name
