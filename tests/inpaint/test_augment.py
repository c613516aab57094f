"""Augmenting: real shapes in real tumour-free tissue; the cases that go in stay as they are."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from polyclinic.data.patients import patient_of
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.augment import (
    REMOVED_MARGIN,
    RING,
    apply_edit,
    fill_map_of,
    painted_slices,
    plan_edits,
    removed_mask,
)
from polyclinic.inpaint.components import CORE, ENHANCING, KEEP, MIXED, OEDEMA, TUMOUR_FREE
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.placing import CLEARANCE, MIN_PIXELS

pytestmark = pytest.mark.usefixtures("exact")

QUICK = Settings(steps=1)


@pytest.fixture
def folder(cases):
    """Cases of five slices, of which the first two show no tumour."""

    def deeper(case):
        deep = lambda volume: volume[[0, 1, 0, 1, 2]]  # noqa: E731
        components = deep(case.components).copy()
        components[:2] = 0
        volumes = {number: deep(volume) for number, volume in case.volumes.items()}
        return dataclasses.replace(
            case, volumes=volumes, components=components, head=deep(case.head)
        )

    return [deeper(case) for case in cases]


def copies(cases):
    return [
        (case.components.copy(), case.head.copy(), {n: v.copy() for n, v in case.volumes.items()})
        for case in cases
    ]


def unchanged(cases, before):
    return all(
        np.array_equal(case.components, components)
        and np.array_equal(case.head, head)
        and all(np.array_equal(case.volumes[n], volumes[n]) for n in volumes)
        for case, (components, head, volumes) in zip(cases, before, strict=True)
    )


def same(one, other):
    return np.array_equal(one.parts, other.parts) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("key", "target", "donor", "corner", "removes", "seed")
    )


@pytest.mark.parametrize("balance", ["size", "component", "site", "none"])
@pytest.mark.parametrize("removes", [False, True])
def test_plans_keep_to_tumour_free_head(folder, balance, removes):
    sites = {case.key: "A" if number < 3 else "B" for number, case in enumerate(folder)}
    by_key = {case.key: case for case in folder}
    planned = plan_edits(folder, 12, balance, (), 7, sites=sites, removes=removes)
    assert len({edit.key for edit in planned}) == 12
    for edit in planned:
        target, donor = by_key[edit.target], by_key[edit.donor]
        assert edit.target != edit.donor
        added = edit.component_map(target.components.shape) > 0
        assert added.sum() == (edit.parts > 0).sum() >= MIN_PIXELS
        inner = np.stack([ndimage.binary_erosion(plane) for plane in target.head])
        assert not (added & ~inner).any()
        if not removes:
            around = np.ones((1, 3, 3), bool)
            near = ndimage.binary_dilation(added, around, iterations=CLEARANCE // 2)
            assert not (target.components[near] > 0).any()
        assert set(np.unique(edit.parts)) <= set(np.unique(donor.components))


def test_no_patient_gets_a_shape_of_another_timepoint(folder):
    folder = [dataclasses.replace(c, patient=f"patient {n // 2}") for n, c in enumerate(folder)]
    patients = {case.key: case.patient for case in folder}
    for edit in plan_edits(folder, 12, "none", (), 7):
        assert patients[edit.target] != patients[edit.donor]
    one = [dataclasses.replace(case, patient="one") for case in folder]
    with pytest.raises(DataError, match=r"all usable cases are of the patient one; expected two"):
        plan_edits(one, 1, "none", (), 7)


def test_plans_follow_from_the_seed_and_a_longer_list_begins_alike(folder):
    few, many = plan_edits(folder, 3, "none", (), 1), plan_edits(folder, 5, "none", (), 1)
    assert all(same(a, b) for a, b in zip(few, many, strict=False))
    assert not all(
        same(a, b) for a, b in zip(few, plan_edits(folder, 3, "none", (), 2), strict=True)
    )


def test_only_the_components_that_are_asked_for(folder):
    for edit in plan_edits(folder, 4, "none", (OEDEMA, CORE), 0):
        assert set(np.unique(edit.parts)) <= {0, OEDEMA, CORE}
    with pytest.raises(DataError, match=r"no case shows mixed; expected one at least whose shape"):
        plan_edits(folder, 1, "none", (MIXED,), 0)


def test_a_rare_component_gets_its_share(folder):
    common = [
        dataclasses.replace(
            case, components=np.where(case.components > 0, OEDEMA, 0).astype(np.uint8)
        )
        for case in folder[:3]
    ]
    rare = dataclasses.replace(
        folder[3], components=np.where(folder[3].components > 0, ENHANCING, 0).astype(np.uint8)
    )
    edits = plan_edits([*common, rare], 30, "component", (), 0)
    shares = [bool((edit.parts == ENHANCING).any()) for edit in edits]
    plain = plan_edits([*common, rare], 30, "none", (), 0)
    assert sum(shares) > sum(bool((edit.parts == ENHANCING).any()) for edit in plain)
    assert 6 <= sum(shares) <= 24


def test_a_small_hospital_gets_its_share(folder):
    sites = {case.key: "A" for case in folder[:3]} | {folder[3].key: "B"}
    targets = [edit.target for edit in plan_edits(folder, 40, "site", (), 0, sites=sites)]
    assert 12 <= targets.count(folder[3].key) <= 28


@pytest.fixture
def one_large(folder):
    """Cases with a small tumour each, and a last one with a large tumour."""
    small = []
    for case in folder[:3]:
        core = np.where(case.components == ENHANCING, case.components, 0).astype(np.uint8)
        small.append(dataclasses.replace(case, components=core))
    return [*small, folder[3]]


def large(edits):
    """Edits that paint more than half of what the large tumour has in two of its three slices."""
    return [edit for edit in edits if (edit.parts > 0).sum() > 100]


def test_sizes_are_drawn_alike(one_large):
    plain = plan_edits(one_large, 30, "none", (), 0)
    assert len(large(plain)) <= 10
    edits = plan_edits(one_large, 30, "size", (), 0)
    assert 11 <= len(large(edits)) <= 19
    assert {edit.donor for edit in large(edits)} == {one_large[3].key}
    assert not any(edit.no_room_for for edit in edits)


def narrow(case):
    """The case, with hardly any head."""
    rows, columns = np.mgrid[: case.head.shape[1], : case.head.shape[2]] - case.head.shape[1] / 2
    return dataclasses.replace(case, head=case.head & (np.hypot(rows, columns) < 4.5))


def test_what_seldom_fits_gets_its_share(one_large):
    tight = [narrow(case) for case in one_large[:2]]
    edits = plan_edits([*tight, *one_large[2:]], 60, "size", (), 0, removes=True)
    assert 23 <= len(large(edits)) <= 37
    assert {edit.target for edit in large(edits)} == {one_large[2].key}


def test_what_fits_nowhere_gives_way_and_is_named(one_large):
    edits = plan_edits([narrow(case) for case in one_large], 12, "size", (), 0, removes=True)
    assert not large(edits)
    assert {edit.no_room_for for edit in edits} == {"", "large"}


@pytest.mark.parametrize("removes", [False, True])
def test_painted_cases_hold_what_was_planned_and_nothing_else_changes(painter, folder, removes):
    before = copies(folder)
    edit = plan_edits(folder, 1, "none", (), 3, removes=removes)[0]
    target = next(case for case in folder if case.key == edit.target)
    made = apply_edit(painter, folder, edit, QUICK)
    assert unchanged(folder, before)
    added = edit.component_map(target.components.shape)
    assert np.array_equal(made.components[added > 0], added[added > 0])
    old = np.zeros_like(target.components) if removes else target.components
    assert np.array_equal(made.components[added == 0], old[added == 0])
    touched = fill_map_of(added, old) != KEEP
    if removes:
        around = np.ones((1, 2 * REMOVED_MARGIN + 1, 2 * REMOVED_MARGIN + 1), bool)
        touched = touched | ndimage.binary_dilation(target.components > 0, around)
    assert made.volumes.keys() == target.volumes.keys()
    for number, volume in made.volumes.items():
        assert volume.dtype == np.float32
        assert np.array_equal(volume[~touched], target.volumes[number][~touched])
        assert not np.array_equal(volume[touched], target.volumes[number][touched])
    made.head[:] = False
    made.components[:] = 1
    for volume in made.volumes.values():
        volume[:] = 0
    assert unchanged(folder, before)


def test_a_ring_of_tissue_is_painted_around_a_new_tumour_but_not_over_others():
    added, there = np.zeros((2, 1, 20, 20), np.uint8)
    added[0, 8:12, 8:12] = CORE
    there[0, 8:12, 13:16] = OEDEMA
    asked = fill_map_of(added, there)[0]
    for place in np.ndindex(asked.shape):
        gap = np.hypot(*np.array([max(8 - i, i - 11, 0) for i in place]))
        expected = CORE if gap == 0 else TUMOUR_FREE if gap <= RING else KEEP
        assert asked[place] == (KEEP if there[0][place] else expected)


def test_the_same_edit_is_painted_the_same_and_seeds_differ(painter, folder):
    edit = plan_edits(folder, 1, "none", (), 3)[0]
    again = dataclasses.replace(edit, seed=edit.seed + 1)
    one, two, other = (apply_edit(painter, folder, e, QUICK) for e in (edit, edit, again))
    for number in one.volumes:
        assert np.array_equal(one.volumes[number], two.volumes[number])
        assert not np.array_equal(one.volumes[number], other.volumes[number])


def test_only_what_is_new(painter, folder):
    edit = plan_edits(folder, 1, "none", (), 3)[0]
    made = apply_edit(painter, folder, edit, QUICK)
    new = painted_slices(made, edit)
    assert new.components.shape[0] == len(edit.parts) < made.components.shape[0]
    first = edit.corner[0]
    target = next(case for case in folder if case.key == edit.target)
    there = target.components[first : first + len(edit.parts)] > 0
    assert (new.components > 0).sum() == (edit.parts > 0).sum() + there.sum()
    assert all(volume.shape == new.head.shape for volume in new.volumes.values())


def test_a_new_case_is_of_the_patient_of_its_target(painter, folder):
    for edit in plan_edits(folder, 6, "none", (), 3):
        assert patient_of(edit.key) == edit.target
    made = apply_edit(painter, folder, edit, QUICK)
    assert (made.key, made.patient) == (f"{edit.target}_painted-00005", edit.target)
    for edit in plan_edits(folder, 2, "none", (TUMOUR_FREE,), 3):
        assert patient_of(edit.key) == edit.target


def test_tumours_are_painted_away_and_none_added(painter, folder):
    before = copies(folder)
    healthy = dataclasses.replace(
        folder[0], key="healthy", components=np.zeros_like(folder[0].components)
    )
    cases = [healthy, *folder]
    edits = plan_edits(cases, 6, "none", (TUMOUR_FREE,), 3)
    targets = [edit.target for edit in edits]
    assert set(targets[:4]) == {case.key for case in folder}  # all once before any comes again
    assert len(set(targets[4:])) == 2
    fewer = plan_edits(cases, 3, "none", (TUMOUR_FREE,), 3)
    assert all(same(one, other) for one, other in zip(fewer, edits, strict=False))
    sites = {case.key: "A" for case in cases}
    targets = [e.target for e in plan_edits(cases, 8, "site", (TUMOUR_FREE,), 3, sites=sites)]
    assert sorted(targets[:4]) == sorted(targets[4:]) == sorted(case.key for case in folder)
    edit = edits[0]
    assert (edit.donor, edit.removes, edit.parts.size) == ("", True, 0)
    target = next(case for case in folder if case.key == edit.target)
    made = apply_edit(painter, cases, edit, QUICK)
    assert unchanged(folder, before)
    assert not made.components.any()
    removed = removed_mask(target.components)
    for number, volume in made.volumes.items():
        assert np.array_equal(volume[~removed], target.volumes[number][~removed])
        assert not np.array_equal(volume[removed], target.volumes[number][removed])


def test_edits_that_belong_to_other_cases(painter, folder):
    edit = plan_edits(folder, 1, "none", (), 3)[0]
    lost = dataclasses.replace(edit, target="elsewhere")
    with pytest.raises(DataError, match=r"_painted-00000: no case 'elsewhere' to paint into"):
        apply_edit(painter, folder, lost, QUICK)
    target = next(case for case in folder if case.key == edit.target)
    full = dataclasses.replace(target, components=np.full_like(target.components, OEDEMA))
    with pytest.raises(DataError, match=r"does not fit into .* or covers its tumour"):
        apply_edit(painter, [full], edit, QUICK)
    outside = dataclasses.replace(edit, corner=(4, 30, 30))
    with pytest.raises(DataError, match=r"does not fit into"):
        apply_edit(painter, folder, outside, QUICK)


def test_what_cannot_be_planned(folder):
    with pytest.raises(ConfigError, match=r"count: expected 1 edit or more, got 0"):
        plan_edits(folder, 0, "none", (), 0)
    with pytest.raises(ConfigError, match=r"balance: expected one of .*, got 'sise'"):
        plan_edits(folder, 1, "sise", (), 0)
    with pytest.raises(ConfigError, match=r"components: .* 1 to 4, or 0 alone, got \[0, 1\]"):
        plan_edits(folder, 1, "none", (TUMOUR_FREE, CORE), 0)
    with pytest.raises(ConfigError, match=r"`size` is of tumours that are added; expected site or"):
        plan_edits(folder, 1, "size", (TUMOUR_FREE,), 0)
    healthy = [dataclasses.replace(c, components=np.zeros_like(c.components)) for c in folder]
    with pytest.raises(DataError, match=r"no case shows a tumour; expected one at least to paint"):
        plan_edits(healthy, 1, "none", (TUMOUR_FREE,), 0)
    with pytest.raises(ConfigError, match=r"`site` needs .*; none is told for case-1"):
        plan_edits(folder, 1, "site", (), 0, sites={"case-0": "A"})
    full = [dataclasses.replace(c, components=OEDEMA * c.head.astype(np.uint8)) for c in folder]
    with pytest.raises(DataError, match=r"^edit 0: no room for a new tumour after 100 draws"):
        plan_edits(full, 1, "none", (), 0)
    with pytest.raises(DataError, match=r"all usable cases are of the patient .*; expected two"):
        plan_edits(folder[:1], 1, "none", (), 0)  # nobody else to lend a shape
