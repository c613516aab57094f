"""How many bytes the universal method needs to be as good as federated averaging in the end.

The curves of a run cannot say: what a site receives is scored with a head that some methods fit
anew and others do not, and the encoder after the last stage is not among them. So the universal
encoder is kept after each stage, and scored by linear probe on the validation splits, as the last
encoder of FedAvg was in the run. Each seed has a share of its own; what counts is their mean.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from eight_sites_cells import Judge, validate
from eight_sites_study import LEAD, Record, Study, write_json
from polyclinic.evaluate.protocols import protocol_plan
from polyclinic.federation.stages import StageStore
from polyclinic.models.state import load_state, save_state
from polyclinic.run.directory import read_json
from polyclinic.run.progress import Progress

OVER = "fedavg"
MEASURE = "linear probe, validation splits, mean over sites; the share is the mean over seeds"


def keep_stage(study: Study, p: Progress) -> None:
    """Keep the encoder after the last finished stage; to be called with what a run tells.

    A site that has trained is told while the stage before is still there; the run drops it later.
    """
    if p.phase != "train" or p.method != LEAD or p.seed is None or not p.stage or not p.stages:
        return
    path = study.stage(p.seed, p.stage - 1)
    if p.stage == 1 or path.exists():
        return
    found = StageStore(study.run / f"seed-{p.seed}" / LEAD, lambda _: None).latest(p.stages)
    if found is not None and found.done == p.stage - 1:
        save_state(found.encoders[""], path)


def communication(judge: Judge) -> Record:
    """Bytes to reach FedAvg's final score in the one seed of `judge`, or why they cannot be told.

    Bytes are those of all sites in both directions. The last download, without which no site has
    the encoder, counts for neither method.
    """
    config, study = judge.config, judge.study
    (seed,) = config.seeds
    if not {LEAD, OVER} <= set(config.methods):
        return {"undecided": f"needs {LEAD} and {OVER} among the methods"}
    stages = range(1, config.local.stages + 1)
    for number in stages[:-1]:
        if not study.stage(seed, number).exists():
            return {
                "undecided": f"seed {seed}: the encoder after stage {number} was not kept; "
                "the run was not made by this script alone"
            }
    ours, theirs = _bytes(judge, LEAD), _bytes(judge, OVER)
    wanted = _in_run(judge, OVER, seed)
    curve = []
    for number in stages:
        score = _after(judge, seed, number)
        curve.append({"stage": number, "bytes": ours[number], "score": score})
        if score >= wanted:
            break
    reached = curve[-1]["score"] >= wanted
    total = theirs[config.local.stages]
    return {
        "seed": seed,
        "score_to_reach": wanted,
        "bytes_of_fedavg": total,
        "reached": reached,
        "bytes": curve[-1]["bytes"] if reached else None,
        "share": curve[-1]["bytes"] / total if reached else None,
        "curve": curve,  # up to where it is reached
    }


def together(by_seed: Sequence[Record]) -> Record:
    """The mean share over seeds; undecided or not reached if it is so for one of them."""
    for one in by_seed:
        if "undecided" in one:
            return {"undecided": one["undecided"]}
    shares = [one["share"] for one in by_seed]
    reached = all(one["reached"] for one in by_seed)
    return {
        "measure": MEASURE,
        "over": OVER,
        "reached": reached,
        "share": float(np.mean(shares)) if reached else None,
        "by_seed": list(by_seed),
    }


def _bytes(judge: Judge, method: str) -> dict[int, int]:
    """What travelled until the end of each stage."""
    by_stage: dict[int, int] = defaultdict(int)
    for record in judge.directory.records.values():
        if record["kind"] == "stage" and record["method"] == method:
            by_stage[record["stage"]] += sum(
                said.get("bytes_up", 0) + said.get("bytes_down", 0)
                for said in record["sites"].values()
            )
    stages = sorted(by_stage)
    sums = np.cumsum([by_stage[number] for number in stages])
    return dict(zip(stages, sums.tolist(), strict=True))


def _in_run(judge: Judge, method: str, seed: int) -> float:
    """The validation score of a method's last encoder, mean over sites, as the run found it."""
    found = judge.directory.records
    units = [f"seed-{seed}/{method}/linear-probe/{name}" for name in judge.workers.names]
    return _mean([found[unit]["validation"] for unit in units])


def _after(judge: Judge, seed: int, number: int) -> float:
    """The same for the universal encoder after `number` stages."""
    config, study = judge.config, judge.study
    if number == config.local.stages:
        return _in_run(judge, LEAD, seed)
    path = study.stage_scores(seed, number)
    if not path.exists():
        state, plan = load_state(study.stage(seed, number)), protocol_plan(config)
        tasks = [(n, (config.preset, state, plan, seed, LEAD)) for n in judge.workers.names]
        found = dict(judge.each(validate, tasks, f"{LEAD} after stage {number}"))
        known = {n: None if math.isnan(score) else score for n, score in found.items()}
        write_json(path, known)
        print(f"validated: seed {seed} {LEAD} after stage {number}", flush=True)
    return _mean([score for score in read_json(path).values() if score is not None])


def _mean(values: list[float]) -> float:
    """Of what is defined; NaN where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
