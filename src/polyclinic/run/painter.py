"""Training a painter as a run: a directory that can be resumed, validation, previews.

RUN/
  config.json               what it was asked for
  environment.json          machine and versions
  splits.json               cases of each split; the test split is for `inpaint evaluate`
  metrics.jsonl             loss and validation every few hundred steps
  log.txt
  previews/step-000500.png  crops of validation patients, painted
  checkpoint.safetensors    to resume from
  painter.safetensors       the painter: the running average of the weights
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from polyclinic import __version__
from polyclinic.data.dataset import SPLITS, Finding, Item, Split
from polyclinic.data.patients import patient_of, patients_of, real_case, same_names
from polyclinic.data.splits import split_items
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.cases import (
    MADE_UP,
    Case,
    CaseFolder,
    Order,
    find_cases,
    phantom_cases,
    read_cases,
)
from polyclinic.inpaint.components import COMPONENTS
from polyclinic.inpaint.crops import Batch, Crops
from polyclinic.inpaint.edit import WEIGHTS as OWN_WEIGHTS
from polyclinic.inpaint.painter import (
    WEIGHTS,
    Painter,
    load_painter,
    save_painter,
    splits_beside,
    weights_in,
)
from polyclinic.inpaint.training import PaintPlan, Trainer
from polyclinic.inpaint.validation import preview, validate
from polyclinic.models.device import fixed_precision
from polyclinic.models.memory import shortage_explained
from polyclinic.models.state import disk_error
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.environment import settle
from polyclinic.run.progress import Progress, Tell, silent

VALIDATION_BATCHES = 8
MIN_PATIENTS = 3
"""One for each split."""
PACKAGED = "small"
"""What `--start-from` calls the painter that comes with the package."""
SHOWN = 5
"""Cases that an error names."""


@dataclass(frozen=True)
class PainterRun:
    """Everything that decides what a training of a painter computes."""

    data: tuple[Path, ...]
    order: Order = "auto"
    phantoms: int = 0  # made-up heads to train on as well
    leave_out: tuple[str, ...] = ()  # patterns of cases that are neither trained on nor judged by
    patient_pattern: str | None = None  # its first group is the patient in a case's name
    sequence: str | None = None  # of images with masks
    start_from: Path | None = None  # weights of a painter to begin with
    split_seed: int = 0
    val_share: float = 0.15
    test_share: float = 0.2
    every: int = 500  # steps between validations and checkpoints
    plan: PaintPlan = field(default_factory=PaintPlan)


def weights_of(name: str) -> Path:
    """The file of weights that `--start-from` names: the package's own, a run's, or itself."""
    if name == PACKAGED:
        return OWN_WEIGHTS
    found = weights_in(Path(name))
    if found is None:
        raise ConfigError(
            f"--start-from {name}: no such painter; expected a file of weights, the directory of a "
            f"finished run of `polyclinic inpaint train`, or {PACKAGED} for the package's own"
        )
    return found


@shortage_explained()
def train_painter(
    config: PainterRun, out: Path, *, resume: bool = False, tell: Tell = silent
) -> Path:
    """Train in the directory `out`; returns the path of the painter's weights.

    A run that was killed at any moment continues with `resume` and ends with the same weights.
    Raises `ConfigError`, `RunError`, and `DataError`, also where a resumed run would split its
    cases in another way.
    """
    with RunDirectory(out, config, _as_dict, resume=resume) as directory:
        told = directory.telling(tell)
        with fixed_precision(settle(directory, told)):
            cases = load_cases(
                config.data,
                config.order,
                told,
                phantoms=config.phantoms,
                leave_out=config.leave_out,
                patient_pattern=config.patient_pattern,
                sequence=config.sequence,
            )
            split = split_cases(cases, config)
            chosen = {name: [cases[row] for row in split[name]] for name in SPLITS}
            splits: dict[str, list[str]] = {n: [case.key for case in chosen[n]] for n in SPLITS}
            _nobody_seen_before(config, splits, told)
            _keep_splits(directory, splits)
            return _train(directory, chosen, told)


def load_cases(
    folders: Sequence[Path],
    order: Order,
    tell: Tell = silent,
    *,
    phantoms: int = 0,
    leave_out: Sequence[str] = (),
    patient_pattern: str | None = None,
    sequence: str | None = None,
) -> list[Case]:
    """All cases of all folders, and `phantoms` made-up ones; tells what was recognised and what
    cannot be used. `leave_out` are patterns (`*`, `?`) of cases that are not even read, nor what
    was painted into them.
    `patient_pattern` says whose they are, and `sequence` what images with masks show, see
    `find_cases`.

    Raises `DataError` where too few are left, `ConfigError` where a pattern fits no case.
    """
    cases: list[Case] = []
    fitting = set()
    for folder in folders:
        found = find_cases(folder, order, patient_pattern, sequence)
        tell(Progress("prepare", 0.0, message=f"{folder}: {found.describe()}"))
        left = {key: p for key in found.sources for p in leave_out if _fits(key, p)}
        fitting |= set(left.values())
        if left:
            tell(Progress("prepare", 0.0, message=f"{folder}: {len(left)} cases left out"))
        cases += _usable(found.without(left), tell)
    whose = patients_of([case.key for case in cases], patient_pattern)
    cases = [dataclasses.replace(case, patient=whose[case.key]) for case in cases]
    for pattern in leave_out:
        if pattern not in fitting:
            raise ConfigError(f"--leave-out {pattern}: fits none of the cases; expected some")
    if phantoms:
        tell(Progress("prepare", 0.0, message=f"{phantoms} made-up heads"))
        cases += phantom_cases(phantoms)
    keys = [case.key for case in cases]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"case {twice}: in two of the folders; expected each case once")
    if (patients := count_patients(cases)) < MIN_PATIENTS:
        raise DataError(
            f"{', '.join(map(str, folders)) or 'no folder'}: {len(cases)} usable cases of "
            f"{patients} patients; expected at least {MIN_PATIENTS} patients"
        )
    return cases


def split_cases(cases: Sequence[Case], config: PainterRun) -> dict[Split, np.ndarray]:
    """Row numbers of each split: by patient, stratified by the components that a case shows."""
    presence = np.array(
        [[(case.components == c).any() for c in range(1, len(COMPONENTS))] for case in cases]
    )
    return split_items(
        [Item(case.key, patient=case.patient) for case in cases],
        COMPONENTS[1:],
        seed=config.split_seed,
        val_share=config.val_share,
        test_share=config.test_share,
        presence=presence,
    )


def _keep_splits(directory: RunDirectory[PainterRun], splits: dict[str, list[str]]) -> None:
    """Write `splits.json`; a run that is resumed must have begun with the same: else `DataError`,
    for whom it was trained on would be tested on."""
    before = splits_beside(directory.path / WEIGHTS)
    if before is not None:
        was = {key: name for name in SPLITS for key in before[name]}
        now = {key: name for name in SPLITS for key in splits[name]}
        differing = [
            f"{key} was {was.get(key, 'not there')}, is {now.get(key, 'not there')}"
            for key in sorted(was.keys() | now.keys())
            if was.get(key) != now.get(key)
        ]
        if differing:
            raise DataError(
                f"{directory.path / 'splits.json'}: the cases are no longer those that this run "
                f"was begun with ({_first(differing, '; ')}); restore the data, or "
                "train anew with another --out"
            )
    directory.write_json("splits.json", splits)


def _nobody_seen_before(config: PainterRun, splits: dict[str, list[str]], tell: Tell) -> None:
    """`DataError` where a patient who would be held out is one that the painter to start from was
    trained on: it would seem to know patients that it never saw. Made-up heads are nobody's."""
    if config.start_from is None:
        return
    before = splits_beside(config.start_from)
    if before is None:
        message = (
            f"{config.start_from}: no splits.json beside it, so nobody can tell whether patients "
            "who are held out here were trained on"
        )
        tell(Progress("prepare", 0.0, message=message))
        return

    def patient(key: str) -> str:
        return patient_of(key, config.patient_pattern)

    held_out = [key for key in (*splits["val"], *splits["test"]) if not key.startswith(MADE_UP)]
    trained = [patient(key) for key in before["train"] if not key.startswith(MADE_UP)]
    known = same_names(map(patient, held_out), trained)
    if seen := sorted(name for name, found in known.items() if found):
        raise DataError(
            f"{config.start_from}: was trained on patients who are held out here "
            f"({_first(seen, ', ')}); leave out all that its splits.json names under "
            "`train` with --leave-out, or train without --start-from"
        )


def _first(names: Sequence[str], between: str) -> str:
    """The first `SHOWN` of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more


def count_patients(cases: Iterable[Case]) -> int:
    """How many patients there are; some may have several cases."""
    return len({case.patient for case in cases})


def _fits(key: str, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (key, real_case(key)))


def _usable(found: CaseFolder, tell: Tell) -> list[Case]:
    cases = []
    for number, case in enumerate(read_cases(found), 1):
        if isinstance(case, Finding):
            tell(Progress("prepare", 0.0, message=f"{case.where}: {case.what}; left out"))
        else:
            cases.append(case)
        tell(Progress("prepare", 0.0, site=f"{found.folder.name} ({number})"))
    return cases


def _train(directory: RunDirectory[PainterRun], cases: dict[Split, list[Case]], tell: Tell) -> Path:
    config, plan = directory.config, directory.config.plan
    trainer = Trainer(cases["train"], plan)
    start = load_painter(config.start_from) if config.start_from else None
    checkpoint = directory.path / "checkpoint.safetensors"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    elif start:
        trainer.start_from(start.network)
    held_out = Crops(cases["val"], trainer.config, plan.seed, plan.views.plain(), plan.mixture)
    batches = [held_out.batch(-1 - n, plan.batch_size) for n in range(VALIDATION_BATCHES)]
    began, done_before = time.perf_counter(), trainer.step
    while trainer.step < plan.steps:
        losses = []
        for loss in trainer.run(config.every - trainer.step % config.every):
            losses.append(loss)
            seconds = (time.perf_counter() - began) / (trainer.step - done_before)
            tell(
                Progress(
                    "paint",
                    trainer.step / plan.steps,
                    loss=loss,
                    seconds_left=seconds * (plan.steps - trainer.step),
                )
            )
        _look(directory, trainer, batches, float(np.mean(losses)), tell)
        trainer.save(checkpoint)  # last: a run that is killed before it looks again
    path = directory.path / WEIGHTS
    save_painter(_painter(trainer, directory.config, cases, start), path)
    return path


def _look(
    directory: RunDirectory[PainterRun],
    trainer: Trainer,
    batches: list[Batch],
    loss: float,
    tell: Tell,
) -> None:
    """Validate, record, and write a preview."""
    painter = Painter(trainer.average, trainer.objective, digest="")
    scores = validate(painter, batches, trainer.plan.tumour_map_weight)
    directory.record(
        {
            "unit": f"step-{trainer.step:06d}",
            "kind": "painter",
            "step": trainer.step,
            "loss": loss,
            **{f"validation_{name}": value for name, value in scores.items()},
        }
    )
    mean = f", mean {scores['psnr_mean']:.2f} dB" if "psnr_mean" in scores else ""
    tell(
        Progress(
            "paint",
            trainer.step / trainer.plan.steps,
            message=f"step {trainer.step}: loss {loss:.4f}, validation {scores['loss']:.4f}{mean}",
        )
    )
    path = directory.path / "previews" / f"step-{trainer.step:06d}.png"
    try:
        path.parent.mkdir(exist_ok=True)
        preview(painter, batches[-1]).save(path)
    except OSError as error:
        raise disk_error(error, path) from None


def _painter(
    trainer: Trainer, config: PainterRun, cases: dict[Split, list[Case]], start: Painter | None
) -> Painter:
    card = {
        "version": __version__,
        "data": [path.name for path in config.data],
        "phantoms": config.phantoms,
        "left_out": list(config.leave_out),
        "patient_pattern": config.patient_pattern,
        "sequence": config.sequence,
        "patients": {name: count_patients(cases[name]) for name in SPLITS},
        "started_from": start.digest if start else None,
        "steps": trainer.step,
        "seed": trainer.plan.seed,
    }
    return Painter(trainer.average, trainer.objective, digest="", card=card)


def _as_dict(config: PainterRun) -> Record:
    record = dataclasses.asdict(config)
    record["data"] = [str(path.resolve()) for path in config.data]
    record["start_from"] = str(config.start_from.resolve()) if config.start_from else None
    return record
