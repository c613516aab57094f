"""The main job: prepare the sites, pre-train, run every method for every seed, judge, sum up."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.config import Config, DataConfig, SiteConfig
from polyclinic.data.dataset import Finding, SiteData
from polyclinic.data.decoding import Done, unheard
from polyclinic.data.prepare import prepare_corpus, prepare_site
from polyclinic.data.readers import scan_site
from polyclinic.errors import PolyclinicError
from polyclinic.evaluate.protocols import PROTOCOLS, Outcome, ProtocolName, protocol_plan
from polyclinic.federation.methods import Encoders
from polyclinic.federation.privacy.accounting import need
from polyclinic.federation.workers import Workers
from polyclinic.models.device import asked_precision, device, fixed_precision
from polyclinic.models.memory import peak_memory, shortage_explained
from polyclinic.models.state import State, disk_error
from polyclinic.models.training import TrainPlan
from polyclinic.run import work
from polyclinic.run.directory import RunDirectory, open_run
from polyclinic.run.environment import settle
from polyclinic.run.examples import write_examples
from polyclinic.run.held_out import held_out_work, judge_held_out
from polyclinic.run.predictions import predictions_path
from polyclinic.run.progress import Progress, Tell, silent, time_left
from polyclinic.run.results import collect
from polyclinic.run.roles import lead_method
from polyclinic.run.training import (
    finished_stages,
    kept_encoders,
    own_start,
    pretrained_start,
    train_method,
)
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
    if config.privacy.epsilon or config.privacy.site_epsilon:
        need()
    with open_run(out, config, resume=resume) as directory:
        told = directory.telling(tell, line)
        with fixed_precision(settle(directory, told)):
            data = prepare(config, told)
            total = work.whole_run(config, data.sites, len(data.corpus))
            meter = Meter(total + held_out_work(config, data.held_out), told)
            with Workers(data.sites, config.jobs) as workers:
                for seed in config.seeds:
                    start = pretrained_start(directory, data.corpus, seed, meter)
                    for method in config.methods:
                        own = own_start(directory, data.corpus, method, seed, meter)
                        run = _MethodRun(directory, data, workers, meter, method, seed)
                        encoders = run.train(own or start)
                        run.judge(encoders)
                        judge_held_out(
                            directory,
                            data.held_out,
                            encoders,
                            protocol_plan(config),
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
            sites[site.name] = prepared_site(site, d, _decoding(tell, site.name))
        except PolyclinicError as error:
            if f"'{site.name}'" in str(error):
                raise
            raise type(error)(f"site '{site.name}': {error}") from None
        for finding in sites[site.name].findings:
            if finding.severity != "info":
                text = f"{finding.where}: {finding.what}" if finding.where else finding.what
                tell(Progress("prepare", 0.0, site=site.name, message=text))
    tell(Progress("prepare", 0.0, site="public corpus"))
    corpus, findings = prepared_corpus(config, _decoding(tell, "public corpus"))
    held_out = {name: sites.pop(name) for name in config.hold_out}
    return Prepared(sites, corpus, findings, held_out)


def _decoding(tell: Tell, name: str) -> Done:
    """Tells of a long preparation, whose share of the run nobody knows, how long it takes."""
    left = time_left()

    def done(share: float) -> None:
        tell(Progress("prepare", 0.0, site=name, seconds_left=left(share)))

    return done


def prepared_site(site: SiteConfig, d: DataConfig, done: Done = unheard) -> SiteData:
    """Read and prepare one site; `done` is told the share that is decoded. Raises `DataError`."""
    return prepare_site(
        scan_site(site.path, format=site.format, task=site.task),
        name=site.name,
        image_size=d.image_size,
        largest_side=d.largest_side,
        split_seed=d.split_seed,
        val_share=d.val_share,
        test_share=d.test_share,
        max_unreadable=d.max_unreadable,
        max_train_images=d.max_train_images,
        cache=cache_folder(),
        done=done,
    )


def prepared_corpus(
    config: Config, done: Done = unheard
) -> tuple[NDArray[np.uint8], tuple[Finding, ...]]:
    """Read and prepare the public corpus: (images (N, 3, S, S), findings)."""
    d = config.data
    return prepare_corpus(
        config.corpus,
        image_size=d.image_size,
        max_unreadable=d.max_unreadable,
        max_train_images=d.max_train_images,
        split_seed=d.split_seed,
        cache=cache_folder(),
        done=done,
    )


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
        config, directory = self.directory.config, self.directory
        names, stages = list(self.data.sites), config.local.stages
        if kept := kept_encoders(directory, self.method, self.seed, names):
            self._skip_stages(stages)
            return kept
        self._skip_stages(finished_stages(directory, self.method, self.seed))

        def told(phase: str, stage: int, site: str, loss: float | None) -> None:
            if phase == "distil":
                cost = work.distillation(config, len(names), len(self.data.corpus))
            elif phase == "refused":
                cost = 0.0  # the site has trained, and that was counted
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
                message=f"{site} is absent from this stage"
                if phase in ("absent", "refused")
                else "",
            )

        corpus, workers = self.data.corpus, self.workers
        workers.peak_mib = 0.0
        return train_method(
            directory,
            workers,
            start,
            corpus,
            self.method,
            self.seed,
            told,
            lambda: workers.peak_mib,
            lambda record: self.meter.stage_done(record, stages),
        )

    def judge(self, encoders: Encoders) -> None:
        """Judge the encoders at every site by every protocol, each test split once."""
        config = self.directory.config
        for protocol in PROTOCOLS:
            todo = [name for name in self.data.sites if not self._judged(name, protocol)]
            for name in self.data.sites.keys() - set(todo):
                self.meter.skip(work.judging(config, self.data.sites[name], protocol))
            plan = protocol_plan(config)
            seed = (self.seed, self.method, protocol)
            tasks = [(n, (protocol, config.preset, encoders[n], plan, (*seed, n))) for n in todo]
            began = time.perf_counter()
            for name, result in self.workers.map(judge_site, tasks):
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


def judge_site(
    site: SiteData,
    protocol: ProtocolName,
    preset: Any,
    state: State,
    plan: TrainPlan,
    seed: tuple[int | str, ...],
) -> tuple[Outcome, float]:
    """One encoder judged at one site by one protocol: (outcome, peak memory in MiB)."""
    with peak_memory() as peak:
        outcome = PROTOCOLS[protocol](preset, state, site, plan, *seed)
    return outcome, peak[0]


def line(p: Progress) -> str:
    """One line about progress, for a log."""
    stage = f"stage {p.stage}/{p.stages}" if p.stage else ""
    seed = f"seed {p.seed}" if p.seed is not None else ""
    loss = f"loss {p.loss:.4f}" if p.loss is not None else ""
    parts = (f"{100 * p.done:5.1f} %", seed, p.method, p.phase, stage, p.site, loss, p.message)
    return " ".join(part for part in parts if part)
