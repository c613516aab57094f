"""LiRA against a slow reference; it finds members where there is something to find."""

import math

import numpy as np
import pytest

from polyclinic.errors import PrivacyError
from polyclinic.evaluate.audit.membership import (
    auc,
    confidence,
    halves,
    judge_membership,
    likelihood_ratios,
    tpr_at,
)
from polyclinic.seeding import derive


def test_the_confidence_is_the_logit_of_the_probability():
    p = np.array([0.01, 0.5, 0.999])
    assert confidence(-np.log(p)) == pytest.approx(np.log(p / (1 - p)))
    assert np.isfinite(confidence(np.array([0.0, 1e-30, 5000.0]))).all()


def test_every_image_is_in_half_of_the_models():
    inside = halves(6, 50, 0)
    assert (inside.sum(0) == 3).all()
    assert inside.std(1).all()
    assert not np.array_equal(inside, halves(6, 50, 1))


def test_no_model_gets_a_single_image_or_none_and_the_first_that_will_do_is_taken():
    for seed in range(300):
        for images in (4, 10, 32):
            inside = halves(4, images, seed)
            assert (inside.sum(0) == 2).all()
            assert inside.sum(1).min() >= max(2, images // 4)
    assert halves(4, 1, 0).sum() == 2
    drawn = np.random.default_rng(derive("halves", 3)).random((4, 200)).argsort(axis=0) < 2
    assert np.array_equal(halves(4, 200, 3), drawn)


@pytest.mark.parametrize("models", [2, 5])
def test_too_few_or_odd_models_are_refused(models):
    with pytest.raises(PrivacyError, match=r"an even number of shadow models, 4 or more, got"):
        halves(models, 10, 0)


def slow_score(values, inside, victim, image):
    """One ratio, with loops."""
    logs = []
    for member in (True, False):
        squares, freedom = 0.0, 0
        for other in range(values.shape[1]):
            group = [
                values[m, other]
                for m in range(len(values))
                if m != victim and inside[m, other] == member
            ][: len(values) // 2 - 1]
            mean = sum(group) / len(group)
            squares += sum((v - mean) ** 2 for v in group)
            freedom += len(group) - 1
            if other == image:
                middle = mean
        variance = squares / freedom
        gap = values[victim, image] - middle
        logs.append(-(gap**2) / (2 * variance) - math.log(variance) / 2)
    return logs[0] - logs[1]


def test_the_ratio_is_that_of_the_slow_reference():
    rng = np.random.default_rng(0)
    inside = halves(6, 9, 0)
    values = rng.normal(size=(6, 9)) + inside
    scores = likelihood_ratios(values, inside)
    for victim in range(6):
        for image in range(9):
            expected = slow_score(values, inside, victim, image)
            assert scores[victim, image] == pytest.approx(expected)


def test_rates_are_those_of_counting():
    rng = np.random.default_rng(1)
    members, others = rng.normal(1, 1, 37).round(1), rng.normal(0, 1, 230).round(1)
    pairs = [(m > o) + (m == o) / 2 for m in members for o in others]
    assert auc(np.sort(members), np.sort(others)) == pytest.approx(np.mean(pairs))
    threshold = sorted(others)[-3]  # two of 230 may be above
    assert tpr_at(np.sort(members), np.sort(others)) == np.mean(members > threshold)


def test_members_are_found_where_they_differ_and_not_where_they_do_not():
    inside = halves(6, 300, 2)
    noise = np.random.default_rng(2).normal(size=inside.shape)
    sure = judge_membership(noise + 6 * inside, inside, 100, 0)
    assert sure.succeeded
    assert sure.tpr_low > 0.9
    assert sure.auc > 0.99
    none = judge_membership(noise, inside, 100, 0)
    assert none.auc_low < 0.5 < none.auc_high
    assert not none.succeeded
    assert none.tpr_guess == 10 / 901
    assert none.tpr < 0.05
    assert none.p_value > 0.05


def test_chance_is_called_success_as_rarely_as_it_says():
    """Models that differ from each other, but know nothing of who was inside."""
    wrong = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        inside = halves(4, 24, seed)
        common = rng.normal(size=(1, 24)) + 3 * rng.normal(size=(4, 1))
        found = judge_membership(common + rng.normal(size=(4, 24)), inside, 20, seed)
        wrong += found.succeeded
    assert wrong <= 1


@pytest.mark.parametrize("models", [4, 6, 8])
def test_how_many_shadows_hold_an_image_tells_nothing_of_the_victim(models):
    areas = []
    for seed in range(40):
        inside = halves(models, 200, seed)
        noise = np.random.default_rng(seed).normal(size=inside.shape)
        scores = likelihood_ratios(noise, inside)
        areas.append(auc(np.sort(scores[inside]), np.sort(scores[~inside])))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.01)


def test_scores_that_are_not_finite_are_refused():
    inside = halves(4, 5, 0)
    with pytest.raises(PrivacyError, match=r"a shadow model diverged"):
        judge_membership(np.full(inside.shape, np.nan), inside, 10, 0)
