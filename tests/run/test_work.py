"""How far a run is, and how long it will still take."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from polyclinic.config import Config, SiteConfig
from polyclinic.data.dataset import SiteData, Task
from polyclinic.run import work
from polyclinic.run.progress import Progress
from polyclinic.run.work import Meter

CONFIG = Config(sites=(SiteConfig("a", Path("a")),), corpus=Path("corpus"), seeds=(0,))


def site(task: Task, images: int, side: int, channels: int) -> SiteData:
    train, val = int(0.65 * images), int(0.15 * images)
    rows = np.arange(images)
    return SiteData(
        name=task,
        task=task,
        classes=("x", "y"),
        images=np.zeros((images, channels, side, side), np.uint8),
        targets=np.zeros(images, np.int64),
        patients=rows,
        keys=tuple(map(str, rows)),
        split={"train": rows[:train], "val": rows[train:][:val], "test": rows[train + val :]},
        format="npz",
    )


SMALL = site("single-label", 800, 48, 1)
LARGE = site("single-label", 3000, 48, 1)
MASKS = site("segmentation", 60, 256, 3)
SITES = {"small": SMALL, "large": LARGE, "masks": MASKS}
MEASURED = {
    "pre-training, an epoch of 512 images": (2.4, work.pretraining(CONFIG, 512)),
    "fedavg, small": (4.6, work.stage(CONFIG, "fedavg", SMALL)),
    "fedavg, large": (9.4, work.stage(CONFIG, "fedavg", LARGE)),
    "fedavg, masks": (4.7, work.stage(CONFIG, "fedavg", MASKS)),
    "universal, small": (6.6, work.stage(CONFIG, "universal", SMALL)),
    "universal, large": (13.6, work.stage(CONFIG, "universal", LARGE)),
    "universal, masks": (10.4, work.stage(CONFIG, "universal", MASKS)),
    "distillation of 8 sites with 256 images": (3.8, work.distillation(CONFIG, 8, 256)),
    "linear probe, small": (0.9, work.judging(CONFIG, SMALL, "linear-probe")),
    "linear probe, large": (2.8, work.judging(CONFIG, LARGE, "linear-probe")),
    "linear probe, masks": (5.9, work.judging(CONFIG, MASKS, "linear-probe")),
    "fine-tune, small": (13.4, work.judging(CONFIG, SMALL, "fine-tune")),
    "fine-tune, large": (19.6, work.judging(CONFIG, LARGE, "fine-tune")),
    "fine-tune, masks": (18.6, work.judging(CONFIG, MASKS, "fine-tune")),
}
"""Seconds on one core, as measured, and the work that they are counted as."""


@pytest.mark.parametrize("name", MEASURED)
def test_units_of_work_take_about_equally_long(name: str):
    rates = {key: seconds / units for key, (seconds, units) in MEASURED.items()}
    assert rates[name] == pytest.approx(np.median(list(rates.values())), rel=0.4)


def test_the_time_left_is_about_right_from_the_first_step():
    now, told = [0.0], []
    whole = sum(seconds for seconds, _ in MEASURED.values())
    meter = Meter(sum(units for _, units in MEASURED.values()), told.append, lambda: now[0])
    for seconds, units in MEASURED.values():
        now[0] += seconds
        meter.advance(units, "train")
        left = told[-1].seconds_left or 0.0
        assert left == pytest.approx(whole - now[0], rel=0.3, abs=2)
    assert told[-1].done == pytest.approx(1.0)


def test_what_an_earlier_run_did_counts_as_done_and_not_as_time():
    now = [0.0]
    told: list[Progress] = []
    meter = Meter(100, told.append, lambda: now[0])
    meter.skip(60)
    now[0] = 10.0
    meter.advance(20, "train")
    assert (told[0].done, told[0].seconds_left) == (0.8, pytest.approx(10.0))


def test_the_parts_add_up_to_the_whole():
    methods = ("universal", "local", "mim", "contrastive")
    config = dataclasses.replace(CONFIG, methods=methods, seeds=(0, 1))
    parts = 3 * work.pretraining(config, 512) * config.mim.epochs  # one of them on two views
    for method in config.methods:
        parts += work.stages(config, method, SITES, 512, config.local.stages)
        for s in SITES.values():
            parts += work.judging(config, s, "linear-probe") + work.judging(config, s, "fine-tune")
    assert work.whole_run(config, SITES, 512) == pytest.approx(2 * parts)


def test_baselines_may_be_trained_for_longer_than_the_start():
    methods = ("mim", "contrastive")
    mim = dataclasses.replace(CONFIG.mim, epochs=2, baseline_epochs=5)
    config = dataclasses.replace(CONFIG, methods=methods, mim=mim)
    epoch = work.pretraining(config, 512)
    assert work.on_corpus(config, 512) == pytest.approx((2 + 5 + 2 * 5) * epoch)
    alone = dataclasses.replace(config, methods=("universal",))
    assert work.on_corpus(alone, 512) == pytest.approx(2 * epoch)


def test_stages_count_their_distillations():
    one, four = (work.stages(CONFIG, "universal", SITES, 512, n) for n in (1, 4))
    assert four == pytest.approx(4 * one + work.distillation(CONFIG, len(SITES), 512))
    assert work.stages(CONFIG, "mim", SITES, 512, 4) == 0
    assert work.stages(CONFIG, "contrastive", SITES, 512, 4) == 0
