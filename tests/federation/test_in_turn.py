"""One site after the other: what is passed on, in which order, and what happens when one fails."""

from itertools import accumulate

import pytest
import torch

from polyclinic.errors import DataError
from polyclinic.federation import exchange
from polyclinic.federation.aggregation import add
from polyclinic.federation.methods import METHODS
from polyclinic.federation.site import train_stage

NAMES = "abcd"


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def sites(make_site):
    return [make_site("single-label", name, n=16, seed=n) for n, name in enumerate(NAMES)]


@pytest.fixture
def in_turn(federate, sites):
    """(**what changes) -> (the federation, its records), with four sites, one after the other."""
    return lambda **changes: federate(
        "universal", sites, exchange="cyclic", **{"distil_every": 0, **changes}
    )


def watched(monkeypatch, meddle=lambda trained, _: trained):
    """[(site, encoder that it received)], as they come; `meddle` changes what a site trained."""
    visits = []

    def watch(site, preset, received, head, plan, *seed):
        visits.append((site.name, received))
        return meddle(train_stage(site, preset, received, head, plan, *seed), site.name)

    monkeypatch.setattr(exchange, "train_stage", watch)
    return visits


def test_each_site_trains_what_the_one_before_has_left(in_turn, sites, monkeypatch):
    visits = watched(monkeypatch)
    fed, records = in_turn()
    plan = fed.plan(fed.begin({"": fed.start}), head_first=True, anchor="feature",
                    anchor_weight=0.1)  # fmt: skip
    encoder = METHODS["universal"](fed)["a"]
    assert sorted(name for name, _ in visits) == [*NAMES]
    by_hand, after = fed.start, []
    for name, received in visits:
        assert equal(received, by_hand)
        site = sites[NAMES.index(name)]
        trained = train_stage(site, "small", by_hand, None, plan, 3, "universal", 0, name)
        by_hand = add(by_hand, trained.knowledge.tensors)
        after.append(by_hand)
    for name, value in encoder.items():  # the end of the run is the mean over its last visits
        mean = sum(state[name].double() for state in after) / 4
        torch.testing.assert_close(value, mean.float(), rtol=1e-6, atol=1e-7)
    assert [*records[0]["sites"]] == [name for name, _ in visits]
    assert all(s["bytes_up"] and s["bytes_down"] for s in records[0]["sites"].values())


def test_a_stage_goes_on_where_the_one_before_ended(in_turn, monkeypatch):
    made = []
    visits = watched(monkeypatch, lambda trained, _: made.append(trained) or trained)
    METHODS["universal"](in_turn(stages=2)[0])
    assert equal(visits[4][1], add(visits[3][1], made[3].knowledge.tensors))


def test_every_stage_has_an_order_of_its_own(in_turn, monkeypatch):
    visits = watched(monkeypatch)
    METHODS["universal"](in_turn(stages=6)[0])
    orders = ["".join(name for name, _ in visits[n : n + 4]) for n in range(0, 24, 4)]
    assert all(sorted(order) == [*NAMES] for order in orders)
    assert len(set(orders)) > 2


def test_a_site_that_fails_is_left_out_and_named(in_turn, monkeypatch):
    def fail(trained, name):
        if name == "b":
            raise DataError("its disk is gone")
        return trained

    visits = watched(monkeypatch, fail)
    fed, records = in_turn(stages=2)
    METHODS["universal"](fed)
    for record in records:
        assert record["absent"] == [{"site": "b", "reason": "its disk is gone"}]
    place = [name for name, _ in visits].index("b")  # in the first stage: there is always a next
    assert equal(visits[place + 1][1], visits[place][1])


def test_a_change_far_longer_than_those_before_is_not_passed_on(in_turn, monkeypatch):
    last = []

    def wild(trained, name):
        last.append(name)
        if len(last) == 4:
            for value in trained.knowledge.tensors.values():
                value.mul_(1000)
        return trained

    visits = watched(monkeypatch, wild)
    fed, records = in_turn(stages=2)
    METHODS["universal"](fed)
    (absent,) = records[0]["absent"]
    assert absent["site"] == last[3]
    assert "times the median of 4 sites" in absent["reason"]
    assert equal(visits[4][1], visits[3][1])


def test_the_teachers_are_the_encoders_after_each_visit(in_turn, monkeypatch):
    taught = []

    def distil(self, stages, encoder, teachers):
        taught.append((encoder, teachers))
        return encoder

    changes = []

    def note(trained, name):
        changes.append(trained.knowledge.tensors)
        return trained

    watched(monkeypatch, note)
    monkeypatch.setattr(exchange.Federation, "distil", distil)
    fed, _ = in_turn(distil_every=1, stages=2)
    METHODS["universal"](fed)
    encoder, teachers = taught[0]
    expected = list(accumulate(changes[:4], add, initial=fed.start))[1:]
    assert all(equal(a, b) for a, b in zip(teachers, expected, strict=True))
    assert equal(encoder, teachers[-1])


def test_killed_between_two_visits_the_run_goes_on_to_the_same_encoder(in_turn, sites, tmp_path):
    heard = []

    def kill(phase, stage, site, loss):
        heard.append(site)
        if len(heard) == 6:  # in the second stage, after two visits
            raise KeyboardInterrupt

    def build(tell=None):
        fed, _ = in_turn(stages=2)
        fed.tell = tell or fed.tell
        return fed

    with pytest.raises(KeyboardInterrupt):
        METHODS["universal"](build(kill))
    resumed = METHODS["universal"](build())["a"]
    (tmp_path / "universal").rename(tmp_path / "resumed")
    assert equal(resumed, METHODS["universal"](build())["a"])
