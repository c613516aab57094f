"""Sites say what they gain, and those that lose are heeded: in weights, or by coming last."""

import math
import re
from dataclasses import replace

import pytest
import torch

from polyclinic.config import FederationConfig, load_config, toml_value
from polyclinic.errors import ConfigError
from polyclinic.federation import exchange, methods
from polyclinic.federation.aggregation import add
from polyclinic.federation.exchange import site_stage
from polyclinic.federation.guard import MOST, OWN, guarded, heeded, in_order
from polyclinic.federation.knowledge import GAINS, SCALARS, Knowledge, schema_of, unpack
from polyclinic.federation.methods import METHODS
from polyclinic.federation.plans import plan_of
from polyclinic.federation.site import Trained, train_stage
from polyclinic.federation.stages import Stages


@pytest.fixture
def plan(federate):
    """A stage of the universal method, guarded."""
    fed, _ = federate("universal", guard=1.0)
    return plan_of(fed.config, "universal")


def test_what_a_site_gains_is_against_what_it_trains_by_itself(make_site, start, plan):
    """By hand: two stages of the federation's encoder, and of the site's own beside it."""
    site = make_site("single-label", "a", n=24)
    assert (plan.guard, plan.head_first, plan.anchor) == (True, True, "feature")
    stage = guarded(train_stage)
    first = stage(site, "small", start, None, plan, 0, "m", 0, "a")
    assert first.knowledge.scalars["gain_over_alone"] == 0
    assert first.knowledge.scalars["gain_over_start"] == 0
    received = {name: value + 0.01 for name, value in start.items()}
    second = stage(site, "small", received, first.head, plan, 0, "m", 1, "a")

    plain = replace(plan, anchor="none", anchor_weight=0.0)
    one = train_stage(site, "small", start, None, plain, 0, "m", 0, "a", "alone")
    own = add(start, one.knowledge.tensors)
    two = train_stage(site, "small", own, one.head, plain, 0, "m", 1, "a", "alone")
    head = {k: v for k, v in first.head.items() if not k.startswith(OWN)}
    ours = train_stage(site, "small", received, head, plan, 0, "m", 1, "a")
    score = ours.knowledge.scalars["received_score"]
    told = second.knowledge.scalars
    assert told["gain_over_alone"] == score - two.knowledge.scalars["received_score"]
    assert told["gain_over_start"] == score - one.knowledge.scalars["received_score"]
    for name, value in ours.knowledge.tensors.items():
        assert torch.equal(second.knowledge.tensors[name], value)  # the guard changes nothing else
    kept = {k.removeprefix(f"{OWN}encoder."): v for k, v in second.head.items()}
    for name, value in add(own, two.knowledge.tensors).items():
        assert torch.equal(kept[name], value)


def test_the_gains_travel_only_where_they_are_asked_for(make_site, start, plan):
    site = make_site("single-label", "a", n=24)
    for guard in (False, True):
        schema = schema_of(start, gains=guard)
        asked = replace(plan, guard=guard)
        message, stays = site_stage(site, "small", start, None, asked, schema, (0, "m", 0, "a"))
        assert unpack(message, schema, "a").scalars.keys() == SCALARS | (GAINS if guard else set())
        assert any(name.startswith(OWN) for name in stays) == guard


def made_up(monkeypatch, gains):
    """Sites whose changes and gains are given; returns the order in which they trained."""
    order = []

    def stage(site, _preset, received, _kept, plan, *_):
        assert plan.guard
        order.append(site.name)
        moved = 1.0 if site.name == "a" else 0.0
        gen = torch.Generator().manual_seed(len(order))  # no message comes twice
        change = {
            k: torch.full_like(v, moved) + 1e-7 * torch.rand(v.shape, generator=gen)
            for k, v in received.items()
        }
        scalars = {"examples": 8.0, "loss": 0.5, "received_score": 0.5, "trained_score": 0.5}
        told = {"gain_over_alone": gains[site.name], "gain_over_start": 0.0}
        return Trained(Knowledge(change, scalars | told), {})

    monkeypatch.setattr(exchange, "guarded", lambda _: stage)
    return order


SETTINGS = {"guard": 20.0, "distil_every": 0, "server_optimiser": "none"}


@pytest.mark.parametrize(
    ("gains", "share"),
    [
        ({"a": 0.1, "b": 0.2}, 0.5),
        ({"a": -0.05, "b": 0.2}, math.e / (math.e + 1)),
        ({"a": 0.1, "b": -0.05}, 1 / (math.e + 1)),
        ({"a": -0.9, "b": 0.0}, MOST / (MOST + 1)),
        ({"a": math.nan, "b": math.nan}, 0.5),
    ],
)
def test_who_loses_weighs_more(federate, monkeypatch, gains, share):
    made_up(monkeypatch, gains)
    fed, records = federate("universal", **SETTINGS)
    encoder = METHODS["universal"](fed)["a"]
    moved = (encoder["stem.weight"] - fed.start["stem.weight"]).mean()
    assert float(moved) == pytest.approx(share, abs=1e-5)
    assert records[0]["sites"]["a"]["gain_over_alone"] == pytest.approx(gains["a"], nan_ok=True)


def test_in_turn_who_loses_comes_last_also_after_a_kill(federate, monkeypatch, make_site):
    gains = {"a": -0.2, "b": 0.1, "c": -0.1, "d": math.nan}
    order = made_up(monkeypatch, gains)
    sites = [make_site("single-label", name, n=24) for name in gains]
    fed, _ = federate("universal", sites, stages=3, exchange="cyclic", **SETTINGS)
    fed.config = replace(fed.config, federation=FederationConfig(norm_factor=0.0))
    METHODS["universal"](fed)
    assert [order[4:8][-2:], order[8:][-2:]] == [["c", "a"]] * 2
    kept = fed.store.latest(3)
    assert methods._gains(kept) == pytest.approx(gains, nan_ok=True)


def test_without_the_guard_nothing_is_kept_and_sites_weigh_as_ever(federate):
    fed, _ = federate("universal", distil_every=0)
    assert not plan_of(fed.config, "universal").guard
    assert methods._gains(Stages(0, 1, {}, memory={"first.w": torch.zeros(1)})) == {}
    assert heeded(3.0, -0.5, 0.0) == 3.0
    assert in_order(["b", "a"], {}) == ["b", "a"]


@pytest.mark.parametrize(
    ("section", "key", "value", "text"),
    [
        ("federation", "secure", True, "federation.secure = false"),
        ("privacy", "epsilon", 8.0, "privacy.epsilon = 0.0"),
        ("privacy", "site_epsilon", 8.0, "privacy.site_epsilon = 0.0"),
        ("universal", "aggregation", "median", 'universal.aggregation = "mean"'),
    ],
)
def test_where_gains_are_not_told_or_weights_do_not_count_it_is_refused(
    tmp_path, section, key, value, text
):
    settings = {"universal": {"guard": 2.0, "distil_every": 0}, "federation": {"norm_factor": 0.0}}
    settings.setdefault(section, {})[key] = value
    lines = [
        'corpus = "public"',
        'methods = ["universal"]',
        *(f'[[sites]]\nname = "{n}"\npath = "{n}"' for n in "abc"),
    ]
    for name, table in settings.items():
        lines += [f"[{name}]", *(f"{k} = {toml_value(v)}" for k, v in table.items())]
    path = tmp_path / "federation.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=rf"universal.guard: needs {re.escape(text)}"):
        load_config(path)
    path.write_text(path.read_text().replace("guard = 2.0", "guard = 0.0"))
    load_config(path)
