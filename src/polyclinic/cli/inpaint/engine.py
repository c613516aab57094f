"""The painting parts, imported when a command calls them, so that `--help` need not wait."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polyclinic.run.progress import Tell

if TYPE_CHECKING:
    from polyclinic.inpaint.files.output import Written
    from polyclinic.run.augment import Augmented


def train_painter(
    data: Sequence[Path],
    out: Path,
    *,
    size: Literal["small", "large"],
    objective: Literal["flow", "ddpm", "regression"],
    steps: int,
    batch_size: int,
    seed: int,
    labels: Literal["auto", "brats", "msd", "mask"],
    sequence: str | None,
    phantoms: int,
    leave_out: Sequence[str],
    patient_pattern: str | None,
    start_from: str | None,
    resume: bool,
    tell: Tell,
) -> Path:
    """See `polyclinic.run.painter.train_painter`."""
    from polyclinic.inpaint.baselines import regression_plan
    from polyclinic.inpaint.training import PaintPlan
    from polyclinic.run import painter

    plan = PaintPlan(size=size, objective=objective, steps=steps, batch_size=batch_size, seed=seed)
    if objective == "regression":
        plan = regression_plan(plan)
    config = painter.PainterRun(
        tuple(data),
        order=labels,
        phantoms=phantoms,
        leave_out=tuple(leave_out),
        patient_pattern=patient_pattern,
        sequence=sequence,
        start_from=painter.weights_of(start_from) if start_from else None,
        plan=plan,
    )
    return painter.train_painter(config, out, resume=resume, tell=tell)


def edit_file(
    path: Path,
    asks: Sequence[tuple[str, str | None]],
    out: Path,
    *,
    boxed: bool,
    slices: tuple[int, int] | None,
    sequence: str | None,
    steps: int,
    guidance: float,
    seed: int,
    mode: Literal["sample", "mean"],
    samples: int,
    painter: Path | None,
    force: bool,
    tell: Tell,
) -> "list[Written]":
    """See `polyclinic.inpaint.edit.edit_file`."""
    from polyclinic.inpaint import edit
    from polyclinic.inpaint.painting import Settings

    return edit.edit_file(
        edit.open_painter(painter),
        path,
        [edit.Ask(region, component) for region, component in asks],
        out,
        Settings(steps=steps, guidance=guidance, seed=seed, mode=mode),
        boxed=boxed,
        slices=slices,
        sequence=sequence,
        samples=samples,
        force=force,
        report=_reporting(tell),
    )


def replay_edit(
    sidecar: Path, out: Path, *, path: Path | None, painter: Path | None, force: bool, tell: Tell
) -> "Written":
    """See `polyclinic.inpaint.replay.replay`."""
    from polyclinic.inpaint import edit
    from polyclinic.inpaint import replay as job

    return job.replay(
        sidecar,
        edit.open_painter(painter),
        out,
        path=path,
        force=force,
        report=_reporting(tell),
    )


def _reporting(tell: Tell) -> Callable[[float], None]:
    """Tells how much of an edit is painted, and how long the rest will take."""
    from polyclinic.run.progress import Progress, time_left

    left = time_left()
    left(0.0)
    return lambda done: tell(Progress("edit", done, seconds_left=left(done)))


def augment(
    data: Path,
    out: Path,
    *,
    count: int,
    components: tuple[str, ...],
    balance: Literal["none", "size", "component", "site"],
    remove_tumours: bool,
    sites: str | None,
    patients: Path | None,
    patient_pattern: str | None,
    labels: Literal["auto", "brats", "msd", "mask"],
    sequence: str | None,
    painter: Path | None,
    steps: int,
    guidance: float,
    seed: int,
    resume: bool,
    tell: Tell,
) -> "Augmented":
    """See `polyclinic.run.augment.augment`."""
    from polyclinic.inpaint.painting import Settings
    from polyclinic.run import augment as job
    from polyclinic.run.augment_plan import AugmentRun

    config = AugmentRun(
        data=data,
        count=count,
        order=labels,
        components=components,
        balance=balance,
        remove_tumours=remove_tumours,
        sites=sites,
        patients=patients,
        patient_pattern=patient_pattern,
        sequence=sequence,
        settings=Settings(steps=steps, guidance=guidance, seed=seed),
    )
    return job.augment(config, out, painter=painter, resume=resume, tell=tell)


def evaluate_painter(
    painter: Path,
    data: Sequence[Path],
    out: Path,
    *,
    phantoms: bool,
    split: Literal["test", "val"],
    labels: Literal["auto", "brats", "msd", "mask"],
    steps: int,
    segmenter: Path | None,
    max_slices: int,
    samples: int,
    seed: int,
    resume: bool,
    tell: Tell,
) -> tuple[Path, Path]:
    """Results and report; see `polyclinic.run.painter_evaluation.evaluation.evaluate_painter`."""
    from polyclinic.report.painting import write_painting_report
    from polyclinic.run.painter_evaluation import evaluation

    config = evaluation.Evaluation(
        painter=painter,
        data=tuple(data),
        order=labels,
        phantoms=phantoms,
        split=split,
        steps=steps,
        segmenter=segmenter,
        max_slices=max_slices,
        samples=samples,
        seed=seed,
    )
    results = evaluation.evaluate_painter(config, out, resume=resume, tell=tell)
    return results, write_painting_report(out)
