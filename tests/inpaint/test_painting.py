"""Painting: nothing changes outside, whatever the region, the size and the network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import ENHANCING, KEEP, OEDEMA, TUMOUR_FREE
from polyclinic.inpaint.painter import Painter, load_painter, save_painter
from polyclinic.inpaint.painting import Settings, contour, paint, paint_sequences
from polyclinic.inpaint.regions import Region, empty, overlay

pytestmark = pytest.mark.usefixtures("exact")


def square(shape, top, left, side, component=OEDEMA, boxed=False):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return overlay(empty(shape), mask, component, boxed)


def head(slices=1, height=32, width=32):
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 1, (slices, height, width)).astype(np.float32)


@settings(max_examples=25, derandomize=True, database=None, deadline=None)
@given(data=st.data())
def test_nothing_changes_outside(painter, data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    slices = head(draw(1, 3), draw(9, 50), draw(9, 50))
    regions = []
    for _ in slices:
        fill_map = np.full(slices.shape[1:], KEEP, np.int8)
        for _ in range(draw(0, 2)):
            row, column = draw(0, fill_map.shape[0] - 1), draw(0, fill_map.shape[1] - 1)
            fill_map[row : row + draw(1, 20), column : column + draw(1, 20)] = draw(0, 4)
        regions.append(Region(fill_map, np.full(fill_map.shape, data.draw(st.booleans()))))
    if all((region.fill_map == KEEP).all() for region in regions):
        return
    before = slices.copy()
    head_px = data.draw(st.sampled_from([14.0, 28.0, 60.0]))
    painted = paint(painter, slices, regions, 3, head_px, Settings(steps=1))
    outside = np.stack([region.fill_map for region in regions]) == KEEP
    assert np.array_equal(painted.slices[outside], before[outside])
    assert np.array_equal(slices, before)
    assert ((painted.realised == KEEP) == outside).all()


def test_a_seed_paints_the_same_and_another_something_else(painter):
    slices, regions = head(), [square((32, 32), 10, 10, 8)]
    one, again, other = (
        paint(painter, slices, regions, 3, 28, Settings(steps=2, seed=s)).slices for s in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_what_lies_under_the_region_does_not_matter(painter):
    slices, regions = head(), [square((32, 32), 10, 10, 8)]
    other = slices.copy()
    other[0, 10:18, 10:18] = 3.0
    for head_px in (28.0, 56.0, 14.0):
        one, two = (
            paint(painter, s, regions, 3, head_px, Settings()).slices for s in (slices, other)
        )
        assert np.array_equal(one, two)


def test_exact_regions_are_realised_as_asked(painter):
    regions = [square((32, 32), 4, 4, 6), square((32, 32), 20, 20, 6, TUMOUR_FREE)]
    painted = paint(painter, head(2), regions, 3, 28, Settings(steps=1))
    assert np.array_equal(painted.realised, np.stack([r.fill_map for r in regions]))


def test_in_a_box_every_pixel_is_the_component_or_free(painter):
    region = square((32, 32), 8, 8, 12, OEDEMA, boxed=True)
    realised = paint(painter, head(), [region], 3, 28, Settings(steps=2)).realised[0]
    inside = region.fill_map != KEEP
    assert set(np.unique(realised[inside])) <= {TUMOUR_FREE, OEDEMA}
    assert (realised[~inside] == KEEP).all()
    assert ndimage.label(realised == OEDEMA)[1] == 1


def test_a_box_is_painted_again_with_the_contour_that_it_got(painter, monkeypatch):
    asked = []
    estimate = Painter.estimate

    def watched(self, state, level, request, guidance):
        asked.append(request)
        return estimate(self, state, level, request, guidance)

    monkeypatch.setattr(Painter, "estimate", watched)
    region = square((64, 64), 24, 24, 12, OEDEMA, boxed=True)
    head_px = painter.network.config.head_px  # so nothing is resized
    realised = paint(painter, head(1, 64, 64), [region], 3, head_px, Settings(steps=1)).realised[0]
    first, second = asked
    assert first.boxed.any()
    assert not second.boxed.any()
    shown = second.fill_map[0].numpy()
    assert (shown == OEDEMA).sum() == (realised == OEDEMA).sum()
    assert (shown != KEEP).sum() == (region.fill_map != KEEP).sum()


@settings(max_examples=50, derandomize=True, database=None, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_contours_are_one_piece_without_holes_in_each_box(seed, count):
    rng = np.random.default_rng(seed)
    tumour_map = ndimage.gaussian_filter(rng.normal(size=(24, 36)), 1.5).astype(np.float32)
    tumour_map -= rng.uniform(0, 0.3)  # some boxes have nothing above 0
    box = np.zeros((24, 36), bool)
    for number in range(count):
        side = int(rng.integers(1, 11))
        box[3 : 3 + side, 12 * number + 1 : 12 * number + 1 + side] = True
    found = contour(tumour_map, box)
    assert not (found & ~box).any()
    for number in range(1, count + 1):
        here = ndimage.label(box)[0] == number
        assert ndimage.label(found & here)[1] == 1
        assert np.array_equal(ndimage.binary_fill_holes(found & here), found & here)


def test_the_contour_is_the_largest_piece_above_0():
    tumour_map = np.full((9, 9), -1.0, np.float32)
    tumour_map[1:3, 1:3] = tumour_map[4:8, 4:8] = 1
    tumour_map[5, 5] = -1  # a hole
    expected = np.zeros((9, 9), bool)
    expected[4:8, 4:8] = True
    assert np.array_equal(contour(tumour_map, np.ones((9, 9), bool)), expected)


def test_boxes_that_touch_have_a_contour_each(painter):
    """Of one component or of two: the map is of all tumour, and prefers one of them."""
    tumour_map = np.full((12, 24), -1.0, np.float32)
    tumour_map[3:9, 9:12] = 1  # in the left box alone
    tumour_map[4, 16] = -0.5  # the best place in the right one
    boxes = np.zeros((12, 24), np.int16)
    boxes[2:10, 4:12], boxes[2:10, 12:20] = 1, 2
    found = contour(tumour_map, boxes)
    assert np.array_equal(found[:, :12], tumour_map[:, :12] > 0)
    assert found[4, 16]
    assert not contour(tumour_map, boxes > 0)[:, 12:].any()  # one box, if they had one number


@pytest.mark.parametrize("second", [ENHANCING, OEDEMA])
def test_adjacent_boxes_are_both_realised_each_in_its_own(painter, second):
    region = square((32, 32), 8, 6, 10, OEDEMA, boxed=1)
    other = square((32, 32), 8, 16, 10, second, boxed=2)
    region = overlay(region, other.boxed, second, 2)
    for seed in range(4):
        chosen = Settings(steps=1, seed=seed)
        realised = paint(painter, head(), [region], 3, 28, chosen).realised[0]
        for component, box in ((OEDEMA, region.boxes == 1), (second, region.boxes == 2)):
            inside = realised[box]
            assert set(np.unique(inside)) <= {TUMOUR_FREE, component}
            assert (inside == component).any()
            assert ndimage.label(box & (realised == component))[1] == 1


def test_slices_are_painted_outwards_each_shown_the_one_before(painter, monkeypatch):
    seen = []
    estimate = Painter.estimate

    def watched(self, state, level, request, guidance):
        seen.append((bool(request.has_beside[0]), request.beside.clone()))
        return estimate(self, state, level, request, guidance)

    monkeypatch.setattr(Painter, "estimate", watched)
    sizes = [3, 9, 5, 0]
    regions = [square((32, 32), 10, 10, side) for side in sizes]
    painted = paint(painter, head(4), regions, 3, 28, Settings(steps=1, feather=False))
    assert [has for has, _ in seen] == [False, True, True]
    window = painted.slices[1]  # the largest region comes first; both neighbours are shown it
    assert all(np.isin(beside.numpy(), np.append(window, -1)).all() for _, beside in seen[1:])


@pytest.mark.parametrize(
    ("guidance", "component", "expected"),
    [(1.0, OEDEMA, 3), (2.0, OEDEMA, 6), (2.0, TUMOUR_FREE, 3)],
)
def test_guidance_asks_the_network_twice_for_a_tumour(
    painter, monkeypatch, guidance, component, expected
):
    calls = []
    monkeypatch.setattr(
        painter.network, "forward", lambda state, *_: calls.append(1) or torch.zeros_like(state)
    )
    settings = Settings(steps=3, guidance=guidance)
    paint(painter, head(), [square((32, 32), 10, 10, 4, component)], 3, 28, settings)
    assert len(calls) == expected


@pytest.mark.parametrize("mode", ["sample", "mean"])
def test_the_levels_are_the_objective_s_unless_others_are_said(painter, mode):
    regions, settings = [square((32, 32), 10, 10, 8)], Settings(steps=2, mode=mode)
    said = settings.said_for(painter.objective)
    assert (said.power, said.lowest) == (3.0, 0.1)
    others = [Settings(steps=2, mode=mode, power=1.0), Settings(steps=2, mode=mode, lowest=0.0)]
    usual, same, *different = (
        paint(painter, head(), regions, 3, 28, one).slices for one in (settings, said, *others)
    )
    assert np.array_equal(usual, same)
    assert not any(np.array_equal(usual, one) for one in different)


def test_the_mean_of_one_step_is_that_of_a_request_and_its_mirror_image(painter):
    """An image and region that are symmetrical have a symmetrical mean, whatever the network."""
    image = head()
    image = (image + image[..., ::-1]) / 2
    settings = Settings(mode="mean", steps=1)
    out = paint(painter, image, [square((32, 32), 10, 12, 8)], 3, 28, settings).slices
    np.testing.assert_allclose(out, out[..., ::-1], atol=1e-5)


def test_no_seed_changes_the_mean(painter):
    regions = [square((32, 32), 10, 12, 8)]
    one, two = (
        paint(painter, head(), regions, 3, 28, Settings(mode="mean", seed=seed)).slices
        for seed in (0, 1)
    )
    assert np.array_equal(one, two)


def test_parts_that_are_far_apart_are_painted_in_turn_and_see_no_leftovers(painter, monkeypatch):
    """Each has a window of its own, of the painter's own resolution; what is yet to be painted is
    hidden in neighbouring slices too."""
    sizes = []
    estimate = Painter.estimate

    def watched(self, state, level, request, guidance):
        sizes.append(tuple(state.shape[2:]))
        return estimate(self, state, level, request, guidance)

    monkeypatch.setattr(Painter, "estimate", watched)
    slices = head(2, 32, 200)
    region = square((32, 200), 10, 10, 8)
    region.fill_map[10:18, 180:188] = TUMOUR_FREE
    one = paint(painter, slices, [region, region], 3, 28, Settings(steps=1))
    assert sizes == [(20, 20)] * 4
    slices[:, 10:18, 180:188] += 5
    slices[:, 10:18, 10:18] += 5
    two = paint(painter, slices, [region, region], 3, 28, Settings(steps=1))
    assert np.array_equal(one.slices, two.slices)
    assert np.array_equal(one.realised, two.realised)


def test_near_parts_are_painted_together(painter, monkeypatch):
    calls = []
    monkeypatch.setattr(
        painter.network, "forward", lambda state, *_: calls.append(1) or torch.zeros_like(state)
    )
    region = square((32, 32), 10, 4, 4)
    region.fill_map[10:14, 14:18] = TUMOUR_FREE
    paint(painter, head(), [region], 3, 28, Settings(steps=1, guidance=1.0))
    assert len(calls) == 1


def test_sequences_follow_the_one_that_shows_tumours_best(painter, monkeypatch):
    seen = []
    forward = painter.network.forward

    def watched(state, level, request):
        seen.append((int(request.sequence[0]), bool(request.has_other[0]), request.other.clone()))
        return forward(state, level, request)

    monkeypatch.setattr(painter.network, "forward", watched)
    volumes = {number: head() + number / 10 for number in (0, 2, 3)}
    regions = [square((32, 32), 10, 10, 8, OEDEMA, boxed=True)]
    settings = Settings(steps=1, guidance=1.0)
    out, realised = paint_sequences(painter, volumes, regions, 28, settings)
    # the first twice: a box
    order = [(3, False), (3, False), (2, True), (0, True)]
    assert [(number, has) for number, has, _ in seen] == order
    assert all(np.isin(o.numpy(), np.append(out[3], -1)).all() for _, _, o in seen[2:])
    assert out.keys() == volumes.keys()
    assert ((realised[0] == KEEP) == (regions[0].fill_map == KEEP)).all()


def test_an_empty_region(painter):
    with pytest.raises(DataError, match=r"the region is empty"):
        paint(painter, head(), [empty((32, 32))], 3, 28, Settings())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, r"steps: expected 1 or more, got 0"),
     ({"guidance": float("nan")}, r"guidance: expected a number from 1 to 10, got nan"),
     ({"guidance": 0.5}, r"guidance: expected a number from 1 to 10, got 0\.5"),
     ({"guidance": 11}, r"guidance: expected a number from 1 to 10, got 11"),
     ({"seed": -1}, r"seed: expected 0 or more, got -1"),
     ({"mode": "median"}, r"mode: expected sample or mean, got 'median'"),
     ({"power": 0}, r"power: expected a finite number above 0, got 0"),
     ({"power": float("inf")}, r"power: expected a finite number above 0, got inf"),
     ({"lowest": 1.0}, r"lowest: expected a level from 0 to below 1, got 1.0"),
     ({"lowest": float("nan")}, r"lowest: expected a level from 0 to below 1, got nan")],
)  # fmt: skip
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**options)


def test_a_painter_is_kept_in_half_precision_and_read_again(painter, tiny_config, tmp_path):
    path = tmp_path / "painter.safetensors"
    save_painter(painter, path)
    one, two = load_painter(path), load_painter(path)
    assert one.digest == two.digest != ""
    assert one.network.config == tiny_config
    settings = (head(), [square((32, 32), 10, 10, 8)], 3, 28.0, Settings(steps=2))
    assert np.array_equal(paint(one, *settings).slices, paint(two, *settings).slices)
    np.testing.assert_allclose(
        paint(one, *settings).slices, paint(painter, *settings).slices, atol=0.02
    )
