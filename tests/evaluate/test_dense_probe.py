"""The probe for segmentation: what it samples, what it fits, and that it is linear."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.data.dataset import IGNORE
from polyclinic.evaluate import dense_probe
from polyclinic.evaluate.dense_probe import DenseProbe, Sample, draw_positions, fit_probes
from polyclinic.models.encoder import build_encoder
from polyclinic.models.heads import upsample
from polyclinic.models.training import site_weights
from polyclinic.seeding import generator

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("small", seed=0)


@pytest.fixture
def site(make_site):
    """Three classes, the last rare, and some pixels that nobody labelled."""
    made = make_site("segmentation", n=12, size=32)
    targets = made.targets.copy()
    targets[:, :3, :5] = 2
    targets[::2, -7:] = IGNORE
    return replace(made, targets=targets, classes=("background", "one", "rare"))


def every_position(encoder, site):
    """{(image, place): (features, labels)} of the training split, pixel by pixel."""
    found = {}
    for row in site.split["train"]:
        with torch.no_grad():
            maps = encoder(torch.from_numpy(site.images[row : row + 1]).float() / 255)
        stacked = torch.cat([upsample(m, maps[0].shape[2:]) for m in maps], dim=1)[0]
        for y in range(stacked.shape[1]):
            for x in range(stacked.shape[2]):
                block = site.targets[row, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel()
                if (block != IGNORE).any():
                    found[int(row), y, x] = (stacked[:, y, x], block)
    return found


def test_without_a_limit_every_position_is_there_once(encoder, site):
    sample = draw_positions(encoder, site, 0)
    truth = every_position(encoder, site)
    assert len(sample.features) == len(truth)
    assert (sample.weights == 1).all()
    features = torch.stack([f for f, _ in truth.values()])
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(features, sample.features, compute_mode=exact)
    nearest = distance.min(1)
    assert float(nearest.values.max()) < 1e-3
    assert len(nearest.indices.unique()) == len(truth)
    blocks = np.array([block for _, block in truth.values()])
    np.testing.assert_array_equal(sample.labels[nearest.indices].numpy(), blocks)


def test_rare_classes_are_as_frequent_as_common_ones(encoder, site, monkeypatch):
    monkeypatch.setattr(dense_probe, "POSITIONS", 90)
    sample = draw_positions(encoder, site, 0)
    assert len(sample.features) == 90
    truth = np.array([block for _, block in every_position(encoder, site).values()])
    pixels = [(truth == label).sum() for label in range(3)]
    assert np.argmin(pixels) == 2
    rare = (sample.labels == 2).any(1)
    rarest = [rare, ~rare & (sample.labels == np.argsort(pixels)[1]).any(1)]
    rarest.append(~rarest[0] & ~rarest[1])
    real = [(truth == 2).any(1)]
    real.append(~real[0] & (truth == np.argsort(pixels)[1]).any(1))
    real.append(~real[0] & ~real[1])
    for drawn, held in zip(rarest, real, strict=True):
        assert drawn.sum() == 30
        assert sample.weights[drawn].sum() == pytest.approx(held.sum())


def test_the_draw_follows_the_seed_and_not_the_other_splits(encoder, site, monkeypatch):
    monkeypatch.setattr(dense_probe, "POSITIONS", 60)
    images, targets = site.images.copy(), site.targets.copy()
    others = np.concatenate([site.split["val"], site.split["test"]])
    images[others], targets[others] = 0, 1
    a = draw_positions(encoder, site, 0)
    b = draw_positions(encoder, replace(site, images=images, targets=targets), 0)
    c = draw_positions(encoder, site, 1)
    assert torch.equal(a.features, b.features)
    assert torch.equal(a.labels, b.labels)
    assert not torch.equal(a.features, c.features)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=6))
def test_what_a_class_does_not_need_goes_to_the_others(held):
    shares = dense_probe._shared(np.array(held))
    assert (shares <= held).all()
    assert shares.sum() == pytest.approx(min(sum(held), dense_probe.POSITIONS), abs=len(held))
    most = shares.max(initial=0)
    assert all(share == have or most - share <= len(held)
               for share, have in zip(shares, held, strict=True))  # fmt: skip


def test_blocks_of_an_odd_label_map():
    labels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    blocks = dense_probe._blocks(labels)
    assert blocks.tolist() == [
        [0, 1, 5, 6], [2, 3, 7, 8], [4, IGNORE, 9, IGNORE],
        [10, 11, IGNORE, IGNORE], [12, 13, IGNORE, IGNORE], [14, IGNORE, IGNORE, IGNORE],
    ]  # fmt: skip


@torch.no_grad()
def test_a_probe_is_linear_in_the_maps():
    gen = generator("probe")
    probe = DenseProbe(*(torch.rand(n, generator=gen) for n in ((6,), (6,), (8, 6), (8,))))

    def maps():
        return [torch.rand(2, w, 8 // s, 8 // s, generator=gen) for w, s in ((2, 1), (4, 2))]

    a, b = maps(), maps()
    mixed = [0.3 * x + 0.7 * y for x, y in zip(a, b, strict=True)]
    out = probe(mixed, (16, 15))
    assert out.shape == (2, 2, 16, 15)
    torch.testing.assert_close(out, 0.3 * probe(a, (16, 15)) + 0.7 * probe(b, (16, 15)))


def test_the_sample_is_told_from_its_weights(make_site):
    """Twice the weight is the same as being there twice."""
    site = make_site("segmentation", n=8)
    gen = generator("sample")
    features = torch.rand(40, 5, generator=gen)
    labels = torch.randint(0, 2, (40, 4), generator=gen)
    labels[:9, 1] = IGNORE
    twice = torch.cat([torch.arange(40), torch.arange(10)])
    weights = torch.ones(40)
    weights[:10] = 2
    (a,) = fit_probes(Sample(features, labels, weights), site, (0.1,))
    (b,) = fit_probes(Sample(features[twice], labels[twice], torch.ones(50)), site, (0.1,))
    torch.testing.assert_close(a.weight, b.weight, atol=1e-3, rtol=1e-2)


def test_a_fit_is_where_the_loss_is_lowest(make_site):
    """Cross-entropy with the site's weights, soft Dice and penalty, written out pixel by pixel."""
    site = make_site("segmentation", n=8)
    gen = generator("sample")
    features = torch.rand(60, 3, generator=gen)
    labels = (features[:, :1] + 0.3 * torch.rand(60, 4, generator=gen) > 0.6).long()
    labels[:5, 2] = IGNORE
    (probe,) = fit_probes(Sample(features, labels, torch.ones(60)), site, (0.05,))
    known, balance = labels != IGNORE, site_weights(site)

    def loss(weight, bias):
        scores = F.linear((features - probe.mean) / probe.deviation, weight, bias)
        said = scores.view(60, 2, 4).movedim(1, 2)[known].softmax(1)
        true = labels[known]
        entropy = (-said.gather(1, true[:, None])[:, 0].log() * balance[true]).sum()
        overlap, total = said[true == 1, 1].sum(), said[:, 1].sum() + (true == 1).sum()
        missed = 1 - (2 * overlap + 1) / (total + 1)
        return entropy / balance[true].sum() + missed + 0.05 * weight.square().sum()

    lowest = loss(probe.weight, probe.bias)
    for _ in range(20):
        shift = 0.03 * torch.randn(8, 3, generator=gen), 0.03 * torch.randn(8, generator=gen)
        assert lowest < loss(probe.weight + shift[0], probe.bias + shift[1])
