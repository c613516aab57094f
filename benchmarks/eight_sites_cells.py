"""Judges, from the encoders that a run stored, what the run does not judge itself.

A cell is one method, seed, site and protocol. It is written when it is finished, and not done
again. What is chosen is chosen before the test split is there to be seen: `tuning.blind` puts the
validation split in its place.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eight_sites_study import JUDGED_BY, LABELS, SINGLE, Study, write_json
from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.errors import PolyclinicError, RunError
from polyclinic.evaluate.frozen import few_labels, nearest_neighbours
from polyclinic.evaluate.metrics import Predictions
from polyclinic.evaluate.protocols import fine_tune, linear_probe, protocol_plan
from polyclinic.federation.methods import Encoders
from polyclinic.federation.workers import Work, Workers
from polyclinic.models.encoder import Preset
from polyclinic.models.state import State, disk_error
from polyclinic.models.training import TrainPlan
from polyclinic.run.directory import RunDirectory, read_json
from polyclinic.run.training import kept_encoders
from tuning import blind

Cell = tuple[int, str, str, str]  # seed, method, protocol, site


@dataclass(frozen=True)
class Judge:
    """What judging needs: the study, its open run, and its sites, each judged by a worker."""

    study: Study
    directory: RunDirectory[Config]
    workers: Workers

    @property
    def config(self) -> Config:
        """The run's."""
        return self.study.config

    def encoders(self, seed: int, method: str) -> Encoders:
        """What a method ended up with; `RunError` where it has not finished."""
        names = self.workers.names
        if method == SINGLE:
            alone = self.encoders(seed, "local")
            return {name: alone[self.source(seed, name)] for name in names}
        found = kept_encoders(self.directory, method, seed, names)
        if found is None:
            raise RunError(
                f"{self.directory.path}: no encoders of {method} with seed {seed}; start again "
                "with the same options, and the run goes on"
            )
        return found

    def source(self, seed: int, site: str) -> str:
        """The single source that was chosen for a site."""
        return str(read_json(self.study.choice(seed, site))["chosen"])

    def each(
        self, do: Work, tasks: Sequence[tuple[str, tuple[Any, ...]]], what: str
    ) -> Iterator[tuple[str, Any]]:
        """The workers' results in the order of `tasks`; an error names the site."""
        for name, result in self.workers.map(do, tasks):
            if isinstance(result, PolyclinicError):
                raise type(result)(f"{what} at site '{name}': {result}")
            yield name, result


def judge_all(judge: Judge) -> None:
    """Choose the single sources, then judge every cell that is not there yet."""
    study, config = judge.study, judge.config
    if SINGLE in study.methods:
        for seed in config.seeds:
            choose_sources(judge, seed)
    todo: dict[tuple[int, str, str], list[str]] = {}
    for seed, method, protocol, site in waiting(study, judge.workers.sites):
        todo.setdefault((seed, method, protocol), []).append(site)
    for (seed, method, protocol), names in todo.items():
        encoders = judge.encoders(seed, method)
        plan = protocol_plan(config)
        tasks = [(n, (protocol, config.preset, encoders[n], plan, seed, method)) for n in names]
        for name, predictions in judge.each(predict, tasks, f"{method}, {protocol}"):
            _keep(predictions, study.cell(seed, method, name, protocol))
            print(f"judged: seed {seed} {method} {protocol} {name}", flush=True)


def waiting(study: Study, sites: Mapping[str, SiteData]) -> Iterator[Cell]:
    """The cells that the run does not judge and that are not there yet."""
    for seed in study.config.seeds:
        for method in study.methods:
            for protocol in JUDGED_BY:
                if study.by_run(method, protocol):
                    continue
                for name, site in sites.items():
                    there = study.cell(seed, method, name, protocol).exists()
                    if applies(protocol, site.task) and not there:
                        yield seed, method, protocol, name


def applies(protocol: str, task: str) -> bool:
    """Whether a site of the task is judged by the protocol: pixels have no nearest neighbours."""
    return not (protocol == "k-nn" and task == "segmentation")


def choose_sources(judge: Judge, seed: int) -> None:
    """For each site, the other site whose own encoder is best by linear probe, on validation.

    The first in the order of the sites where two are equally good. Every source is tried with the
    random numbers that the chosen one is judged with afterwards.
    """
    study, names = judge.study, judge.workers.names
    missing = [name for name in names if not study.choice(seed, name).exists()]
    if not missing:
        return
    alone = judge.encoders(seed, "local")
    others = {name: [other for other in names if other != name] for name in missing}
    plan = protocol_plan(judge.config)
    tasks = [
        (name, (judge.config.preset, alone[other], plan, seed, SINGLE))
        for name in missing
        for other in others[name]
    ]
    found: dict[str, list[float]] = {name: [] for name in missing}
    for name, value in judge.each(validate, tasks, f"{SINGLE}, seed {seed}"):
        found[name].append(value)
        if len(found[name]) < len(others[name]):
            continue
        scores = dict(zip(others[name], found[name], strict=True))
        chosen = best(scores)
        said = {other: None if math.isnan(score) else score for other, score in scores.items()}
        write_json(study.choice(seed, name), {"chosen": chosen, "validation": said})
        print(f"chosen: seed {seed} {name} takes the encoder of {chosen}", flush=True)


def best(scores: Mapping[str, float]) -> str:
    """The name with the highest score, the first of equals; undefined scores come last."""
    return max(scores, key=lambda name: -math.inf if math.isnan(scores[name]) else scores[name])


def predict(
    site: SiteData,
    protocol: str,
    preset: Preset,
    state: State,
    plan: TrainPlan,
    seed: int,
    method: str,
) -> Predictions:
    """What an encoder, judged by a protocol, says about a site's test split."""
    if protocol in LABELS:  # the draw of labels carries no name of a method: all see the same
        given = (preset, state, site, plan, LABELS[protocol], seed, site.name)
        return few_labels(*given).predictions
    if protocol == "k-nn":
        return nearest_neighbours(preset, state, site, plan).predictions
    judged = fine_tune if protocol == "fine-tune" else linear_probe
    return judged(preset, state, site, plan, seed, method, protocol, site.name).predictions


def validate(
    site: SiteData, preset: Preset, state: State, plan: TrainPlan, seed: int, method: str
) -> float:
    """A linear probe's primary metric on the validation split; the test split is taken away."""
    tried = (seed, method, "linear-probe", site.name)
    return linear_probe(preset, state, blind(site), plan, *tried).validation


def _keep(predictions: Predictions, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        predictions.save(path)
    except OSError as error:
        raise disk_error(error, path) from None
