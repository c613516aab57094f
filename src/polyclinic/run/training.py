"""Training as it is journalled in a run's directory: the common start, then each method.

The same for a federation in one process and for one whose sites are hospitals' machines: what
differs is the `SiteWork` that reaches the sites.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polyclinic.config import Config
from polyclinic.errors import ConfigError
from polyclinic.federation.exchange import Federation, Tell
from polyclinic.federation.methods import METHODS, STARTS, Encoders
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import SiteWork
from polyclinic.models.contrastive import CONTRASTIVE
from polyclinic.models.encoder import build_encoder
from polyclinic.models.masked import MASKED
from polyclinic.models.memory import peak_memory
from polyclinic.models.pretraining import Objective, encoder_of, pretrain, pretrain_plan
from polyclinic.models.state import State, load_state, save_state, state_of
from polyclinic.run import work
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.work import Meter
from polyclinic.seeding import derive

SHARED = "encoder.safetensors"


def kept_encoders(
    directory: RunDirectory[Config], method: str, seed: int, names: Sequence[str]
) -> Encoders | None:
    """The encoders of a method that has finished, or None."""
    kept = directory.path / _unit(method, seed) / "encoders"
    shared = kept / SHARED
    if shared.exists():
        return dict.fromkeys(names, load_state(shared))
    own = {name: kept / f"{name}.safetensors" for name in names}
    if all(path.exists() for path in own.values()):
        return {name: load_state(path) for name, path in own.items()}
    return None


def finished_stages(directory: RunDirectory[Config], method: str, seed: int) -> int:
    """How many stages of a method are done."""
    store = StageStore(directory.path / _unit(method, seed), directory.record)
    found = store.latest(directory.config.local.stages)
    return found.done if found else 0


def train_method(
    directory: RunDirectory[Config],
    workers: SiteWork,
    start: State,
    corpus: NDArray[np.uint8],
    method: str,
    seed: int,
    tell: Tell,
    largest_worker: Callable[[], float] = lambda: 0.0,
    stage_done: Callable[[Record], None] = lambda _: None,
) -> Encoders:
    """Train, or go on training, with a method; keeps the resulting encoders.

    `corpus` is (N, 3, S, S); `largest_worker` tells the peak memory of processes elsewhere, MiB;
    `stage_done` gets the record of each stage that is finished now.
    """
    unit = _unit(method, seed)
    folder = directory.path / unit

    def record(stage: Record) -> None:
        new = stage["unit"] not in directory.records
        directory.record(stage)
        if new:
            stage_done(stage)

    federation = Federation(
        method=method,
        seed=seed,
        start=start,
        corpus=corpus,
        config=directory.config,
        workers=workers,
        store=StageStore(folder, record),
        tell=tell,
        ledgers=directory.path / "ledgers",
    )
    with peak_memory() as peak:
        encoders = METHODS[method](federation)
    kept = folder / "encoders"
    first = encoders[workers.names[0]]
    if all(encoder is first for encoder in encoders.values()):
        save_state(first, kept / SHARED)
    else:
        for name, encoder in encoders.items():
            save_state(encoder, kept / f"{name}.safetensors")
    directory.record(
        {
            "unit": f"{unit}/trained",
            "kind": "trained",
            "method": method,
            "seed": seed,
            "peak_memory_mib": max(peak[0], largest_worker()),
        }
    )
    return encoders


def own_start(
    directory: RunDirectory[Config], corpus: NDArray[np.uint8], method: str, seed: int, meter: Meter
) -> State | None:
    """The encoder that a method alone starts from; None where it is everybody's."""
    kind = STARTS.get(method)
    if kind == "random":
        return state_of(build_encoder(directory.config.preset, derive(seed, method)))
    if kind == CONTRASTIVE.name:
        return pretrained_start(directory, corpus, seed, meter, CONTRASTIVE, baseline=True)
    if method == MASKED.name and directory.config.mim.baseline_epochs:
        return pretrained_start(directory, corpus, seed, meter, baseline=True)
    return None


def pretrained_start(
    directory: RunDirectory[Config],
    corpus: NDArray[np.uint8],
    seed: int,
    meter: Meter,
    objective: Objective = MASKED,
    *,
    baseline: bool = False,
) -> State:
    """An encoder pre-trained (or gone on with) on the corpus, without labels.

    A `baseline` is a method of its own, and may be trained for longer than everybody's start.
    """
    config, name = directory.config, objective.name
    folder = directory.path / f"seed-{seed}" / name
    longer = config.mim.baseline_epochs if baseline else 0
    prefix = "baseline-" if longer else ""
    done = folder / f"{prefix}start.safetensors"
    plan = pretrain_plan(config.mim)
    if longer:
        plan = replace(plan, epochs=longer)
    cost = work.pretraining(config, len(corpus), name)
    if done.exists():
        meter.skip(cost * plan.epochs)
        return load_state(done)
    checkpoint = folder / f"{prefix}pretraining.safetensors"
    resumed = load_state(checkpoint) if checkpoint.exists() else None
    if resumed is not None:
        meter.skip(cost * (int(resumed["epoch"]) + 1))
    began = time.perf_counter()
    everything = resumed
    with peak_memory() as peak:
        for epoch, loss, state in pretrain(objective, config.preset, corpus, plan, seed, resumed):
            everything = state
            save_state(state, checkpoint)
            now = time.perf_counter()
            directory.record(
                {
                    "unit": f"seed-{seed}/{name}/{prefix}epoch-{epoch + 1:03d}",
                    "kind": "pretraining",
                    "method": name,
                    "seed": seed,
                    "epoch": epoch + 1,
                    "loss": loss,
                    "seconds": now - began,
                }
            )
            began = now
            meter.advance(
                cost, name, method=name, seed=seed, stage=epoch + 1, stages=plan.epochs, loss=loss
            )
    if everything is None:
        raise ConfigError("mim.epochs: expected at least 1, got 0")
    start = encoder_of(everything)
    save_state(start, done)
    checkpoint.unlink(missing_ok=True)
    directory.record(
        {
            "unit": f"seed-{seed}/{name}/{prefix}pretrained",
            "kind": "pretrained",
            "method": name,
            "seed": seed,
            "peak_memory_mib": peak[0],
        }
    )
    return start


def _unit(method: str, seed: int) -> str:
    return f"seed-{seed}/{method}"
