import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from polyclinic.data.dataset import IGNORE, TASKS
from polyclinic.errors import DataError, RunError
from polyclinic.evaluate.metrics import (
    METRICS,
    Predictions,
    auroc,
    balanced_accuracy,
    d2_absolute_error,
    dice,
    metrics_of,
    primary_metric,
    r2,
    segmentation_counts,
)


def single(truth, scores):
    truth, scores = np.asarray(truth), np.asarray(scores, np.float64)
    return Predictions("single-label", truth, scores, np.arange(len(truth)))


def binary(truth, scores):
    scores = np.asarray(scores, np.float64)
    return single(truth, np.stack([1 - scores, scores], axis=1))


def regression(truth, scores):
    truth = np.asarray(truth, np.float64)
    return Predictions("regression", truth, np.asarray(scores, np.float64), np.arange(len(truth)))


def example(task, images=40, seed=0):
    """Predictions better than chance, with ties among the scores."""
    N, K = images, 3
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, N // 2, N)
    if task == "segmentation":
        sizes = rng.integers(0, 4, (2, N, K))
        counts = np.stack([rng.integers(0, sizes.min(0) + 1), *sizes], axis=-1)
        return Predictions.segmentation(counts, clusters)
    if task == "regression":
        truth = rng.normal(size=N)
        return Predictions(task, truth, truth + rng.normal(size=N), clusters)
    if task == "single-label":
        truth = rng.integers(0, K, N)
        scores = (truth[:, None] == np.arange(K)) * 0.3 + rng.integers(0, 8, (N, K)) / 10
        return Predictions(task, truth, scores / scores.sum(1, keepdims=True).clip(0.1), clusters)
    truth = rng.integers(0, 2, (N, K))
    return Predictions(task, truth, (truth * 0.3 + rng.integers(0, 8, (N, K)) / 10), clusters)


def draws(predictions):
    """Weights that are the same for all images of a patient, some of them 0."""
    per_patient = np.random.default_rng(1).integers(0, 4, (6, predictions.clusters.max() + 1))
    return per_patient[:, predictions.clusters]


def repeated(predictions, weights):
    """The images as often as they count; each copy of a patient becomes a patient of its own."""
    rows = np.repeat(np.arange(len(weights)), weights)
    copy = np.concatenate([np.arange(w) for w in weights])
    clusters = predictions.clusters[rows] * 1000 + copy
    if predictions.task == "segmentation":
        return Predictions.segmentation(predictions.counts[rows], clusters)
    return Predictions(
        predictions.task, predictions.truth[rows], predictions.scores[rows], clusters
    )


CASES = [(task, name) for task in TASKS for name in metrics_of(task)]


@pytest.mark.parametrize(("task", "name"), CASES)
def test_weights_count_images_as_if_they_were_repeated(task, name):
    predictions = example(task)
    weights = draws(predictions)
    got = METRICS[name](predictions, weights)
    want = [METRICS[name](repeated(predictions, row), None)[0] for row in weights]
    assert got.shape == (len(weights),)
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_no_weights_means_each_image_once(task, name):
    predictions = example(task)
    ones = np.ones((2, len(predictions)), int)
    value = METRICS[name](predictions, None)
    assert value.shape == (1,)
    np.testing.assert_allclose(METRICS[name](predictions, ones), [value[0]] * 2, rtol=1e-12)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_undefined_is_nan_without_a_warning(task, name):
    predictions = example(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = np.zeros((2, len(predictions)), int)
        assert np.isnan(METRICS[name](predictions, nothing)).all()
        empty = repeated(predictions, nothing[0])
        assert np.isnan(METRICS[name](empty, None)).all()


@pytest.mark.parametrize(("task", "name"), CASES)
def test_metric_matches_the_slow_definition(task, name):
    predictions = example(task, seed=3)
    assert METRICS[name](predictions, None)[0] == pytest.approx(SLOW[task, name](predictions))


@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_balanced_accuracy_match_sklearn_with_sample_weights(seed):
    predictions = example("single-label", images=60, seed=seed)
    weights = np.random.default_rng(seed).integers(0, 5, (4, 60))
    classes = range(predictions.scores.shape[1])
    for w, area, accuracy in zip(
        weights, auroc(predictions, weights), balanced_accuracy(predictions, weights), strict=True
    ):
        areas = [
            sk.roc_auc_score(predictions.truth == k, predictions.scores[:, k], sample_weight=w)
            for k in classes
        ]
        assert area == pytest.approx(np.mean(areas), rel=1e-12)
        said = predictions.scores.argmax(1)
        want = sk.balanced_accuracy_score(predictions.truth, said, sample_weight=w)
        assert accuracy == pytest.approx(want, rel=1e-12)


def slow_area(positive, scores):
    pairs = [(p, n) for p in scores[positive] for n in scores[~positive]]
    return np.mean([1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs])


def slow_dice(predictions):
    by_class = []
    for k in range(predictions.counts.shape[1]):
        cases = []
        for patient in set(predictions.clusters.tolist()):
            i, p, t = predictions.counts[predictions.clusters == patient, k].sum(0).tolist()
            if p + t:
                cases.append(2 * i / (p + t))
        if cases:
            by_class.append(np.mean(cases))
    return np.mean(by_class)


def by_label(score):
    def mean(predictions):
        t, s = predictions.truth, predictions.scores
        columns = np.eye(s.shape[1])[t] == 1 if t.ndim == 1 else t == 1
        return np.mean([score(columns[:, k], s[:, k]) for k in range(s.shape[1])])

    return mean


SLOW = {
    ("single-label", "auroc"): by_label(slow_area),
    ("multi-label", "auroc"): by_label(slow_area),
    ("single-label", "balanced_accuracy"): lambda p: sk.balanced_accuracy_score(
        p.truth, p.scores.argmax(1)
    ),
    ("multi-label", "balanced_accuracy"): by_label(
        lambda t, s: sk.balanced_accuracy_score(t, s >= 0.5)
    ),
    ("regression", "r2"): lambda p: sk.r2_score(p.truth, p.scores),
    ("regression", "d2_absolute_error"): lambda p: sk.d2_absolute_error_score(p.truth, p.scores),
    ("segmentation", "dice"): slow_dice,
}


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=14
    )
)
def test_auroc_with_ties_and_weights_equals_counting_pairs(rows):
    truth, level, weight = (np.array(column) for column in zip(*rows, strict=True))
    area = auroc(binary(truth.astype(int), level / 4), weight[None])[0]
    positive, scores = np.repeat(truth, weight), np.repeat(level, weight)
    if positive.all() or not positive.any():
        assert np.isnan(area)
    else:
        assert area == pytest.approx(slow_area(positive, scores), abs=1e-12)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)), min_size=1))
def test_regression_matches_sklearn_and_is_undefined_for_constant_truth(rows):
    truth, said, weight = (np.array(column) for column in zip(*rows, strict=True))
    predictions = regression(truth / 10, said / 10)
    got = r2(predictions, weight[None])[0], d2_absolute_error(predictions, weight[None])[0]
    t, s = np.repeat(truth / 10, weight), np.repeat(said / 10, weight)
    if len(set(t.tolist())) < 2:
        assert np.isnan(got).all()
    else:
        want = sk.r2_score(t, s), sk.d2_absolute_error_score(t, s)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_known_areas():
    assert auroc(binary([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]))[0] == 1
    assert auroc(binary([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]))[0] == 0
    assert auroc(binary([0, 1, 0, 1], [0.5] * 4))[0] == 0.5
    assert auroc(binary([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))[0] == 0.75


def test_a_class_without_positives_is_left_out_of_the_means():
    scores = np.array([[0.8, 0.1, 0.1], [0.3, 0.2, 0.5], [0.1, 0.7, 0.2], [0.4, 0.5, 0.1]])
    predictions = single([0, 0, 1, 1], scores)
    np.testing.assert_array_equal(auroc(predictions), (0.75 + 1) / 2)
    np.testing.assert_array_equal(balanced_accuracy(predictions), (0.5 + 1) / 2)
    only_first = np.array([[1, 1, 0, 0]])
    assert np.isnan(auroc(predictions, only_first)).all()
    np.testing.assert_array_equal(balanced_accuracy(predictions, only_first), [0.5])


def test_multi_label_leaves_out_a_label_that_never_varies():
    truth = np.array([[1, 1], [0, 1], [1, 1]])
    scores = np.array([[0.5, 0.1], [0.2, 0.1], [0.1, 0.1]])
    predictions = Predictions("multi-label", truth, scores, np.arange(3))
    np.testing.assert_array_equal(auroc(predictions), [0.5])
    np.testing.assert_array_equal(balanced_accuracy(predictions), [0.75])  # (1/2 + 1) / 2


def test_saying_the_mean_or_the_median_scores_zero():
    truth = [0.0, 1.0, 5.0]
    np.testing.assert_allclose(r2(regression(truth, [2.0] * 3)), [0], atol=1e-12)
    np.testing.assert_allclose(d2_absolute_error(regression(truth, [1.0] * 3)), [0], atol=1e-12)


def test_r2_of_constant_truth_that_rounds_is_undefined():
    assert np.isnan(r2(regression([0.1] * 7, [0.2] * 7))[0])


def test_dice_pools_the_images_of_a_case():
    # Patient 0: one image hit, one missed; pooled 2 * 10 / (10 + 20), not the mean of 1 and 0.
    counts = np.array([[[10, 10, 10]], [[0, 0, 10]], [[5, 5, 5]]])
    predictions = Predictions.segmentation(counts, np.array([0, 0, 1]))
    assert dice(predictions)[0] == pytest.approx((2 / 3 + 1) / 2)


def test_dice_of_absent_classes():
    # Class 1: absent in both, only predicted, perfect. Class 2: in no case at all.
    counts = np.array([[[0, 0, 0]] * 2, [[0, 9, 0], [0, 0, 0]], [[4, 4, 4], [0, 0, 0]]])
    assert dice(Predictions.segmentation(counts, np.arange(3)))[0] == 0.5
    assert np.isnan(dice(Predictions.segmentation(counts[:1], np.arange(1)))[0])


def test_dice_refuses_to_split_a_patient():
    predictions = Predictions.segmentation(np.ones((2, 1, 3), int), np.array([4, 4]))
    with pytest.raises(DataError, match="one weight per patient"):
        dice(predictions, np.array([[1, 0]]))


def slow_counts(predicted, truth, classes):
    counts = np.zeros((len(truth), classes - 1, 3), int)
    for n, h, w in np.ndindex(truth.shape):
        p, t = int(predicted[n, h, w]), int(truth[n, h, w])
        if t == IGNORE:
            continue
        for k in range(1, classes):
            counts[n, k - 1] += (p == k and t == k, p == k, t == k)
    return counts


@pytest.mark.parametrize("classes", [2, 4])
def test_segmentation_counts_match_the_slow_loop(classes):
    rng = np.random.default_rng(classes)
    truth = rng.integers(0, classes, (3, 7, 9), dtype=np.uint8)
    predicted = rng.integers(0, classes, truth.shape, dtype=np.uint8)
    truth[:, :2] = IGNORE
    predicted[:, 0] = 200  # whatever is said on padding
    got = segmentation_counts(predicted, truth, classes)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, slow_counts(predicted, truth, classes))


def test_segmentation_counts_of_a_perfect_map_give_dice_one():
    truth = np.array([[[0, 1], [2, IGNORE]]], np.uint8)
    counts = segmentation_counts(np.where(truth == IGNORE, 1, truth).astype(np.uint8), truth, 3)
    assert dice(Predictions.segmentation(counts, np.zeros(1, int)))[0] == 1


@pytest.mark.parametrize("which", ["predicted", "truth"])
def test_segmentation_counts_refuse_labels_beyond_the_classes(which):
    maps = {"predicted": np.zeros((2, 3, 3), np.uint8), "truth": np.zeros((2, 3, 3), np.uint8)}
    maps[which][1, 0, 0] = 2
    with pytest.raises(DataError, match=r"image 1: expected labels 0\.\.1"):
        segmentation_counts(**maps, classes=2)


def test_segmentation_counts_refuse_maps_of_different_shapes():
    with pytest.raises(DataError, match=re.escape("(1, 2, 2) predicted and (1, 2, 3) true")):
        segmentation_counts(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8), 2)


def test_every_task_has_metrics_and_a_primary_one():
    assert [primary_metric(task) for task in TASKS] == ["auroc", "auroc", "r2", "dice"]
    assert all(primary_metric(task) == metrics_of(task)[0] for task in TASKS)
    assert {name for task in TASKS for name in metrics_of(task)} == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_refuses_the_wrong_task(name):
    other = next(task for task in TASKS if name not in metrics_of(task))
    with pytest.raises(DataError, match=f"{name}: expected .*got {other}"):
        METRICS[name](example(other), None)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((2, 39), int), r"expected integers \(B, 40\), got int64 \(2, 39\)"),
        (np.ones(40, int), r"expected integers \(B, 40\)"),
        (np.ones((2, 40)), "got float64"),
        (np.full((1, 40), -1), "negative"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        auroc(example("single-label"), weights)


@pytest.mark.parametrize("task", TASKS)
def test_predictions_survive_a_round_trip(task, tmp_path):
    predictions = example(task)
    predictions.save(tmp_path / "site.npz")
    again = Predictions.load(tmp_path / "site.npz")
    assert again.task == task
    for name in ("truth", "scores", "clusters", "counts"):
        kept, read = getattr(predictions, name), getattr(again, name)
        assert kept.dtype == read.dtype
        np.testing.assert_array_equal(kept, read)
    assert [path.name for path in tmp_path.iterdir()] == ["site.npz"]


def test_load_says_when_the_file_is_missing(tmp_path):
    with pytest.raises(RunError, match=r"none\.npz: no such predictions"):
        Predictions.load(tmp_path / "none.npz")


def damage(path, kind):
    whole = path.read_bytes()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an archive")
    elif kind == "flipped":
        at = whole.index(b"scores.npy") + 150
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    elif kind == "another":
        np.savez(path, images=np.zeros(3))
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "pickle":
        np.savez(path, task=np.array({"a": 1}, dtype=object))


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "flipped", "another", "npy", "pickle"])
def test_load_says_when_the_file_is_damaged_or_another(kind, tmp_path):
    path = tmp_path / "site.npz"
    example("single-label").save(path)
    damage(path, kind)
    with pytest.raises(RunError, match=r"site\.npz: expected predictions as npz"):
        Predictions.load(path)


def test_load_names_the_file_when_its_arrays_do_not_fit(tmp_path):
    path, empty = tmp_path / "site.npz", np.zeros(0)
    arrays = {"truth": empty, "scores": empty, "clusters": np.zeros(3, int), "counts": empty}
    np.savez(path, task=np.array("regression"), **arrays)
    with pytest.raises(RunError, match=r"site\.npz: predictions: the shapes do not fit"):
        Predictions.load(path)
    np.savez(path, task=np.array("survival"), **arrays)
    with pytest.raises(RunError, match=r"site\.npz: expected a task of .* got 'survival'"):
        Predictions.load(path)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(RunError, match="got 1 of 3 that are not; the model has diverged"):
        regression([1, 2, 3], [1, np.nan, 3])


@pytest.mark.parametrize("truth", [[0, 2], [-1, 0], [0.0, 1.0]])
def test_labels_beyond_the_classes_are_refused(truth):
    with pytest.raises(DataError, match=r"expected class indices 0\.\.1"):
        binary(truth, [0.1, 0.2])


def test_multi_label_truth_must_be_binary():
    with pytest.raises(DataError, match="expected 0 or 1"):
        Predictions("multi-label", np.full((2, 3), 255), np.zeros((2, 3)), np.arange(2))


def test_shapes_that_do_not_fit_the_task_are_refused():
    with pytest.raises(DataError, match=r"single-label: truth \(3,\), scores \(2, 2\)"):
        Predictions("single-label", np.zeros(3, int), np.zeros((2, 2)), np.arange(3))
    with pytest.raises(DataError, match=r"counts \(2, 1, 2\)"):
        Predictions.segmentation(np.zeros((2, 1, 2), int), np.arange(2))
