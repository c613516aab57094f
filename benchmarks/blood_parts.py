"""What the benchmarks train on: phantom blood images, as a small federation of eight equal parts.

FOLDER/
  federation.toml    the federation's configuration
  start.safetensors  the encoder that every measured program begins with
  <part>.npz         one site: images, targets, splits
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyclinic.config import Config
from polyclinic.config import load_config as read_config
from polyclinic.data.dataset import SPLITS, Item, SiteData
from polyclinic.data.phantoms import blood
from polyclinic.data.splits import split_items
from polyclinic.federation.plans import stage_plan
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import State, load_state, save_state, state_of
from polyclinic.models.training import TrainPlan


@dataclass(frozen=True)
class Size:
    """How much work the federation is."""

    parts: int = 8
    images: int = 160  # a part
    image_size: int = 48  # px
    stages: int = 3
    steps: int = 24  # batches a part and stage

    def describe(self, seed: int) -> dict[str, Any]:
        """The federation in words and numbers, for a result file."""
        return {
            "data": f"phantom blood images (seed {seed}), {self.parts} parts",
            "images_a_part": self.images,
            "image_size_px": self.image_size,
            "stages": self.stages,
            "training_steps_a_part_and_stage": self.steps,
            "batch_size": 32,
            "encoder": "small",
            "method": "fedavg, private heads",
        }


SMOKE = Size(parts=8, images=40, image_size=16, stages=2, steps=1)


def write_parts(folder: Path, size: Size, seed: int) -> None:
    """Fill `folder` with the federation."""
    names = [f"part-{number}" for number in range(size.parts)]
    (folder / "federation.toml").write_text(_toml(size, names, seed), encoding="utf-8")
    config = load_config(folder)
    save_state(state_of(build_encoder("small", seed)), folder / "start.safetensors")
    samples = blood.generate(size.parts * size.images, seed=seed, size=size.image_size)
    for number, name in enumerate(names):
        own = samples[number :: size.parts]
        targets = [blood.CLASSES.index(sample.label) for sample in own]
        split = split_items(
            [Item(s.patient, s.patient, t) for s, t in zip(own, targets, strict=True)],
            blood.CLASSES,
            seed=seed,
            val_share=config.data.val_share,
            test_share=config.data.test_share,
        )
        images = np.stack([sample.image.transpose(2, 0, 1) for sample in own])
        np.savez(folder / f"{name}.npz", images=images, targets=np.array(targets), **split)


def _toml(size: Size, names: list[str], seed: int) -> str:
    sites = [f'[[sites]]\nname = "{name}"\npath = "{name}.npz"\n' for name in names]
    return f"""corpus = "none"
seeds = [{seed}]
methods = ["fedavg"]

[data]
image_size = {size.image_size}

[local]
stages = {size.stages}
min_steps = {size.steps}
max_steps = {size.steps}

""" + "\n".join(sites)


def one_site(count: int, size: int, seed: int) -> SiteData:
    """A site with `count` training images and nothing else."""
    samples = blood.generate(count, seed=seed, size=size)
    rows = np.arange(count)
    return SiteData(
        name="blood",
        task="single-label",
        classes=blood.CLASSES,
        images=np.stack([sample.image.transpose(2, 0, 1) for sample in samples]),
        targets=np.array([blood.CLASSES.index(sample.label) for sample in samples]),
        patients=rows,
        keys=tuple(map(str, rows)),
        split={"train": rows, "val": rows[:0], "test": rows[:0]},
        format="npz",
    )


def load_config(folder: Path) -> Config:
    """The federation's configuration."""
    return read_config(folder / "federation.toml")


def plan_of(config: Config, stage: int) -> TrainPlan:
    """The local training of a stage, counted from 0, as Polyclinic's own federation plans it."""
    return stage_plan(config, stage)


def load_start(folder: Path) -> State:
    """The encoder that everybody begins with."""
    return load_state(folder / "start.safetensors")


def load_part(folder: Path, name: str) -> SiteData:
    """One site."""
    with np.load(folder / f"{name}.npz") as stored:
        arrays = dict(stored)
    count = len(arrays["images"])
    return SiteData(
        name=name,
        task="single-label",
        classes=blood.CLASSES,
        images=arrays["images"],
        targets=arrays["targets"],
        patients=np.arange(count),
        keys=tuple(map(str, range(count))),
        split={split: arrays[split] for split in SPLITS},
        format="npz",
    )


def load_parts(folder: Path) -> dict[str, SiteData]:
    """Every site by name."""
    return {site.name: load_part(folder, site.name) for site in load_config(folder).sites}


def no_corpus() -> NDArray[np.uint8]:
    """The public corpus of a federation that distils nothing."""
    return np.zeros((0, 3, 16, 16), np.uint8)


def compare(one: State, other: State) -> dict[str, Any]:
    """How far two encoders agree."""
    far = max(float((value - other[name]).abs().max()) for name, value in one.items())
    return {
        "bit_identical": all(torch.equal(value, other[name]) for name, value in one.items()),
        "largest_difference": far,
        "allclose": all(torch.allclose(value, other[name]) for name, value in one.items()),
    }
