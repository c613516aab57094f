"""The main job: prepare the sites, pre-train, run every method for every seed, judge, sum up."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.config import Config
from polyclinic.data.dataset import Finding, SiteData
from polyclinic.data.prepare import prepare_corpus, prepare_site
from polyclinic.data.readers import scan_site
from polyclinic.errors import ConfigError, PolyclinicError
from polyclinic.evaluate.protocols import PROTOCOLS, Outcome, ProtocolName
from polyclinic.federation.exchange import Federation
from polyclinic.federation.methods import METHODS, Encoders
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import Workers
from polyclinic.models.device import asked_precision, device, fixed_precision
from polyclinic.models.masked import MimPlan, encoder_of, pretrain
from polyclinic.models.memory import peak_memory, shortage_explained
from polyclinic.models.state import State, disk_error, load_state, save_state
from polyclinic.models.training import TrainPlan
from polyclinic.run import work
from polyclinic.run.directory import RunDirectory, open_run
from polyclinic.run.environment import settle
from polyclinic.run.examples import write_examples
from polyclinic.run.held_out import held_out_work, judge_held_out
from polyclinic.run.predictions import predictions_path
from polyclinic.run.progress import Progress, Tell, silent
from polyclinic.run.results import collect
from polyclinic.run.roles import lead_method
from polyclinic.run.work import Meter


@dataclass(frozen=True)
class Prepared:
    """All data of a run, in memory."""

    sites: dict[str, SiteData]
    corpus: NDArray[np.uint8]  # (N, 3, S, S)
    findings: tuple[Finding, ...] = ()  # about the corpus
    held_out: Mapping[str, SiteData] = field(default_factory=dict)  # sites that train nothing


@shortage_explained()
def run_experiment(config: Config, out: Path, *, resume: bool = False, tell: Tell = silent) -> Path:
    """Run `config` in the directory `out`; returns the path of results.json.

    A run that was killed at any moment continues with `resume`, and ends with the same results
    (seconds and memory aside). Raises `ConfigError`, `DataError`, `RunError`.
    """
    device()  # nonsense in the environment is found before anything is written
    asked_precision()
    with open_run(out, config, resume=resume) as directory:

        def told(progress: Progress) -> None:
            directory.log(_line(progress))
            tell(progress)

        with fixed_precision(settle(directory, told)):
            data = prepare(config, told)
            total = work.whole_run(config, data.sites, len(data.corpus))
            meter = Meter(total + held_out_work(config, data.held_out), told)
            with Workers(data.sites, config.jobs) as workers:
                for seed in config.seeds:
                    start = _pretrained(directory, data.corpus, seed, meter)
                    for method in config.methods:
                        run = _MethodRun(directory, data, workers, meter, method, seed)
                        encoders = run.train(start)
                        run.judge(encoders)
                        judge_held_out(
                            directory,
                            data.held_out,
                            encoders,
                            _plan(config, "linear-probe"),
                            method,
                            seed,
                            meter,
                        )
                    if seed != config.seeds[-1]:
                        results = collect(
                            directory, data.sites, data.corpus, data.findings, data.held_out
                        )
                        directory.write_json("results.json", results)
            results = collect(
                directory, data.sites, data.corpus, data.findings, data.held_out, finished=True
            )
            return directory.write_json("results.json", results)


def prepare(config: Config, tell: Tell = silent) -> Prepared:
    """Read and prepare every site and the corpus; errors name the site."""
    d = config.data
    sites = {}
    for site in config.sites:
        tell(Progress("prepare", 0.0, site=site.name))
        try:
            scan = scan_site(site.path, format=site.format, task=site.task)
            sites[site.name] = prepare_site(
                scan,
                name=site.name,
                image_size=d.image_size,
                largest_side=d.largest_side,
                split_seed=d.split_seed,
                val_share=d.val_share,
                test_share=d.test_share,
                max_unreadable=d.max_unreadable,
                max_train_images=d.max_train_images,
                cache=cache_folder(),
            )
        except PolyclinicError as error:
            if f"'{site.name}'" in str(error):
                raise
            raise type(error)(f"site '{site.name}': {error}") from None
        for finding in sites[site.name].findings:
            if finding.severity != "info":
                text = f"{finding.where}: {finding.what}" if finding.where else finding.what
                tell(Progress("prepare", 0.0, site=site.name, message=text))
    tell(Progress("prepare", 0.0, site="public corpus"))
    corpus, findings = prepare_corpus(
        config.corpus,
        image_size=d.image_size,
        max_unreadable=d.max_unreadable,
        max_train_images=d.max_train_images,
        split_seed=d.split_seed,
        cache=cache_folder(),
    )
    held_out = {name: sites.pop(name) for name in config.hold_out}
    return Prepared(sites, corpus, findings, held_out)


def cache_folder() -> Path:
    """Where prepared images are kept: POLYCLINIC_CACHE, else the user's cache folder."""
    named = os.environ.get("POLYCLINIC_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "polyclinic"


@dataclass(frozen=True)
class _MethodRun:
    """One method with one seed."""

    directory: RunDirectory[Config]
    data: Prepared
    workers: Workers
    meter: Meter
    method: str
    seed: int

    @property
    def unit(self) -> str:
        return f"seed-{self.seed}/{self.method}"

    def train(self, start: State) -> Encoders:
        """Train, or go on training, with the method; keeps the resulting encoders."""
        config, folder = self.directory.config, self.directory.path / self.unit
        kept = folder / "encoders"
        names = list(self.data.sites)
        shared = kept / "encoder.safetensors"
        if shared.exists():
            self._skip_stages(config.local.stages)
            return dict.fromkeys(names, load_state(shared))
        own = {name: kept / f"{name}.safetensors" for name in names}
        if all(path.exists() for path in own.values()):
            self._skip_stages(config.local.stages)
            return {name: load_state(path) for name, path in own.items()}
        stages = config.local.stages
        store = StageStore(folder, self.directory.record)
        self._skip_stages(_done(store, stages))

        def told(phase: str, stage: int, site: str, loss: float | None) -> None:
            if phase == "distil":
                cost = work.distillation(config, len(names), len(self.data.corpus))
            else:
                cost = work.stage(config, self.method, self.data.sites[site])
            self.meter.advance(
                cost,
                "distil" if phase == "distil" else "train",
                method=self.method,
                seed=self.seed,
                stage=stage,
                stages=stages,
                site=site,
                loss=loss,
                message=f"{site} is absent from this stage" if phase == "absent" else "",
            )

        federation = Federation(
            method=self.method,
            seed=self.seed,
            start=start,
            corpus=self.data.corpus,
            config=config,
            workers=self.workers,
            store=store,
            tell=told,
        )
        self.workers.peak_mib = 0.0
        with peak_memory() as peak:
            encoders = METHODS[self.method](federation)
        first = encoders[names[0]]
        if all(encoder is first for encoder in encoders.values()):
            save_state(first, shared)
        else:
            for name, encoder in encoders.items():
                save_state(encoder, own[name])
        self.directory.record(
            {
                "unit": f"{self.unit}/trained",
                "kind": "trained",
                "method": self.method,
                "seed": self.seed,
                "peak_memory_mib": max(peak[0], self.workers.peak_mib),
            }
        )
        return encoders

    def judge(self, encoders: Encoders) -> None:
        """Judge the encoders at every site by every protocol, each test split once."""
        config = self.directory.config
        for protocol in PROTOCOLS:
            todo = [name for name in self.data.sites if not self._judged(name, protocol)]
            for name in self.data.sites.keys() - set(todo):
                self.meter.skip(work.judging(config, self.data.sites[name], protocol))
            plan = _plan(config, protocol)
            seed = (self.seed, self.method, protocol)
            tasks = [(n, (protocol, config.preset, encoders[n], plan, (*seed, n))) for n in todo]
            began = time.perf_counter()
            for name, result in self.workers.map(_judge_site, tasks):
                if isinstance(result, PolyclinicError):
                    raise type(result)(f"{self.method} at site '{name}': {result}")
                # time that passed, as for training: sites that are judged at once share it
                now = time.perf_counter()
                self._keep(name, protocol, *result, seconds=now - began)
                began = now
                self.meter.advance(
                    work.judging(config, self.data.sites[name], protocol),
                    "probe" if protocol == "linear-probe" else "fine-tune",
                    method=self.method,
                    seed=self.seed,
                    site=name,
                )

    def _keep(
        self, site: str, protocol: ProtocolName, outcome: Outcome, peak: float, *, seconds: float
    ) -> None:
        config = self.directory.config
        shown = (lead_method(config.methods) or config.methods[0], config.seeds[0])
        if (self.method, self.seed) == shown and protocol == "fine-tune":
            examples = self.directory.path / "examples"
            write_examples(examples, self.data.sites[site], self.method, outcome)
        path = predictions_path(self.directory.path, self.seed, self.method, site, protocol)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            outcome.predictions.save(path)
        except OSError as error:
            raise disk_error(error, path) from None
        self.directory.record(
            {
                "unit": f"{self.unit}/{protocol}/{site}",
                "kind": "judged",
                "method": self.method,
                "seed": self.seed,
                "protocol": protocol,
                "site": site,
                "validation": outcome.validation,
                "test_images": len(outcome.predictions),
                "seconds": seconds,
                "peak_memory_mib": peak,
            }
        )

    def _judged(self, site: str, protocol: ProtocolName) -> bool:
        path = predictions_path(self.directory.path, self.seed, self.method, site, protocol)
        return f"{self.unit}/{protocol}/{site}" in self.directory.records and path.exists()

    def _skip_stages(self, number: int) -> None:
        config, data = self.directory.config, self.data
        self.meter.skip(work.stages(config, self.method, data.sites, len(data.corpus), number))


def _done(store: StageStore, total: int) -> int:
    found = store.latest(total)
    return found.done if found else 0


def _pretrained(
    directory: RunDirectory[Config], corpus: NDArray[np.uint8], seed: int, meter: Meter
) -> State:
    config = directory.config
    folder = directory.path / f"seed-{seed}" / "mim"
    done = folder / "start.safetensors"
    cost = work.pretraining(config, len(corpus))
    if done.exists():
        meter.skip(cost * config.mim.epochs)
        return load_state(done)
    checkpoint = folder / "pretraining.safetensors"
    resumed = load_state(checkpoint) if checkpoint.exists() else None
    if resumed is not None:
        meter.skip(cost * (int(resumed["epoch"]) + 1))
    m = config.mim
    plan = MimPlan(m.epochs, m.batch_size, m.learning_rate, m.weight_decay, m.mask_ratio, m.patch)
    began = time.perf_counter()
    everything = resumed
    with peak_memory() as peak:
        for epoch, loss, state in pretrain(config.preset, corpus, plan, seed, resumed):
            everything = state
            save_state(state, checkpoint)
            now = time.perf_counter()
            directory.record(
                {
                    "unit": f"seed-{seed}/mim/epoch-{epoch + 1:03d}",
                    "kind": "pretraining",
                    "seed": seed,
                    "epoch": epoch + 1,
                    "loss": loss,
                    "seconds": now - began,
                }
            )
            began = now
            meter.advance(
                cost, "mim", method="mim", seed=seed, stage=epoch + 1, stages=m.epochs, loss=loss
            )
    if everything is None:
        raise ConfigError("mim.epochs: expected at least 1, got 0")
    start = encoder_of(everything)
    save_state(start, done)
    checkpoint.unlink(missing_ok=True)
    directory.record(
        {
            "unit": f"seed-{seed}/mim/pretrained",
            "kind": "pretrained",
            "seed": seed,
            "peak_memory_mib": peak[0],
        }
    )
    return start


def _judge_site(
    site: SiteData,
    protocol: ProtocolName,
    preset: Any,
    state: State,
    plan: TrainPlan,
    seed: tuple[int | str, ...],
) -> tuple[Outcome, float]:
    with peak_memory() as peak:
        outcome = PROTOCOLS[protocol](preset, state, site, plan, *seed)
    return outcome, peak[0]


def _plan(config: Config, protocol: ProtocolName) -> TrainPlan:
    c, e = config.local, config.evaluation
    plan = TrainPlan(
        size=config.data.image_size,
        epochs=e.fine_tune_epochs,
        min_steps=c.min_steps,
        max_steps=e.fine_tune_max_steps,
        batch_size=c.batch_size,
        learning_rate=c.learning_rate,
        weight_decay=c.weight_decay,
        dense_head_epochs=c.dense_head_epochs,
    )
    return replace(plan, dense_head_epochs=e.probe_epochs) if protocol == "linear-probe" else plan


def _line(p: Progress) -> str:
    stage = f"stage {p.stage}/{p.stages}" if p.stage else ""
    seed = f"seed {p.seed}" if p.seed is not None else ""
    loss = f"loss {p.loss:.4f}" if p.loss is not None else ""
    parts = (f"{100 * p.done:5.1f} %", seed, p.method, p.phase, stage, p.site, loss, p.message)
    return " ".join(part for part in parts if part)
