"""Crops: repeatable, of the declared shapes, and what they ask for is what they hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polyclinic.inpaint.components import (
    CORE,
    KEEP,
    MIXED,
    OEDEMA,
    TUMOUR_FREE,
    UNKNOWN_SEQUENCE,
)
from polyclinic.inpaint.conditioning import CHANNELS, network_input
from polyclinic.inpaint.crops import Crops, Look, Views, outlines, rarity
from polyclinic.inpaint.regions import Mixture

PLAIN = Views(
    zoom=0, rotation=0, contrast=0, gamma=0, brightness=0, blemish=0, dropped=0, nameless=0
)


def test_a_batch_follows_from_its_number_and_the_seed(cases, tiny):
    one, other = (Crops(cases, tiny, 0, Views(), Mixture()) for _ in "ab")
    other.batch(0, 4)
    a, b = one.batch(7, 4), other.batch(7, 4)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.request.fill_map, b.request.fill_map)
    assert not torch.equal(a.x, one.batch(8, 4).x)
    assert not torch.equal(a.x, Crops(cases, tiny, 1, Views(), Mixture()).batch(7, 4).x)


def test_shapes_and_types(cases, tiny):
    batch = Crops(cases, tiny, 0, Views(), Mixture()).batch(0, 5)
    r = batch.request
    assert batch.x.shape == (5, 2, 16, 16)
    assert batch.x.dtype == r.known.dtype == r.beside.dtype == torch.float32
    assert r.fill_map.shape == r.boxed.shape == (5, 16, 16)
    assert (r.fill_map.dtype, r.boxed.dtype) == (torch.int64, torch.bool)
    assert r.sequence.shape == r.has_beside.shape == r.has_other.shape == r.dropped.shape == (5,)
    assert set(r.sequence.tolist()) <= {1, 3, UNKNOWN_SEQUENCE}


def test_the_tumour_map_says_where_the_request_is_met(cases, tiny):
    """With two values of tissue, brighter is tumour: the truth can be read off the image."""
    for case in cases:
        for volume in case.volumes.values():
            volume[:] = np.where(case.components > 0, 1.0, np.where(case.head, 0.0, -1.0))
    crops = Crops(cases, tiny, 0, PLAIN, Mixture(as_mixture=1))
    seen = 0
    for number in range(20):
        batch = crops.batch(number, 8)
        asked = batch.request.fill_map == MIXED
        tumour = batch.x[:, 0] > 0.9
        air_or_tissue = batch.x[:, 0] < 0.1
        assert (batch.x[:, 1][asked & tumour] == 1).all()
        assert (batch.x[:, 1][asked & air_or_tissue] == -1).all()
        free = batch.request.fill_map == TUMOUR_FREE
        assert (batch.x[:, 1][free] == -1).all()
        seen += int(asked.sum())
    assert seen > 0


def test_own_pixels_are_not_interpolated(cases, tiny):
    """With nothing but flips, every pixel of a crop is a pixel of the slice, or air."""
    crops = Crops(cases, tiny, 0, PLAIN, Mixture())
    known = {s: np.concatenate([c.volumes[s].ravel() for c in cases]) for s in (1, 3)}
    unchanged = 0
    for number in range(8):
        batch = crops.batch(number, 4)
        for image, sequence in zip(batch.x[:, 0].numpy(), batch.request.sequence, strict=True):
            among = np.sort(np.append(known[int(sequence)], -1.0))
            above = np.searchsorted(among, image).clip(1, len(among) - 1)
            gaps = np.minimum(abs(among[above] - image), abs(among[above - 1] - image))
            unchanged += (gaps < 1e-6).all()
    assert unchanged >= 10  # about half of the crops; the others are turned, by nothing


def test_one_batch_in_four_is_wider_and_has_fewer_crops(cases, tiny):
    crops = Crops(cases, tiny, 0, Views(), Mixture())
    shapes = [tuple(crops.batch(number, 5).x.shape) for number in range(-1, 4)]
    wide, narrow = (3, 2, 24, 24), (5, 2, 16, 16)
    assert shapes == [wide, narrow, narrow, narrow, wide]


def test_neighbour_and_other_sequence_show_the_same_place(cases, tiny):
    """In volumes that are the same in every slice and sequence, they are the image."""
    for case in cases:
        same = case.volumes[1][:1]
        for volume in case.volumes.values():
            volume[:] = same
    views = replace(PLAIN, beside=0.7, other=0.7)
    batch = Crops(cases, tiny, 0, views, Mixture()).batch(0, 24)
    for name in ("beside", "other"):
        has = getattr(batch.request, f"has_{name}")
        assert 4 < int(has.sum()) < 24
        shown = getattr(batch.request, name)
        assert torch.equal(shown[has], batch.request.known[has])
        assert not shown[~has].any()


@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.25])
def test_another_scanner_shows_air_as_air_and_keeps_the_order(gamma):
    tissue = np.linspace(-1, 1.2, 50, dtype=np.float32)
    shown = Look(gain=1.1, exponent=gamma, shift=0.0).of(tissue)
    assert shown[0] == -1
    assert (np.diff(shown) > 0).all()
    np.testing.assert_allclose(Look(1.0, 1.0, 0.0).of(tissue), tissue, atol=1e-6)


def test_slices_that_show_what_few_others_do_are_drawn_more_often():
    common, rare = np.zeros((2, 4, 4), np.uint8)
    common[0, 0], rare[0, :2] = OEDEMA, (OEDEMA, CORE)
    shares = rarity([common] * 15 + [rare])
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares / shares[0], [1] * 15 + [4])
    assert len(rarity([])) == 0


def test_outlines_are_cut_out(cases):
    shapes = outlines(cases)
    assert len(shapes) == 12
    for shape in shapes:
        assert shape.any(0).all()
        assert shape.any(1).all()


class TestNetworkInput:
    def test_what_is_painted_over_cannot_be_seen(self, cases, tiny):
        batch = Crops(cases, tiny, 0, Views(dropped=0.3), Mixture()).batch(0, 16)
        request = batch.request
        noise = torch.randn(16, 2, 16, 16)
        seen, sequence = network_input(noise, request)
        assert seen.shape == (16, CHANNELS, 16, 16)
        changed = request.known + 5 * request.fill_mask
        request.known.copy_(changed)
        again, _ = network_input(noise, request)
        assert torch.equal(seen, again)
        assert torch.equal(sequence, request.sequence)

    def test_a_mirrored_request_is_seen_mirrored(self, cases, tiny):
        request = Crops(cases, tiny, 0, Views(), Mixture(boxed=0.5)).batch(0, 16).request
        noise = torch.randn(16, 2, 16, 16)
        seen, _ = network_input(noise, request)
        mirrored, _ = network_input(noise.flip(-1), request.mirrored())
        assert torch.equal(mirrored, seen.flip(-1))

    def test_a_dropped_request_says_only_where(self, cases, tiny):
        request = Crops(cases, tiny, 0, Views(), Mixture()).batch(0, 16).request.hidden()
        noise = torch.randn(16, 2, 16, 16)
        seen, _ = network_input(noise, request)
        assert not seen[:, 3:10].any()
        assert torch.equal(seen[:, 2] > 0, request.fill_map != KEEP)

    def test_noise_enters_where_it_is_diffused_alone(self, cases, tiny):
        request = Crops(cases, tiny, 0, Views(), Mixture(boxed=0.5)).batch(0, 16).request
        zero, one = torch.zeros(16, 2, 16, 16), torch.ones(16, 2, 16, 16)
        change = network_input(one, request)[0] - network_input(zero, request)[0]
        assert torch.equal(change[:, [0, 3]], request.diffused_mask)
        assert not change[:, [1, 2, *range(4, CHANNELS)]].any()
