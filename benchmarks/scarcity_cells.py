"""Training and judging the cells of the scarcity study, each written down as it is finished."""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import records
import scarcity_patients
from polyclinic.errors import DataError, RunError
from polyclinic.inpaint.cases import Case, find_cases, read_cases
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.segmenter import Geometry, SegmentPlan, count_overlaps, train_segmenter
from polyclinic.models.device import PRECISIONS, fixed_precision
from scarcity_arms import ARMS, REFERENCE, Recipe, Workshop, painted, planned
from scarcity_patients import Group, StudyPainter
from scarcity_records import append

Record = dict[str, Any]
PLAN = SegmentPlan(
    features=(8, 16, 32, 48, 64, 8), steps=600, batch_size=8, learning_rate=3e-3, patch=2
)
"""Small and short: some 250 of them have to be trained in hours on two cores."""


@dataclass(frozen=True)
class Study:
    """What decides the figures of the study, apart from its phase. `painters` are pairs of a
    hospital and the run directory of the painter that has not seen it."""

    data: Path
    painters: tuple[tuple[str, Path], ...]
    precision: str
    plan: SegmentPlan = PLAN
    edits: int = 24
    paint_steps: int = 4

    def as_dict(self) -> Record:
        """For the records, with how painting is set. Painters and arms are told with the cells."""
        about = dataclasses.asdict(self) | {"data": self.data.name}
        del about["painters"]
        about["painting"] = dataclasses.asdict(Settings())
        return dict(json.loads(json.dumps(about)))

    def told(self, group: Group, arm: str) -> Record:
        """What a cell rests on beside that: its record says the same, or is not of this study."""
        painter = painter_of(dict(self.painters)[group.hospital], group.hospital)
        told = {
            "painter": painter.described(),
            "what": dataclasses.asdict(ARMS[arm]),
            "trained_on": group.trained,
            "judged_on": group.judged,
        }
        return dict(json.loads(json.dumps(told)))


@functools.cache
def cases_of(data: Path) -> dict[str, Case]:
    """All cases by their key; `DataError` where one cannot be read: nobody is left out silently."""
    cases = {}
    for case in read_cases(find_cases(data)):
        if not isinstance(case, Case):
            raise DataError(f"{case.where}: {case.what}; the study expects all patients")
        cases[case.key] = case
    return cases


@functools.cache
def painter_of(run: Path, left_out: str) -> StudyPainter:
    """See `scarcity_patients.read_painter`; each process reads it once."""
    return scarcity_patients.read_painter(run, left_out)


def run(study: Study, groups: Sequence[Group], path: Path, workers: int) -> None:
    """Train and judge every arm of `groups`; with 0 workers in this process."""
    if not workers:
        for group in groups:
            run_group(study, group, path, threads=0)
        return
    threads = max(1, records.cores() // workers)
    context = multiprocessing.get_context("spawn")
    # large groups first: the last ones to finish are short
    order = sorted(groups, key=lambda group: -len(group.arms))
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = [pool.submit(run_group, study, group, path, threads) for group in order]
        try:
            for future in concurrent.futures.as_completed(waiting):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_group(study: Study, group: Group, path: Path, threads: int) -> None:
    """Train and judge the arms of one group, one record each; `threads` 0 leaves them as set."""
    if threads:
        torch.set_num_threads(threads)
    with fixed_precision(PRECISIONS[study.precision]):
        workshop = workshop_of(study, group)
        # the reference first: others may be filtered by it
        for arm in sorted(group.arms, key=lambda name: name != REFERENCE):
            began = time.perf_counter()
            workshop.seconds["adding"] = 0.0
            segmenter, added = workshop.train(arm)
            judged = [cases_of(study.data)[key] for key in group.judged]
            counts = count_overlaps(segmenter, judged)
            seconds = time.perf_counter() - began
            cell = {
                "phase": group.phase,
                "hospital": group.hospital,
                "patients": group.patients,
                "seed": group.seed,
                "arm": arm,
                **study.told(group, arm),
                "commit": records.commit(),
                "added": added,
                "counts": dict(zip(group.judged, counts.tolist(), strict=True)),
                "seconds": round(seconds, 2),
                "seconds_adding": round(workshop.seconds["adding"], 2),
            }
            _stop_with_parent()
            append(path, cell)
            print(
                f"{group.phase}  without {group.hospital}  {group.patients:>2} patients  "
                f"seed {group.seed}  {arm:<22}  {seconds:6.1f} s",
                flush=True,
            )


def _stop_with_parent() -> None:
    """`RunError` in a worker whose study was killed: another may go on with its records."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise RunError("the study that this process belongs to has ended")


def workshop_of(study: Study, group: Group) -> Workshop:
    """Everything that the arms of a group are trained from."""
    cases = cases_of(study.data)
    painter = painter_of(dict(study.painters)[group.hospital], group.hospital)
    return Workshop(
        cases=[cases[key] for key in group.trained],
        painter=painter.open(),
        plan=study.plan,
        paint_steps=study.paint_steps,
        count=study.edits,
        seed=(group.seed, group.phase, group.hospital, group.patients),
    )


def estimate(study: Study, groups: Sequence[Group], recipes: int, workers: int) -> Record:
    """How long `groups`, one at least, will take: a few steps and one painted case are timed now.

    `recipes` is the number of ways of painting in all groups. One worker is timed alone; where all
    work at once, or the machine is shared, it takes longer.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, records.cores() // max(1, workers)))
    try:
        with fixed_precision(PRECISIONS[study.precision]):
            pace = _timed(study, groups[0])
    finally:
        torch.set_num_threads(threads)
    cells = sum(len(group.arms) for group in groups)
    trained = sum(ARMS[arm].steps for group in groups for arm in group.arms)
    judged = sum(len(group.arms) * len(group.judged) for group in groups)
    parts = {
        "training": trained * study.plan.steps * pace["seconds_a_step"],
        "judging": judged * pace["seconds_a_judged_patient"],
        "painting": recipes * study.edits * pace["planes_a_painted_case"]
        * pace["seconds_a_painted_plane"],
    }  # fmt: skip
    shared = {f"seconds_{name}": round(part / max(1, workers)) for name, part in parts.items()}
    minutes = sum(parts.values()) / max(1, workers) / 60
    return {"cells": cells, **pace, **shared, "minutes": round(minutes, 1)}


def _timed(study: Study, group: Group) -> dict[str, float]:
    """What the parts of a cell take; a plane is a painted slice of one sequence."""
    workshop = workshop_of(study, group)
    marks: list[float] = []
    plan = replace(study.plan, steps=min(5, study.plan.steps), geometry=Geometry())
    segmenter = train_segmenter(
        workshop.cases, plan, 0, tell=lambda *_: marks.append(time.perf_counter())
    )
    edits = planned(workshop.cases, Recipe(), 4, *workshop.seed)
    by_key = {case.key: case for case in workshop.cases}
    planes = [len(edit.parts) * len(by_key[edit.target].volumes) for edit in edits]
    began = time.perf_counter()
    painted(workshop.painter, workshop.cases, Recipe(), 1, study.paint_steps, *workshop.seed)
    after_painting = time.perf_counter()
    count_overlaps(segmenter, workshop.cases[:1])
    return {
        "seconds_a_step": round((marks[-1] - marks[0]) / max(1, len(marks) - 1), 4),
        "seconds_a_judged_patient": round(time.perf_counter() - after_painting, 4),
        "seconds_a_painted_plane": round((after_painting - began) / planes[0], 4),
        "planes_a_painted_case": round(sum(planes) / len(planes), 1),
    }
