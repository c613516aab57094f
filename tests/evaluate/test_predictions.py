"""From networks to predictions: the right rows, the right truth."""

import numpy as np
import pytest

from polyclinic.data.dataset import IGNORE, TASKS
from polyclinic.evaluate.metrics import Predictions, primary_metric
from polyclinic.evaluate.predictions import judge, score
from polyclinic.models.encoder import build_encoder
from polyclinic.models.heads import build_head
from polyclinic.models.training import predict, remeasure

pytestmark = pytest.mark.usefixtures("exact")


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("task", TASKS)
def test_judged_are_the_images_of_the_split(make_site, task, split):
    site = make_site(task, n=24)
    encoder = build_encoder("small", seed=0)
    head = build_head(task, len(site.classes), encoder.config, seed=0)
    remeasure(encoder, head, site)
    found = judge(encoder, head, site, split)
    rows = site.split[split]
    assert len(found) == len(rows) == 6
    assert (found.clusters == site.patients[rows]).all()
    outputs, truth = predict(encoder, head, site, split), site.targets[rows]
    if task == "segmentation":
        for i, (a, b) in enumerate(zip(outputs, truth, strict=True)):
            known = b != IGNORE
            both = ((a == 1) & (b == 1)).sum()
            assert sorted(found.counts[i, 0])[0] == both
            assert ((a == 1) & known).sum() in found.counts[i, 0]
    else:
        np.testing.assert_array_equal(found.truth, truth)
        np.testing.assert_allclose(found.scores, outputs)
        assert found.scores.dtype == np.float64
    assert isinstance(score(found, primary_metric(task)), float)


def test_a_score_that_is_undefined_is_nan():
    one_class = Predictions(
        "single-label", np.zeros(4, np.int64), np.full((4, 2), 0.5), np.arange(4)
    )
    assert np.isnan(score(one_class, primary_metric("single-label")))
