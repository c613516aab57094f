"""Aggregation against loops over sites and numbers, slow and obvious."""

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.federation.aggregation import (
    WEIGHTINGS,
    add,
    aggregator,
    krum,
    mean,
    median,
    server_step,
    subtract,
    trimmed_mean,
)

SITES = st.integers(1, 9)
SHAPE = st.lists(st.integers(1, 4), max_size=2).map(tuple)
SEED = st.integers(0, 999)
some = settings(derandomize=True, max_examples=40, deadline=None)


def draw(sites, shape, seed):
    gen = torch.Generator().manual_seed(seed)
    shapes = {"a": shape, "b": (3,)}
    return [{n: torch.randn(s, generator=gen) for n, s in shapes.items()} for _ in range(sites)]


def check(got, changes, of_numbers):
    """`got` must be `of_numbers` of the sites' values, coordinate by coordinate."""
    assert set(got) == set(changes[0])
    for name, value in got.items():
        assert value.shape == changes[0][name].shape
        columns = zip(*(c[name].flatten().tolist() for c in changes), strict=True)
        for number, column in zip(value.flatten().tolist(), columns, strict=True):
            assert number == pytest.approx(of_numbers(list(column)), abs=1e-5)


@some
@given(st.data(), SITES, SHAPE, SEED)
def test_mean(data, sites, shape, seed):
    weights = data.draw(st.lists(st.floats(0.5, 1e5), min_size=sites, max_size=sites))
    changes = draw(sites, shape, seed)

    def loop(column):
        return sum(w * x for w, x in zip(weights, column, strict=True)) / sum(weights)

    check(mean(changes, weights), changes, loop)


@some
@given(SITES, SHAPE, SEED)
def test_median(sites, shape, seed):
    changes = draw(sites, shape, seed)
    check(median(changes, [1.0] * sites), changes, statistics.median)


@some
@given(SITES, SHAPE, SEED, st.floats(0, 0.49))
def test_trimmed_mean(sites, shape, seed, trim):
    changes = draw(sites, shape, seed)

    def loop(column):
        left = sorted(column)
        for _ in range(math.ceil(trim * sites)):
            if len(left) > 2:
                left = left[1:-1]
        return sum(left) / len(left)

    check(trimmed_mean(trim)(changes, [1.0] * sites), changes, loop)


@some
@given(st.integers(1, 9), SHAPE, SEED, st.floats(0, 0.49))
def test_krum(sites, shape, seed, trim):
    changes = draw(sites, shape, seed)
    flat = [[x for n in sorted(c) for x in c[n].flatten().tolist()] for c in changes]
    distrusted = math.ceil(trim * sites)
    while distrusted and sites < 2 * distrusted + 3:
        distrusted -= 1
    scores = []
    for i, own in enumerate(flat):
        others = [other for j, other in enumerate(flat) if j != i]
        near = sorted(sum((a - b) ** 2 for a, b in zip(own, o, strict=True)) for o in others)
        scores.append(sum(near[: max(1, sites - distrusted - 2)]))
    got = krum(trim)(changes, [1.0] * sites)
    chosen = [i for i, c in enumerate(changes) if all(torch.equal(got[n], c[n]) for n in c)]
    assert scores[chosen[0]] == pytest.approx(min(scores), rel=1e-5)


@pytest.mark.parametrize("name", ["trimmed-mean", "median", "krum"])
def test_one_malicious_site_moves_nothing_far(name):
    changes = draw(5, (4,), seed=0)
    honest = [*changes]
    honest[2] = {n: torch.zeros_like(v) for n, v in changes[2].items()}
    evil = [*changes]
    evil[2] = {n: torch.full_like(v, 1e9) for n, v in changes[2].items()}
    combine = aggregator(name, trim=0.125)
    got = combine(evil, [1.0, 1.0, 1e9, 1.0, 1.0])
    assert all(value.abs().max() < 3 for value in got.values())
    assert all(torch.isfinite(v).all() for v in combine(honest, [1.0] * 5).values())
    assert mean(evil, [1.0] * 5)["a"].max() > 1e8  # what they protect from


def test_aggregators_by_name():
    changes = draw(3, (2,), seed=1)
    weights = [1.0, 2.0, 3.0]
    functions = {"mean": mean, "median": median, "trimmed-mean": trimmed_mean(0.3)}
    for name, function in {**functions, "krum": krum(0.3)}.items():
        got = aggregator(name, 0.3)(changes, weights)
        assert all(torch.equal(got[k], v) for k, v in function(changes, weights).items())


def test_aggregation_leaves_the_sites_changes_as_they_are():
    changes = draw(3, (2,), seed=2)
    before = [{k: v.clone() for k, v in c.items()} for c in changes]
    for name in ("mean", "median", "trimmed-mean", "krum"):
        aggregator(name, 0.3)(changes, [1.0, 2.0, 3.0])
    for a, b in zip(changes, before, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_weightings():
    assert [WEIGHTINGS[k](16.0) for k in ("size", "sqrt-size", "equal")] == [16, 4, 1]


def test_adding_the_difference_arrives():
    a, b = draw(2, (3, 2), seed=3)
    arrived = add(a, subtract(b, a))
    assert all(torch.allclose(arrived[k], b[k], atol=1e-6) for k in b)


def loop_none(x, changes, rate, beta):
    return x + sum(changes)


def loop_momentum(x, changes, rate, beta):
    velocity = 0.0
    for change in changes:
        velocity = beta * velocity + change
        x += rate * velocity
    return x


def loop_adam(x, changes, rate, beta):
    m = v = 0.0
    for change in changes:
        m = beta * m + (1 - beta) * change
        v = 0.99 * v + 0.01 * change**2
        x += rate * m / (math.sqrt(v) + 1e-3)
    return x


@pytest.mark.parametrize(
    ("kind", "loop"), [("none", loop_none), ("momentum", loop_momentum), ("adam", loop_adam)]
)
@settings(derandomize=True, max_examples=20, deadline=None)
@given(
    st.lists(st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=6),
    st.floats(0.1, 2),
    st.floats(0, 0.95),
)
def test_server_step_follows_its_recursion(kind, loop, changes, rate, beta):
    encoder, memory = {"w": torch.full((2,), 0.5, dtype=torch.float64)}, {}
    for change in changes:
        encoder, memory = server_step(
            kind,
            encoder,
            {"w": torch.full((2,), change, dtype=torch.float64)},
            memory,
            learning_rate=rate,
            momentum=beta,
        )
    assert encoder["w"].tolist() == pytest.approx([loop(0.5, changes, rate, beta)] * 2, rel=1e-9)


def test_memory_of_the_server_optimisers():
    encoder, change = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    keys = {
        kind: set(server_step(kind, encoder, change, {}, learning_rate=1.0, momentum=0.5)[1])
        for kind in ("none", "momentum", "adam")
    }
    assert keys == {"none": set(), "momentum": {"first.w"}, "adam": {"first.w", "second.w"}}
