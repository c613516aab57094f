"""Learning without labels: how it goes on after a kill, and what comes out."""

from itertools import pairwise

import pytest
import torch

from polyclinic.config import MimConfig
from polyclinic.models import pretraining as module
from polyclinic.models.contrastive import CONTRASTIVE
from polyclinic.models.encoder import build_encoder
from polyclinic.models.masked import MASKED
from polyclinic.models.pretraining import (
    PretrainPlan,
    encoder_of,
    network,
    pretrain,
    pretrain_plan,
)
from polyclinic.models.state import load_state, save_state, state_of
from polyclinic.seeding import generator

PLAN = PretrainPlan(
    epochs=4, batch_size=4, learning_rate=1e-3, weight_decay=0.05, mask_ratio=0.6, patch=4
)


@pytest.fixture(scope="module")
def corpus():
    gen = generator(0, "corpus")
    coarse = torch.randint(0, 256, (10, 3, 4, 4), generator=gen, dtype=torch.uint8)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).numpy()


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("objective", [MASKED, CONTRASTIVE], ids=lambda o: o.name)
def test_a_resumed_pretraining_is_the_same_to_the_last_bit(exact, corpus, tmp_path, objective):
    whole = [*pretrain(objective, "small", corpus, PLAN, seed=3)]
    assert [epoch for epoch, _, _ in whole] == [0, 1, 2, 3]
    for after in (0, 2):
        save_state(whole[after][2], tmp_path / "mim.safetensors")
        torch.rand(3)
        rest = [
            *pretrain(objective, "small", corpus, PLAN, 3, load_state(tmp_path / "mim.safetensors"))
        ]
        assert [epoch for epoch, _, _ in rest] == [*range(after + 1, 4)]
        for (_, loss, state), (_, again, resumed) in zip(whole[after + 1 :], rest, strict=True):
            assert loss == again
            assert equal(state, resumed)
    assert [*pretrain(objective, "small", corpus, PLAN, 3, whole[-1][2])] == []
    first, last = whole[0][1], whole[-1][1]
    assert last < first


def test_yielded_states_do_not_change_afterwards(exact, corpus):
    states = []
    for _, _, state in pretrain(MASKED, "small", corpus, PLAN, seed=0):
        states.append((state, {k: v.clone() for k, v in state.items()}))
        if len(states) == 2:
            break
    assert all(equal(state, copy) for state, copy in states)


def test_the_encoder_in_a_state(exact, corpus):
    _, _, state = next(iter(pretrain(MASKED, "small", corpus, PLAN, seed=0)))
    encoder = encoder_of(state)
    fresh = state_of(build_encoder("small", 0))
    assert {k: v.shape for k, v in encoder.items()} == {k: v.shape for k, v in fresh.items()}
    assert not equal(encoder, fresh)


def test_the_learning_rate_rises_and_falls():
    rates = [module._cosine(step, 20, warmup=4) for step in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 1
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert 0 < rates[-1] < 0.05


def test_the_plan_is_that_of_the_configuration():
    assert pretrain_plan(MimConfig(7, 9, 32, 2e-3, 0.1, 0.5, 4)) == PretrainPlan(
        7, 32, 2e-3, 0.1, 0.5, 4
    )


def test_weights_around_an_encoder_come_from_the_seed_alone():
    first, again, other = (
        state_of(network(MASKED, build_encoder("small", 0), seed)) for seed in (1, 1, 2)
    )
    assert equal(first, again)
    assert not equal(first, other)
    assert all(torch.equal(first[k], other[k]) for k in first if k.startswith("encoder."))
