"""Every method from end to end on tiny sites, and against what it is said to compute."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from polyclinic.config import METHODS as NAMES
from polyclinic.data.dataset import TASKS
from polyclinic.federation import exchange
from polyclinic.federation.methods import METHODS, TITLES
from polyclinic.federation.site import train_stage

WITHOUT_STAGES = ("mim", "contrastive")
OWN = ("local", "scratch", "fedbn")


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def by_hand(fed, plan):
    """Each site's training in the first stage: site -> `Trained`."""
    return {
        name: train_stage(site, "small", fed.start, None, plan, fed.seed, fed.method, 0, name)
        for name, site in fed.workers.sites.items()
    }


def test_every_method_of_the_configuration_exists():
    assert tuple(METHODS) == tuple(TITLES) == NAMES


@pytest.mark.parametrize("method", NAMES)
def test_a_method_gives_every_site_an_encoder(federate, make_site, method):
    sites = [make_site(task, task, n=16 + 4 * i) for i, task in enumerate(TASKS)]
    heard = []
    fed, records = federate(method, sites, tell=lambda *what: heard.append(what[:3]))
    encoders = METHODS[method](fed)
    assert [*encoders] == [s.name for s in sites]
    for encoder in encoders.values():
        assert {k: v.shape for k, v in encoder.items()} == {
            k: v.shape for k, v in fed.start.items()
        }
        assert all(torch.isfinite(v).all() for v in encoder.values())
        assert equal(encoder, fed.start) == (method in WITHOUT_STAGES)
    first, second = encoders["single-label"], encoders["regression"]
    assert equal(first, second) == (method not in OWN)
    if method in WITHOUT_STAGES:
        assert records == heard == []
        return
    assert [what for what in heard if what[0] == "train"] == [("train", 1, s.name) for s in sites]
    (record,) = records
    assert record["unit"] == f"seed-3/{method}/stage-001"
    assert record["absent"] == []
    for site in sites:
        assert record["sites"][site.name]["examples"] == len(site.split["train"])


def test_fedbn_keeps_normalisation_at_the_sites(federate):
    fed, _ = federate("fedbn", stages=2)
    encoders = METHODS["fedbn"](fed)
    a, b = encoders["a"], encoders["b"]
    norms = {name for name in fed.start if any(p.startswith("norm") for p in name.split("."))}
    assert len(norms) == 32
    for name, value in fed.start.items():
        assert torch.equal(a[name], b[name]) == (name not in norms), name
        assert not torch.equal(a[name], value), name
    shared = fed.store.latest(2).encoders[""]
    assert {name for name in shared if torch.equal(shared[name], fed.start[name])} == norms


def test_without_labels_no_label_matters(federate, make_site):
    sites = [make_site("single-label", "a", n=24), make_site("regression", "b", n=32)]
    blind = [replace(s, targets=np.flip(s.targets).copy()) for s in sites]
    states = []
    for chosen in (sites, blind):
        fed, records = federate("fedmim", chosen)
        states.append(METHODS["fedmim"](fed)["a"])
        shutil.rmtree(fed.store.folder)
    assert equal(*states)
    said = records[0]["sites"]["a"]
    assert math.isnan(said["received_score"])
    assert 0 < said["loss"] < 2  # targets have a variance of one


@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_averaging_is_the_mean_of_the_sites_by_size(federate, method):
    fed, _ = federate(method)
    stages = fed.begin({"": fed.start})
    anchor = {"anchor": "proximal", "anchor_weight": fed.config.fedprox.mu}
    trained = by_hand(fed, fed.plan(stages, **(anchor if method == "fedprox" else {})))
    sizes = {name: len(site.split["train"]) for name, site in fed.workers.sites.items()}
    assert sizes == {"a": 12, "b": 16}
    encoder = METHODS[method](fed)["a"]
    for name, value in fed.start.items():
        mean = sum(trained[s].knowledge.tensors[name].double() * n / 28 for s, n in sizes.items())
        torch.testing.assert_close(encoder[name], (value + mean).float(), rtol=1e-6, atol=1e-7)


def test_universal_is_an_equal_mean_and_a_server_step(federate):
    fed, _ = federate("universal", distil_every=0, server_learning_rate=0.5)
    stages = fed.begin({"": fed.start})
    plan = fed.plan(stages, head_first=True, anchor="feature", anchor_weight=0.1)
    a, b = (t.knowledge.tensors for t in by_hand(fed, plan).values())
    encoder = METHODS["universal"](fed)["b"]
    for name, value in fed.start.items():
        expected = value + 0.5 * (a[name] + b[name]) / 2
        torch.testing.assert_close(encoder[name], expected, rtol=1e-6, atol=1e-7)


def test_local_is_what_each_site_trains_and_sends_nothing(federate, monkeypatch):
    fed, _ = federate("local")
    trained = by_hand(fed, fed.plan(fed.begin({})))

    def refuse(*_):
        raise AssertionError("a message was packed")

    for name in ("pack", "leave", "admit", "encode"):
        monkeypatch.setattr(exchange, name, refuse)
    fed, records = federate("local")
    encoders = METHODS["local"](fed)
    for name, encoder in encoders.items():
        change = trained[name].knowledge.tensors
        assert equal(encoder, {k: v + change[k] for k, v in fed.start.items()})
    assert [(s["bytes_up"], s["bytes_down"]) for s in records[0]["sites"].values()] == [(0, 0)] * 2


def test_mim_is_the_start(federate):
    fed, records = federate("mim")
    assert all(encoder is fed.start for encoder in METHODS["mim"](fed).values())
    assert records == []


def killed_in_stage(number):
    def tell(phase, stage, site, loss):
        if stage == number:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize("method", [name for name in NAMES if name not in WITHOUT_STAGES])
def test_a_killed_and_resumed_run_gives_the_same_encoders(federate, method, tmp_path):
    options = {"stages": 2, "server_optimiser": "momentum", "distil_every": 1}
    fed, _ = federate(method, tell=killed_in_stage(2), **options)
    with pytest.raises(KeyboardInterrupt):
        METHODS[method](fed)
    fed, records = federate(method, **options)
    resumed = METHODS[method](fed)
    assert [r["stage"] for r in records] == [1, 2]
    # a finished method is not trained again, and says the same
    again = METHODS[method](federate(method, tell=killed_in_stage(2), **options)[0])
    (tmp_path / method).rename(tmp_path / "resumed")
    uninterrupted = METHODS[method](federate(method, **options)[0])
    for site, encoder in uninterrupted.items():
        assert equal(encoder, resumed[site])
        assert equal(encoder, again[site])


def test_distillation_happens_every_so_many_stages(federate):
    heard = []
    fed, _ = federate(
        "universal",
        stages=2,
        distil_every=2,
        tell=lambda phase, stage, *_: heard.append((phase, stage)),
    )
    METHODS["universal"](fed)
    assert [what for what in heard if what[0] == "distil"] == [("distil", 2)]


@pytest.mark.parametrize("aggregation", ["trimmed-mean", "median", "krum"])
def test_a_site_gone_wild_is_outvoted(federate, make_site, monkeypatch, aggregation):
    def wild(site, preset, received, head, plan, *seed):
        trained = train_stage(site, preset, received, head, plan, *seed)
        if site.name == "c":
            for value in trained.knowledge.tensors.values():
                value.fill_(1e6)
        return trained

    monkeypatch.setattr(exchange, "train_stage", wild)
    sites = [make_site("single-label", name, n=16, seed=i) for i, name in enumerate("abc")]
    fed, _ = federate("universal", sites, aggregation=aggregation, distil_every=0)
    encoder = METHODS["universal"](fed)["a"]
    assert all((v - fed.start[k]).abs().max() < 1 for k, v in encoder.items())
