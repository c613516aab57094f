"""The evaluation of a painter as a run: a directory that can be resumed.

RUN/
  config.json               what it was asked for
  environment.json          machine and versions
  judged.json               every variant's painter and settings, and the segmenter
  segmenter.safetensors     the segmenter that judged, if it was trained here
  metrics.jsonl             a row an edit, variant and sequence: all that the tables are made of
  pictures/                 a few edits, painted by every variant
  results.json              the tables
  log.txt
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyclinic import __version__
from polyclinic.errors import ConfigError, RunError
from polyclinic.inpaint.cases import Case, Order
from polyclinic.inpaint.crops import outlines
from polyclinic.inpaint.segmenter import (
    Geometry,
    Segmenter,
    SegmentPlan,
    load_segmenter,
    rare_first,
    save_segmenter,
    train_segmenter,
)
from polyclinic.models.device import describe, fixed_precision
from polyclinic.models.memory import shortage_explained
from polyclinic.models.state import digest_of, state_of
from polyclinic.run.directory import Record, RunDirectory, read_json
from polyclinic.run.environment import settle
from polyclinic.run.painter import count_patients
from polyclinic.run.painter_evaluation.inputs import HeldOut, Inputs, read_inputs
from polyclinic.run.painter_evaluation.judges import Judges, TrainingImages, segmenter_encoder
from polyclinic.run.painter_evaluation.measure import REAL, Row, rows_of
from polyclinic.run.painter_evaluation.pictures import shown, write_pictures
from polyclinic.run.painter_evaluation.plan import PlannedEdit, plan_edits
from polyclinic.run.painter_evaluation.tables import tables
from polyclinic.run.painter_evaluation.variants import Variant, baselines, variants_of
from polyclinic.run.progress import Progress, Tell, silent
from polyclinic.seeding import derive

SCHEMA = "polyclinic.painting/1"
SEGMENTER = "segmenter.safetensors"
JUDGED = "judged.json"
SEGMENTER_SHARE = 0.3
"""Part of the progress that the training of a segmenter is taken for."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that decides what an evaluation computes. `painter` is a run directory or a file
    of weights; without `segmenter` one is trained, as `segmenter_plan` says."""

    painter: Path
    data: tuple[Path, ...] = ()
    order: Order = "auto"
    phantoms: bool = False  # judged on the made-up heads that the run held out
    split: HeldOut = "test"
    steps: int = 4
    segmenter: Path | None = None
    max_slices: int | None = 60
    samples: int = 4
    seed: int = 0
    segmenter_plan: SegmentPlan = field(
        default_factory=lambda: SegmentPlan(steps=3000, geometry=Geometry())
    )

    def __post_init__(self) -> None:
        if self.steps < 1 or self.samples < 1:
            raise ConfigError(
                f"evaluation: expected at least 1 step and 1 sample, got {self.steps} and "
                f"{self.samples}"
            )


@shortage_explained()
def evaluate_painter(
    config: Evaluation, out: Path, *, resume: bool = False, tell: Tell = silent
) -> Path:
    """Judge a painter in the directory `out`; returns the path of its results.json.

    An evaluation that was interrupted continues with `resume`: edits that have their rows are not
    painted again. Raises `ConfigError`, `DataError`, `RunError`.
    """
    inputs = read_inputs(
        config.painter, config.data, config.order, config.split, tell, phantoms=config.phantoms
    )
    variants = [*variants_of(inputs.painter, config.steps), *baselines()]
    return evaluate_variants(config, inputs, variants, out, resume=resume, tell=tell)


def evaluate_variants(
    config: Evaluation,
    inputs: Inputs,
    variants: Sequence[Variant],
    out: Path,
    *,
    resume: bool = False,
    tell: Tell = silent,
) -> Path:
    """As `evaluate_painter`, for any variants: all paint the same edits. The first is the one that
    the others are compared with."""
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"variants: expected names that differ, got {', '.join(names) or 'none'}")
    with RunDirectory(out, config, _as_dict, resume=resume) as directory:
        told = directory.telling(tell)
        with fixed_precision(settle(directory, told)):
            segmenter = _segmenter(directory, inputs.training, told)
            judges = Judges(
                segmenter,
                segmenter_encoder(segmenter),
                TrainingImages(inputs.training),
            )
            _same_as_before(directory, variants, segmenter)
            edits = plan_edits(
                inputs.held_out, outlines(inputs.training), config.max_slices, config.seed, "edits"
            )
            told(Progress("evaluate", 0.0, message=_planned(edits, inputs, variants)))
            rows, pictures = _measured(directory, edits, variants, judges, told)
            results = _results(config, inputs, variants, edits, judges)
            results |= {"tables": tables_of(rows, config.seed), "pictures": pictures}
            return directory.write_json("results.json", results)


def tables_of(
    rows: Sequence[Row], seed: int, references: Sequence[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """The tables of an evaluation with that seed; see `tables.tables`."""
    return tables(rows, derive(seed, "bootstrap") % 2**32, references)


def _segmenter(
    directory: RunDirectory[Evaluation], training: Sequence[Case], tell: Tell
) -> Segmenter:
    """The segmenter that was named or kept, or a new one, which is kept."""
    config = directory.config
    kept = directory.path / SEGMENTER
    if config.segmenter is not None or kept.exists():
        return load_segmenter(config.segmenter or kept)
    steps = config.segmenter_plan.steps
    began = time.perf_counter()

    def told(step: int, loss: float) -> None:
        left = (time.perf_counter() - began) / step * (steps - step)
        done = SEGMENTER_SHARE * step / steps
        tell(Progress("evaluate", done, method="segmenter", loss=loss, seconds_left=left))

    plan = config.segmenter_plan
    segmenter = train_segmenter(
        training, plan, config.seed, "segmenter", weights=rare_first(training), tell=told
    )
    save_segmenter(segmenter, kept)
    tell(Progress("evaluate", SEGMENTER_SHARE, message=f"the segmenter is kept in {kept}"))
    return segmenter


def _measured(
    directory: RunDirectory[Evaluation],
    edits: Sequence[PlannedEdit],
    variants: Sequence[Variant],
    judges: Judges,
    tell: Tell,
) -> tuple[list[Row], list[dict[str, Any]]]:
    """All rows, in the order of the edits, and what the pictures show."""
    chosen = {variant.name: {e.number for e in variant.chooses(edits)} for variant in variants}
    pictured = shown(edits)
    pictures: list[dict[str, Any]] = []
    rows: list[Row] = []
    began, before = time.perf_counter(), len(directory.records)
    for done, edit in enumerate(edits, 1):
        mine = [variant for variant in variants if edit.number in chosen[variant.name]]
        unit = f"edit-{edit.number:05d}"
        if unit not in directory.records:
            found, results = rows_of(edit, mine, judges, directory.config.samples)
            record: Record = {
                "unit": unit, "kind": "painting", "edit": _told(edit), "rows": found,
                "pictures": [],
            }  # fmt: skip
            if edit.number in pictured:
                record["pictures"] = write_pictures(edit, results, directory.path)
            directory.record(record)
        record = directory.records[unit]
        _same_edit(record, edit, mine, directory.path)
        rows += record["rows"]
        pictures += record["pictures"]
        work = done - before
        left = (time.perf_counter() - began) / work * (len(edits) - done) if work > 0 else None
        share = SEGMENTER_SHARE + (1 - SEGMENTER_SHARE) * done / len(edits)
        tell(Progress("evaluate", share, seconds_left=left))
    return rows, pictures


def _same_as_before(
    directory: RunDirectory[Evaluation], variants: Sequence[Variant], segmenter: Segmenter
) -> None:
    """Note what paints and what judges, or `RunError` where it was something else before."""
    path = directory.path / JUDGED
    now = {
        "variants": {variant.name: dict(variant.about) for variant in variants},
        "segmenter": digest_of(state_of(segmenter.network)),
    }
    now = json.loads(json.dumps(now))
    if not path.exists():
        directory.write_json(JUDGED, now)
        return
    before = read_json(path)
    if before == now:
        return
    names = {*before["variants"], *now["variants"]}
    differs = [n for n in names if before["variants"].get(n) != now["variants"].get(n)]
    what = f"painted by {', '.join(sorted(differs))}" if differs else "the segmenter"
    raise RunError(
        f"{directory.path}: {what}: painter, settings or weights are not those that it was begun "
        "with; start anew with another --out"
    )


def _told(edit: PlannedEdit) -> Record:
    """What tells an edit from all others."""
    names = ("first", "kind", "shape", "request", "seed")
    return {"case": edit.case.key, "sequences": list(edit.sequences)} | {
        name: getattr(edit, name) for name in names
    }


def _same_edit(record: Record, edit: PlannedEdit, variants: Sequence[Variant], path: Path) -> None:
    """`RunError` where rows are of another edit, or of other variants, than now."""
    stored = [row["variant"] for row in record["rows"]]
    asked = [name for name in (REAL, *(v.name for v in variants)) for _ in edit.sequences]
    if record.get("edit") != _told(edit) or stored != asked:
        raise RunError(
            f"{path / 'metrics.jsonl'}: {record['unit']} was planned from other data, or painted "
            "by other variants; start anew with another --out"
        )


def _results(
    config: Evaluation,
    inputs: Inputs,
    variants: Sequence[Variant],
    edits: Sequence[PlannedEdit],
    judges: Judges,
) -> dict[str, Any]:
    painter = inputs.painter
    kinds: dict[str, int] = {}
    for edit in edits:
        kinds[edit.kind] = kinds.get(edit.kind, 0) + 1
    return {
        "schema": SCHEMA,
        "version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "painter": {
            "name": config.painter.name,
            "digest": painter.digest,
            "objective": painter.objective.name,
            "card": painter.card,
        },
        "data": [folder.name for folder in inputs.folders] or ["made-up heads"],
        "split": config.split,
        "patients": {
            "held_out": count_patients(inputs.held_out),
            "training": count_patients(inputs.training),
        },
        "edits": kinds,
        "variants": [
            {
                "name": v.name,
                "calls": v.calls,
                "tumours": v.tumours,
                "limit": v.limit,
                "about": dict(v.about),
            }
            for v in variants
        ],
        "encoder": judges.encoder.name,
        "segmenter": "given" if config.segmenter else "trained on the training patients",
        "config": _as_dict(config),
        "environment": describe(),
    }


def _planned(edits: Sequence[PlannedEdit], inputs: Inputs, variants: Sequence[Variant]) -> str:
    return (
        f"{len(edits)} edits on {count_patients(inputs.held_out)} held-out patients, painted by "
        f"{'; '.join(variant.name for variant in variants)}"
    )


def _as_dict(config: Evaluation) -> Record:
    record = dataclasses.asdict(config)
    record["painter"] = str(config.painter.resolve())
    record["data"] = [str(path.resolve()) for path in config.data]
    record["segmenter"] = str(config.segmenter.resolve()) if config.segmenter else None
    return record
