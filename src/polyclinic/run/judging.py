"""A trained encoder judged on any other data set, against the starts that it had or could have."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from polyclinic import __version__
from polyclinic.config import DataConfig, EvaluationConfig, LocalConfig, SiteConfig
from polyclinic.data.dataset import SPLITS, SiteData
from polyclinic.data.readers import TaskChoice
from polyclinic.errors import ConfigError
from polyclinic.evaluate.bootstrap import Estimate, cluster_weights, interval, paired_gain
from polyclinic.evaluate.frozen import few_labels, nearest_neighbours
from polyclinic.evaluate.metrics import Predictions, metrics_of, primary_metric
from polyclinic.evaluate.protocols import Outcome, fine_tune, linear_probe, protocol_plan
from polyclinic.models.device import describe
from polyclinic.models.encoder import build_encoder
from polyclinic.models.memory import shortage_explained
from polyclinic.models.state import State, state_of
from polyclinic.run.encoder_source import TrainedEncoder, mim_start
from polyclinic.run.experiment import prepared_site
from polyclinic.run.progress import Progress, Tell, silent

SCHEMA = "polyclinic.evaluation/1"
TRAINED = "trained"
Record = dict[str, Any]
Cell = tuple[str, str, int | None]  # start, protocol, labels a class


@dataclass(frozen=True)
class JudgePlan:
    """How an encoder is judged; `seeds` repeats the draws of labels and what is trained."""

    labels_per_class: tuple[int, ...] = (5, 10, 50)
    seeds: int = 3
    data: DataConfig = field(default_factory=DataConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def plan_for(found: TrainedEncoder, *, labels_per_class: Sequence[int], seeds: int) -> JudgePlan:
    """The settings of the encoder's run, or the defaults with its image sizes for an export."""
    if found.config is not None:
        c = found.config
        plan = JudgePlan(data=c.data, local=c.local, evaluation=c.evaluation)
    else:
        sizes = {"image_size": found.image_size, "largest_side": found.largest_side}
        plan = JudgePlan(data=DataConfig(**sizes))
    return replace(plan, labels_per_class=tuple(labels_per_class), seeds=seeds)


@shortage_explained()
def judge_encoder(
    found: TrainedEncoder,
    folder: Path,
    plan: JudgePlan,
    tell: Tell = silent,
    *,
    format: str = "auto",
    task: TaskChoice = "auto",
) -> Record:
    """Judge `found` on the site in `folder`; every number with its interval, ready for JSON.

    `format` and `task` as in `scan_site`. Test images are the same in every row. The encoder is
    compared with a random one and, where its run is there, with masked image modelling alone.
    Raises `DataError` and `ConfigError`.
    """
    if plan.seeds < 1 or any(number < 1 for number in plan.labels_per_class):
        raise ConfigError(
            f"--seeds and --labels-per-class: expected 1 or more, got {plan.seeds} and "
            f"{', '.join(map(str, plan.labels_per_class))}"
        )
    tell(Progress("prepare", 0.0, site=folder.name))
    site = prepared_site(SiteConfig(folder.resolve().name, folder, format, task), plan.data)
    starts = _starts(found)
    tasks = list(_tasks(site, plan))
    outcomes: dict[Cell, list[Predictions]] = {}
    for number, (start, state) in enumerate(starts.items()):
        for step, (protocol, labels) in enumerate(tasks):
            done = (number * len(tasks) + step) / (len(starts) * len(tasks))
            tell(Progress("judge", done, method=f"{start}, {protocol}", site=site.name))
            outcomes[start, protocol, labels] = [
                _outcome(found, state, site, plan, protocol, labels, seed).predictions
                for seed in range(_repeats(plan, protocol))
            ]
    return _results(found, site, plan, outcomes)


def _starts(found: TrainedEncoder) -> dict[str, State]:
    """The encoders that are compared, by name."""
    starts = {TRAINED: found.state}
    if (mim := mim_start(found)) is not None:
        starts["mim"] = mim
    seed = found.origin.get("seed")
    random = build_encoder(found.preset, seed if isinstance(seed, int) else 0)
    return starts | {"random": state_of(random)}


def _tasks(site: SiteData, plan: JudgePlan) -> list[tuple[str, int | None]]:
    """(protocol, labels a class) of every row; None for all labels."""
    tasks: list[tuple[str, int | None]] = [("linear-probe", n) for n in plan.labels_per_class]
    tasks.append(("linear-probe", None))
    if site.task != "segmentation":  # a pixel has no neighbours among images
        tasks.append(("k-nn", None))
    return [*tasks, ("fine-tune", None)]


def _repeats(plan: JudgePlan, protocol: str) -> int:
    """How often a protocol is repeated: once where nothing in it is drawn."""
    return 1 if protocol == "k-nn" else plan.seeds


def _outcome(
    found: TrainedEncoder,
    state: State,
    site: SiteData,
    plan: JudgePlan,
    protocol: str,
    labels: int | None,
    seed: int,
) -> Outcome:
    trained = protocol_plan(plan)
    if labels is not None:
        # the draw of labels carries no name of an encoder: all see the same
        return few_labels(found.preset, state, site, trained, labels, seed, site.name)
    if protocol == "k-nn":
        return nearest_neighbours(found.preset, state, site, trained)
    if protocol == "linear-probe":
        return linear_probe(found.preset, state, site, trained, seed, protocol)
    return fine_tune(found.preset, state, site, trained, seed, protocol)


def _results(
    found: TrainedEncoder,
    site: SiteData,
    plan: JudgePlan,
    outcomes: dict[Cell, list[Predictions]],
) -> Record:
    weights = cluster_weights(
        site.patients[site.split["test"]], plan.evaluation.bootstrap, plan.data.split_seed
    )
    scores, gains = [], []
    main = primary_metric(site.task)
    for (start, protocol, labels), by_seed in outcomes.items():
        about = {"protocol": protocol, "labels_per_class": labels}
        for metric in metrics_of(site.task):
            row = {"start": start, **about, "metric": metric, "primary": metric == main}
            scores.append(row | estimate_json(interval(by_seed, metric, weights)))
        if start == TRAINED:
            for over in ("mim", "random"):
                if (over, protocol, labels) in outcomes:
                    other = outcomes[over, protocol, labels]
                    gain = paired_gain(by_seed, other, main, weights)
                    gains.append({"over": over, **about, "metric": main} | estimate_json(gain))
    return {
        "schema": SCHEMA,
        "version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "encoder": {"preset": found.preset, "image_size": found.image_size, **found.origin},
        "data": {
            "name": site.name,
            "task": site.task,
            "format": site.format,
            "classes": list(site.classes),
            "images": len(site),
            "patients": len(np.unique(site.patients)) if site.has_patient_ids else None,
            "split": {split: len(site.split[split]) for split in SPLITS},
            "findings": [dataclasses.asdict(f) for f in site.findings],
        },
        "metric": main,
        "seeds": plan.seeds,
        "scores": scores,
        "gains": gains,
        "environment": describe(),
    }


def estimate_json(estimate: Estimate) -> Record:
    """Value, interval and the value of each seed; None where undefined."""

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return {
        "value": known(estimate.value),
        "low": known(estimate.low),
        "high": known(estimate.high),
        "per_seed": [known(value) for value in estimate.per_seed],
    }
