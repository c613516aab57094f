"""The encoder of regions: features of a segmenter's deepest level."""

import numpy as np
import pytest

from polyclinic.inpaint.segmenter import SegmentPlan, train_segmenter
from polyclinic.run.painter_evaluation.judges import CROP, segmenter_encoder

pytestmark = pytest.mark.usefixtures("exact")


@pytest.mark.parametrize("patch", [1, 2])
def test_features_are_those_of_the_deepest_level(cases, patch):
    plan = SegmentPlan(features=(8, 8, 8, 8, 16, 8), steps=1, batch_size=2, patch=patch)
    embed = segmenter_encoder(train_segmenter(cases[:2], plan, 0)).embed
    crop = np.random.default_rng(0).uniform(-1, 1, (CROP, CROP)).astype(np.float32)
    features = embed(crop, 3)
    assert features.shape == (16,)
    assert np.array_equal(features, embed(crop, 3))
    assert not np.array_equal(features, embed(-crop, 3))
