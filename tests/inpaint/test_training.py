"""Training: it learns, it stops and goes on as if nothing had been, and it keeps to the region."""

import dataclasses
from statistics import median

import pytest
import torch

from polyclinic.errors import RunError
from polyclinic.inpaint.crops import Batch, Crops, Views
from polyclinic.inpaint.objectives import OBJECTIVES
from polyclinic.inpaint.regions import Mixture
from polyclinic.inpaint.training import PaintPlan, Trainer, rate, region_loss
from polyclinic.models.state import state_of
from polyclinic.seeding import generator

PLAN = PaintPlan(steps=6, batch_size=4, warm_up=2)

pytestmark = pytest.mark.usefixtures("exact")


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_resuming_changes_nothing(cases, tiny, tmp_path, objective):
    plan = dataclasses.replace(PLAN, objective=objective)
    whole = Trainer(cases, plan)
    losses = list(whole.run(6))
    first = Trainer(cases, plan)
    before = list(first.run(2))
    first.save(tmp_path / "checkpoint.safetensors")
    second = Trainer(cases, plan)
    second.resume(tmp_path / "checkpoint.safetensors")
    assert before + list(second.run(9)) == losses
    assert second.step == 6
    assert equal(state_of(second.network), state_of(whole.network))
    assert equal(state_of(second.average), state_of(whole.average))


def test_a_checkpoint_of_another_network_is_refused(cases, tiny, tmp_path, monkeypatch):
    trainer = Trainer(cases, PLAN)
    trainer.save(tmp_path / "checkpoint.safetensors")
    monkeypatch.setattr(trainer, "network", torch.nn.Linear(2, 2))
    with pytest.raises(RunError, match=r"belongs to another training .*choose another --out"):
        trainer.resume(tmp_path / "checkpoint.safetensors")


def test_the_loss_falls(cases, tiny):
    plan = dataclasses.replace(PLAN, steps=200, batch_size=8, learning_rate=2e-3)
    losses = list(Trainer(cases, plan).run(200))
    assert median(losses[-30:]) < 0.7 * median(losses[:30])  # means follow single low levels


class Fixed(torch.nn.Module):
    """A network with one answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, *_):
        return self.answer


def test_only_what_is_diffused_counts(cases, tiny):
    batch = Crops(cases, tiny, 0, Views(), Mixture()).batch(0, 8)
    flow, levels = OBJECTIVES["flow"], torch.full((8,), 0.5)

    def loss(answer):
        return float(region_loss(Fixed(answer), flow, batch, generator(0), 0.5, levels))

    assert loss(batch.x) == 0
    outside = 1 - batch.request.diffused_mask
    assert loss(batch.x + outside) == 0
    assert loss(batch.x + 0.1 * batch.request.diffused_mask) > 0


def test_the_loss_against_a_loop(cases, tiny):
    batch = Crops(cases, tiny, 0, Views(), Mixture(boxed=1)).batch(0, 6)
    answer = batch.x + torch.randn(batch.x.shape, generator=generator(1))
    levels = torch.linspace(0.1, 1, 6)
    found = region_loss(Fixed(answer), OBJECTIVES["flow"], batch, generator(0), 0.5, levels)
    total = 0.0
    for n in range(6):
        inside = batch.request.fill_map[n] != -1
        box = batch.request.box_mask[n, 0] > 0
        error = ((answer[n] - batch.x[n]) / levels[n]) ** 2
        summed = error[0][inside].sum()
        if not batch.request.dropped[n]:
            summed = summed + 0.5 * error[1][box].sum()
        total += float(summed / max(int(inside.sum()), 32))
    assert float(found) == pytest.approx(total / 6, rel=1e-4)


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing():
    plan = PaintPlan(steps=100, warm_up=10, decay_from=0.6)
    rates = [rate(step, plan) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10:60] == [1.0] * 50
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[-1] < 0.01


def test_a_batch_is_not_changed_by_training_on_it(cases, tiny):
    trainer = Trainer(cases, PLAN)
    batch = trainer.crops.batch(0, 4)
    before = Batch(batch.x.clone(), batch.request)
    trainer._step(batch)
    assert torch.equal(batch.x, before.x)
