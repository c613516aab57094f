"""The encoder of regions: features of a segmenter's levels, where the region is."""

import numpy as np
import pytest

from polyclinic.inpaint.segmenter import SegmentPlan, train_segmenter
from polyclinic.run.painter_evaluation.judges import segmenter_encoder

pytestmark = pytest.mark.usefixtures("exact")

FEATURES = (8, 8, 8, 8, 16, 8)


@pytest.mark.parametrize("patch", [1, 2])
def test_features_are_of_every_level_in_the_region(cases, patch):
    plan = SegmentPlan(features=FEATURES, steps=1, batch_size=2, patch=patch)
    embed = segmenter_encoder(train_segmenter(cases[:2], plan, 0)).embed
    plane = np.random.default_rng(0).uniform(-1, 1, (60, 75)).astype(np.float32)
    region = np.zeros(plane.shape, bool)
    region[20:30, 40:52] = True
    features = embed(plane, region, 3)
    assert features.shape == (sum(FEATURES[:5]),)
    assert np.array_equal(features, embed(plane, region, 3))
    assert not np.array_equal(features, embed(plane, region, 2))


def test_features_are_of_the_region_and_hardly_of_what_is_far_from_it(cases):
    plan = SegmentPlan(features=FEATURES, steps=1, batch_size=2)
    segmenter = train_segmenter(cases[:2], plan, 0)
    plane = np.random.default_rng(0).normal(0, 0.1, (96, 96)).astype(np.float32)
    here, far = (np.zeros(plane.shape, bool) for _ in range(2))
    here[10:20, 10:22], far[70:80, 70:82] = True, True

    def moved(region, plane_after):
        before, after = (segmenter.describe(p, region, 0) for p in (plane, plane_after))
        return np.abs(after - before)[: FEATURES[0]].mean()

    painted = plane + here.astype(np.float32)
    assert moved(here, painted) > 3 * moved(far, painted)


def test_features_of_a_level_are_its_mean_over_the_region(cases):
    plan = SegmentPlan(features=FEATURES, steps=1, batch_size=2)
    segmenter = train_segmenter(cases[:2], plan, 0)
    plane = np.random.default_rng(1).uniform(-1, 1, (64, 64)).astype(np.float32)
    halves = [np.zeros((64, 64), bool) for _ in range(2)]
    halves[0][:32], halves[1][32:] = True, True
    whole = segmenter.describe(plane, np.ones((64, 64), bool), 0)
    np.testing.assert_allclose(
        np.mean([segmenter.describe(plane, half, 0) for half in halves], axis=0),
        whole,
        rtol=1e-5,
        atol=1e-6,
    )
