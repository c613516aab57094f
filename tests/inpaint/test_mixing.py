"""CarveMix: image and labels move together, nothing else does."""

import dataclasses

import numpy as np
import pytest

from polyclinic.errors import DataError
from polyclinic.inpaint.mixing import carve_mix, signed_distance, threshold


def bare(case):
    """The case without its tumour's labels."""
    return dataclasses.replace(case, components=np.zeros_like(case.components))


def copies(case):
    return case.components.copy(), {n: v.copy() for n, v in case.volumes.items()}


def test_the_signed_distance_is_the_slow_one():
    tumour = np.random.default_rng(0).random((2, 6, 7)) < 0.3
    found = signed_distance(tumour)
    inside, outside = np.argwhere(tumour), np.argwhere(~tumour)
    for place in np.ndindex(tumour.shape):
        others = outside if tumour[place] else inside
        nearest = np.sqrt(((others - place) ** 2).sum(axis=1)).min()
        assert found[place] == pytest.approx(-nearest if tumour[place] else nearest)


def test_thresholds_lie_between_half_the_depth_inside_and_the_depth_outside():
    rng = np.random.default_rng(0)
    drawn = np.array([threshold(np.array([-4.0, 3.0]), rng) for _ in range(2000)])
    assert -2 <= drawn.min() < -1.9
    assert 3.9 < drawn.max() <= 4
    assert (drawn < 0).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seed", range(12))
def test_image_and_labels_come_from_one_of_the_two(cases, seed):
    source, target = cases[0], bare(cases[1])
    before = copies(source), copies(target)
    mixed = carve_mix(source, target, np.random.default_rng(seed))
    assert mixed.components.any()
    assert set(np.unique(mixed.components)) <= set(np.unique(source.components))
    changed = np.zeros(mixed.components.shape, bool)
    for number, volume in mixed.volumes.items():
        assert volume.dtype == np.float32
        changed |= volume != target.volumes[number]
    assert not (changed & ~target.head).any()
    assert not ((mixed.components != target.components) & ~changed).any()
    for case, (components, volumes) in zip((source, target), before, strict=True):
        assert np.array_equal(case.components, components)
        assert all(np.array_equal(case.volumes[n], volumes[n]) for n in volumes)
    again = carve_mix(source, target, np.random.default_rng(seed))
    assert np.array_equal(again.components, mixed.components)


def test_a_case_mixed_with_itself_is_itself(cases):
    mixed = carve_mix(cases[0], cases[0], np.random.default_rng(0))
    assert np.array_equal(mixed.components, cases[0].components)
    for number, volume in mixed.volumes.items():
        np.testing.assert_allclose(volume, cases[0].volumes[number], atol=1e-5)


def test_another_scanner_s_contrast_is_matched(cases):
    source, target = cases[0], bare(cases[0])
    odd = {number: volume * 3 - 5 for number, volume in source.volumes.items()}
    mixed = carve_mix(dataclasses.replace(source, volumes=odd), target, np.random.default_rng(1))
    healthy = source.head & (source.components == 0)
    for number, volume in mixed.volumes.items():
        # the target's healthy tissue includes its hidden tumour: matched closely, not exactly
        difference = (volume - source.volumes[number])[healthy]
        assert np.abs(difference).max() < 0.5


def test_a_shift_between_heads_and_grids_is_followed(cases):
    source = cases[0]
    wide = ((0, 0), (5, 2), (1, 8))
    target = dataclasses.replace(
        bare(source),
        volumes={n: np.pad(v, wide, constant_values=-1) for n, v in source.volumes.items()},
        components=np.zeros_like(np.pad(source.components, wide)),
        head=np.pad(source.head, wide),
    )
    mixed = carve_mix(source, target, np.random.default_rng(3))
    expected = np.pad(source.components, wide)
    assert (mixed.components[mixed.components > 0] == expected[mixed.components > 0]).all()


def test_what_cannot_be_mixed(cases):
    source, target = cases[0], cases[1]
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"^case-0: shows no tumour; expected one to carve out"):
        carve_mix(bare(source), target, rng)
    other = dataclasses.replace(target, volumes={0: target.volumes[1]})
    with pytest.raises(DataError, match=r"sequences \[1, 3\], case-1 has \[0\]; expected one"):
        carve_mix(source, other, rng)
    headless = np.zeros_like(target.head)
    headless[:, :2, :2] = headless[:, -2:, -2:] = True
    small = dataclasses.replace(target, head=headless)
    with pytest.raises(DataError, match=r"tumour of case-0 falls outside the head of case-1"):
        carve_mix(source, small, rng)
