"""The heavy parts, imported when a command calls them, so that `--help` need not wait."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polyclinic.config import Config
from polyclinic.run.progress import Tell

if TYPE_CHECKING:
    from polyclinic.data.dataset import Scan
    from polyclinic.data.readers.reader import TaskChoice
    from polyclinic.inpaint.files.output import Written
    from polyclinic.run.augment import Augmented


def scan_site(folder: Path, *, format: str = "auto", task: "TaskChoice" = "auto") -> "Scan":
    """See `polyclinic.data.readers.scan_site`."""
    from polyclinic.data import readers

    return readers.scan_site(folder, format=format, task=task)


def scan_corpus(folder: Path) -> "Scan":
    """See `polyclinic.data.readers.corpus.scan_corpus`."""
    from polyclinic.data.readers import corpus

    return corpus.scan_corpus(folder)


def write_phantoms(
    folder: Path, *, seed: int, images_per_site: int, tell: Callable[[str], None]
) -> None:
    """Made-up sites and a corpus for the demo; see `polyclinic.data.phantoms.write_phantoms`."""
    from polyclinic.data import phantoms

    phantoms.write_phantoms(folder, seed=seed, images_per_site=images_per_site, tell=tell)


def run_experiment(config: Config, out: Path, *, resume: bool, tell: Tell) -> Path:
    """See `polyclinic.run.experiment.run_experiment`."""
    from polyclinic.run import experiment

    return experiment.run_experiment(config, out, resume=resume, tell=tell)


def write_report(run: Path) -> Path:
    """See `polyclinic.report.write_report`."""
    from polyclinic import report

    return report.write_report(run)


def train_painter(
    data: Sequence[Path],
    out: Path,
    *,
    size: Literal["small", "large"],
    objective: Literal["flow", "ddpm"],
    steps: int,
    batch_size: int,
    seed: int,
    labels: Literal["auto", "brats", "msd", "mask"],
    phantoms: int,
    leave_out: Sequence[str],
    resume: bool,
    tell: Tell,
) -> Path:
    """See `polyclinic.run.painter.train_painter`."""
    from polyclinic.inpaint.training import PaintPlan
    from polyclinic.run import painter

    plan = PaintPlan(size=size, objective=objective, steps=steps, batch_size=batch_size, seed=seed)
    config = painter.PainterRun(
        tuple(data), order=labels, phantoms=phantoms, leave_out=tuple(leave_out), plan=plan
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
    )


def replay_edit(
    sidecar: Path, out: Path, *, path: Path | None, painter: Path | None, force: bool
) -> "Written":
    """See `polyclinic.inpaint.edit.replay`."""
    from polyclinic.inpaint import edit

    return edit.replay(sidecar, edit.open_painter(painter), out, path=path, force=force)


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
    labels: Literal["auto", "brats", "msd", "mask"],
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
        settings=Settings(steps=steps, guidance=guidance, seed=seed),
    )
    return job.augment(config, out, painter=painter, resume=resume, tell=tell)


def evaluate_painter(
    painter: Path,
    data: Sequence[Path],
    out: Path,
    *,
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
        split=split,
        steps=steps,
        segmenter=segmenter,
        max_slices=max_slices,
        samples=samples,
        seed=seed,
    )
    results = evaluation.evaluate_painter(config, out, resume=resume, tell=tell)
    return results, write_painting_report(out)
