import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from polyclinic.errors import DataError
from polyclinic.evaluate.statistics import compare, holm, wilcoxon

SITES = tuple("abcdefgh")


def slow_holm(p_values):
    """The smallest overall level at which Holm's step-down procedure rejects each hypothesis."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, worst = {}, 0.0
    for step, i in enumerate(order):
        worst = max(worst, (len(p_values) - step) * p_values[i])
        adjusted[i] = min(1.0, worst)
    return [adjusted[i] for i in range(len(p_values))]


def slow_wilcoxon(differences):
    """All sign patterns, each as likely as the other."""
    d = np.array([x for x in differences if x != 0], float)
    ranks = rankdata(np.abs(d))
    centre = ranks.sum() / 2
    signs = np.array(list(itertools.product((0, 1), repeat=len(d))))
    far = abs(ranks[d > 0].sum() - centre)
    return float(np.mean(np.abs(signs @ ranks - centre) >= far - 1e-9))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.04, 0.3, 0.6, 1.0]), max_size=8))
def test_holm_matches_the_slow_definition(p_values):
    np.testing.assert_allclose(holm(p_values), slow_holm(p_values))


def test_holm_known_values():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])


@pytest.mark.parametrize("p_values", [[0.1, 1.2], [-0.1], [float("nan")], 0.3])
def test_holm_refuses_what_is_no_list_of_p_values(p_values):
    with pytest.raises(DataError, match="p-values between 0 and 1"):
        holm(p_values)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_wilcoxon_is_exact_with_ties_and_zeros(differences):
    expected = slow_wilcoxon(differences) if any(differences) else 1.0
    assert wilcoxon(differences) == pytest.approx(expected)


def test_wilcoxon_is_exact_for_as_many_units_as_a_run_has():
    assert wilcoxon(np.arange(1, 9)) == pytest.approx(2 / 2**8)
    assert wilcoxon(np.arange(1, 25)) == pytest.approx(2 / 2**24)
    assert wilcoxon([0, 0, *range(1, 9)]) == pytest.approx(2 / 2**8)


@pytest.mark.parametrize("differences", [[], [0.0], [0.0] * 20, [0.3], [1.0] * 24])
def test_wilcoxon_never_warns(differences):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 < wilcoxon(differences) <= 1


def test_wilcoxon_of_nothing_is_one():
    assert wilcoxon([]) == wilcoxon([0, 0, 0]) == 1.0


def test_wilcoxon_refuses_undefined_differences():
    with pytest.raises(DataError, match="expected finite differences"):
        wilcoxon([0.1, float("nan")])


def run(**gains):
    """Scores of `ours` and of methods that are worse by a gain per (site, seed)."""
    scores = {("ours", s, seed): 0.8 + i / 100 for i, s in enumerate(SITES) for seed in range(3)}
    for method, gain in gains.items():
        for (_, site, seed), value in list(scores.items())[: len(SITES) * 3]:
            scores[method, site, seed] = value - gain(SITES.index(site), seed)
    return scores


def test_compare_counts_units_and_sites():
    scores = run(
        mim=lambda site, seed: (site + 1) / 100 + seed / 1000,
        local=lambda site, seed: (0.03, -0.01, -0.01)[seed] if site else 0.0,
    )
    mim, local = compare(scores, "ours", ["mim", "local"])
    assert (mim.method, mim.over, mim.n, mim.wins, mim.ties) == ("ours", "mim", 24, 24, 0)
    assert (mim.sites, mim.sites_won) == (8, 8)
    assert mim.mean_gain == pytest.approx(0.046)
    assert mim.p_sites == pytest.approx(0.0078125)
    assert mim.p_sites_holm == pytest.approx(2 * 0.0078125)
    assert mim.p_holm == pytest.approx(2 * mim.p)
    # One seed of three wins at 7 sites, yet their means are won; the eighth is tied.
    assert (local.n, local.wins, local.ties, local.sites_won) == (24, 7, 3, 7)
    assert local.mean_gain == pytest.approx(0.01 / 3 * 7 / 8)
    assert local.p_holm == local.p > mim.p


def test_seeds_make_p_small_where_the_sites_alone_could_not():
    (comparison,) = compare(
        run(mim=lambda site, seed: (site + 1) / 100 + seed / 500), "ours", ["mim"]
    )
    assert comparison.p < 1e-5
    assert comparison.p_sites == pytest.approx(2 / 2**8)


def test_rounding_is_no_win():
    scores = {("ours", "a", 0): 0.1 + 0.2, ("mim", "a", 0): 0.3}
    (comparison,) = compare(scores, "ours", ["mim"])
    assert (comparison.wins, comparison.ties, comparison.sites_won) == (0, 1, 0)
    assert comparison.p == comparison.p_sites == 1.0


def test_a_site_mean_that_cancels_is_no_win():
    scores = {("ours", "a", seed): d for seed, d in enumerate((-0.3, 0.1, 0.2))}
    assert sum(scores.values()) > 0
    scores |= {("mim", "a", seed): 0.0 for seed in range(3)}
    (comparison,) = compare(scores, "ours", ["mim"])
    assert (comparison.wins, comparison.sites_won, comparison.p_sites) == (2, 0, 1.0)


def test_units_that_one_method_lacks_are_left_out():
    scores = run(mim=lambda site, _: 0.01 * (site + 1))
    del scores["mim", "a", 1]
    scores["mim", "b", 0] = float("nan")
    scores = {key: value for key, value in scores.items() if key[:2] != ("ours", "c")}
    (comparison,) = compare(scores, "ours", ["mim"])
    assert (comparison.n, comparison.sites) == (24 - 1 - 1 - 3, 7)


def test_a_method_without_common_units_is_left_out_of_holm():
    scores = run(mim=lambda site, _: 0.01 * (site + 1))
    found = compare(scores, "ours", ["fedavg", "mim"])
    assert [comparison.over for comparison in found] == ["mim"]
    assert found[0].p_holm == found[0].p
    assert compare({}, "ours", ["mim"]) == []
