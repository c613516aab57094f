import numpy as np
import pytest

from polyclinic.errors import DataError
from polyclinic.evaluate import bootstrap
from polyclinic.evaluate.bootstrap import cluster_weights, interval, paired_gain
from polyclinic.evaluate.metrics import Predictions, auroc


def classification(skill, seed, images=200, data_seed=0):
    """Scores that separate two classes by `skill`; images are as hard for every model."""
    rng = np.random.default_rng(data_seed)
    truth, hardness = rng.integers(0, 2, images), rng.normal(size=images)
    own = np.random.default_rng([seed, 7]).normal(size=images) * 0.2
    scores = skill * truth + hardness + own
    return Predictions(
        "single-label", truth, np.stack([-scores, scores], 1), np.arange(images) // 2
    )


def cases(rng, patients):
    """Dice per case is the share of 1000 pixels that was hit: normal, mean 0.7, sd 0.1."""
    hit = rng.normal(700, 100, patients).round().astype(np.int64).clip(0, 1000)
    whole = np.full(patients, 1000)
    counts = np.stack([hit, whole, whole], axis=1)[:, None]
    return Predictions.segmentation(counts, np.arange(patients))


def test_clusters_stay_together_and_each_draw_has_as_many_patients():
    clusters = np.array([7, -3, 7, 7, 20, -3, 11])
    weights = cluster_weights(clusters, 50, seed=0)
    assert weights.shape == (50, 7)
    assert np.issubdtype(weights.dtype, np.integer)
    for group in np.unique(clusters):
        members = weights[:, clusters == group]
        assert (members == members[:, :1]).all()
    _, first = np.unique(clusters, return_index=True)
    assert (weights[:, first].sum(1) == 4).all()


def test_draws_are_reproducible_and_differ_by_seed():
    clusters = np.arange(30)
    np.testing.assert_array_equal(cluster_weights(clusters, 5, 1), cluster_weights(clusters, 5, 1))
    assert (cluster_weights(clusters, 5, 1) != cluster_weights(clusters, 5, 2)).any()
    more = cluster_weights(clusters, 9, 1)
    np.testing.assert_array_equal(more[:5], cluster_weights(clusters, 5, 1))


def test_multiplicities_have_the_moments_of_drawing_with_replacement():
    weights = cluster_weights(np.arange(50), 4000, seed=3)
    assert weights.mean() == 1
    assert weights.var(axis=0).mean() == pytest.approx(1 - 1 / 50, rel=0.02)


def test_no_images_give_no_weights():
    assert cluster_weights(np.zeros(0, int), 3, 0).shape == (3, 0)


def test_interval_is_the_mean_over_seeds_with_percentiles():
    seeds = [classification(1.5, seed) for seed in range(3)]
    weights = cluster_weights(seeds[0].clusters, 200, seed=0)
    estimate = interval(seeds, "auroc", weights, level=0.9)
    per_seed = [auroc(p)[0] for p in seeds]
    assert estimate.per_seed == tuple(per_seed)
    assert estimate.value == pytest.approx(np.mean(per_seed))
    slow = [np.mean([auroc(p, row[None])[0] for p in seeds]) for row in weights]
    assert (estimate.low, estimate.high) == pytest.approx(np.quantile(slow, [0.05, 0.95]))
    assert estimate.low < estimate.value < estimate.high


def test_chunks_change_nothing(monkeypatch):
    seeds = [classification(1.5, 0)]
    weights = cluster_weights(seeds[0].clusters, 53, seed=0)
    whole = interval(seeds, "balanced_accuracy", weights)
    monkeypatch.setattr(bootstrap, "_CHUNK", 1000)
    assert interval(seeds, "balanced_accuracy", weights) == whole


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(200):
        sample = cases(rng, 60)
        estimate = interval([sample], "dice", cluster_weights(sample.clusters, 300, trial))
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.90 <= covered / 200 <= 0.99


def test_interval_has_the_width_of_the_standard_error():
    sample = cases(np.random.default_rng(5), 400)
    estimate = interval([sample], "dice", cluster_weights(sample.clusters, 2000, 0))
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.1)


def test_ignoring_patients_would_make_the_interval_too_narrow():
    once = classification(1, 0, images=100)
    five = [np.repeat(a, 5, axis=0) for a in (once.truth, once.scores, once.clusters)]
    copies = Predictions("single-label", *five)
    honest = interval([copies], "auroc", cluster_weights(copies.clusters, 500, 0))
    naive = interval([copies], "auroc", cluster_weights(np.arange(500), 500, 0))
    assert honest.high - honest.low > 2 * (naive.high - naive.low)


def test_paired_gain_is_narrower_than_unpaired_when_the_images_are_equally_hard():
    ours = [classification(1.6, seed) for seed in (1, 2, 3)]
    theirs = [classification(1.2, seed) for seed in (4, 5, 6)]
    weights = cluster_weights(ours[0].clusters, 500, seed=0)
    gain = paired_gain(ours, theirs, "auroc", weights)
    a, b = interval(ours, "auroc", weights), interval(theirs, "auroc", weights)
    assert gain.value == pytest.approx(a.value - b.value)
    assert gain.per_seed == pytest.approx(np.subtract(a.per_seed, b.per_seed))
    unpaired = np.hypot(a.high - a.low, b.high - b.low)
    assert gain.high - gain.low < 0.6 * unpaired
    assert 0 < gain.low < gain.value < gain.high


def test_gain_over_itself_is_exactly_zero():
    seeds = [classification(1, 0)]
    gain = paired_gain(seeds, seeds, "auroc", cluster_weights(seeds[0].clusters, 50, 0))
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def rare(positives):
    truth = (np.arange(12) < positives).astype(int)
    scores = np.random.default_rng(0).normal(size=12)
    return Predictions("single-label", truth, np.stack([-scores, scores], 1), np.arange(12))


def test_undefined_replicates_are_dropped():
    few = rare(1)  # about a third of the resamples have no positive
    weights = cluster_weights(few.clusters, 300, seed=0)
    undefined = np.isnan(auroc(few, weights))
    assert 0 < undefined.mean() < 0.5
    estimate = interval([few], "auroc", weights)
    slow = np.quantile(auroc(few, weights)[~undefined], [0.025, 0.975])
    assert (estimate.low, estimate.high) == pytest.approx(slow)


def test_no_limits_when_more_than_half_of_the_replicates_are_undefined():
    few = rare(1)
    weights = cluster_weights(few.clusters, 30, seed=0)
    weights[:16, 0] = 0
    estimate = interval([few], "auroc", weights)
    assert np.isfinite(estimate.value)
    assert np.isnan([estimate.low, estimate.high]).all()


def test_undefined_on_the_full_test_set_is_nan():
    none = rare(0)
    estimate = interval([none], "auroc", cluster_weights(none.clusters, 20, 0))
    assert np.isnan([estimate.value, estimate.low, estimate.high, *estimate.per_seed]).all()


def test_a_single_patient_has_no_interval():
    p = classification(1, 0)
    one = Predictions(p.task, p.truth, p.scores, np.zeros(len(p), int))
    estimate = interval([one], "auroc", cluster_weights(one.clusters, 20, 0))
    assert np.isfinite(estimate.value)
    assert np.isnan([estimate.low, estimate.high]).all()


def test_faults_are_named():
    ours, weights = [classification(1, 0)], cluster_weights(np.arange(200) // 2, 5, 0)
    with pytest.raises(DataError, match=r"expected a metric of auroc, .* got 'accuracy'"):
        interval(ours, "accuracy", weights)
    with pytest.raises(DataError, match="a level between 0 and 1, got 95"):
        interval(ours, "auroc", weights, level=95)
    with pytest.raises(DataError, match=r"same seeds, at least one; got \[0\]"):
        interval([], "auroc", weights)
    with pytest.raises(DataError, match=r"got \[1, 2\] seeds"):
        paired_gain(ours, ours * 2, "auroc", weights)
    with pytest.raises(DataError, match=r"expected integers \(B, 200\)"):
        interval(ours, "auroc", weights[:, :-1])


def test_other_test_images_cannot_be_paired():
    ours, weights = [classification(1, 0)], cluster_weights(np.arange(200) // 2, 5, 0)
    with pytest.raises(DataError, match="same test images"):
        paired_gain(ours, [classification(1, 0, data_seed=1)], "auroc", weights)
    rng = np.random.default_rng(0)
    maps = [Predictions.segmentation(rng.integers(1, 9, (4, 1, 3)), np.arange(4)) for _ in "ab"]
    with pytest.raises(DataError, match="same test images"):
        interval(maps, "dice", np.ones((2, 4), int))
