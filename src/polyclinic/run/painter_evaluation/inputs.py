"""What is judged on which patients: from a run directory, or from weights and folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.cases import MADE_UP, Case, Order, phantom_cases
from polyclinic.inpaint.painter import WEIGHTS, Painter, load_painter, splits_beside
from polyclinic.run.directory import read_json
from polyclinic.run.painter import PainterRun, load_cases, split_cases
from polyclinic.run.progress import Progress, Tell, silent

HeldOut = Literal["test", "val"]


@dataclass(frozen=True)
class Inputs:
    """A painter, the patients that it is judged on, and those that it was trained on."""

    painter: Painter
    held_out: list[Case]
    training: list[Case]
    folders: tuple[Path, ...]


def read_inputs(
    path: Path,
    data: tuple[Path, ...],
    order: Order,
    split: HeldOut,
    tell: Tell = silent,
    *,
    phantoms: bool = False,
) -> Inputs:
    """`path` is a run directory of `inpaint train` or a file of weights.

    A run names its folders (`data` overrides them) and its held-out cases. Weights need `data`;
    without a `splits.json` beside them it is split anew, as a run with default settings splits it.
    With `phantoms` the made-up heads that the run held out stand in for its patients.
    Raises `ConfigError`, `DataError`, `RunError`.
    """
    if phantoms and (data or not path.is_dir()):
        raise ConfigError(
            f"phantoms: expected the run directory of a painter alone, got {path}"
            + (f" and {len(data)} folders" if data else "")
        )
    if path.is_dir():
        return _of_run(path, data, order, split, tell, phantoms=phantoms)
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file or folder; expected a run directory of `polyclinic inpaint "
            f"train`, or its {WEIGHTS} together with DATA"
        )
    if not data:
        raise ConfigError(
            f"{path}: weights do not say where their patients are; name the folders of DATA, or "
            "the run directory instead of the weights"
        )
    painter = load_painter(path)
    cases = load_cases(data, order, tell, **_as_trained(painter.card))
    if (splits := splits_beside(path)) is not None:
        wanted = [key for key in splits[split] if not key.startswith(MADE_UP)]
        return _chosen(path, painter, cases, splits, wanted, split, data, tell)
    rows = split_cases(cases, PainterRun(data, order))
    tell(
        Progress(
            "prepare",
            0.0,
            message=f"{path.name}: the split is that of a run with default settings; the figures "
            "hold only if the painter was trained with it, or on none of these patients",
        )
    )
    return Inputs(painter, [cases[r] for r in rows[split]], [cases[r] for r in rows["train"]], data)


def read_splits(run: Path) -> dict[str, list[str]]:
    """The cases of each split of a run; `RunError` where its record is missing or damaged."""
    splits = splits_beside(run / WEIGHTS)
    if splits is None:
        raise RunError(f"{run}: no splits.json in this folder; restore it, or train again")
    return splits


def _of_run(
    run: Path,
    data: tuple[Path, ...],
    order: Order,
    split: HeldOut,
    tell: Tell,
    *,
    phantoms: bool,
) -> Inputs:
    weights = run / WEIGHTS
    if not weights.is_file():
        raise RunError(
            f"{run}: no {WEIGHTS} in this folder; expected a finished run of `polyclinic inpaint "
            "train`"
        )
    config, splits = read_json(run / "config.json"), read_splits(run)
    phantoms = phantoms or not (data or config.get("data"))
    if phantoms:
        folders: tuple[Path, ...] = ()
        cases = phantom_cases(_phantoms(config, run))
    else:
        folders = data or _folders(config, run)
        if order == "auto" and config.get("order") in get_args(Order):
            order = config["order"]
        cases = load_cases(folders, order, tell, **_as_trained(config))
    wanted = [key for key in splits[split] if key.startswith(MADE_UP) == phantoms]
    return _chosen(run, load_painter(weights), cases, splits, wanted, split, folders, tell)


def _chosen(
    path: Path,
    painter: Painter,
    cases: Sequence[Case],
    splits: Mapping[str, Sequence[str]],
    wanted: Sequence[str],
    split: HeldOut,
    folders: tuple[Path, ...],
    tell: Tell,
) -> Inputs:
    """Those of `cases` that the painter was trained on, and the `wanted` ones of its `split`."""
    by_key = {case.key: case for case in cases}
    held_out = [by_key[key] for key in wanted if key in by_key]
    training = [by_key[key] for key in splits["train"] if key in by_key]
    if missing := [key for key in wanted if key not in by_key]:
        tell(
            Progress(
                "prepare",
                0.0,
                message=f"{len(missing)} of {len(wanted)} held-out cases are not in the data, "
                f"{missing[0]} the first; left out",
            )
        )
    if not held_out or not training:
        where = ", ".join(map(str, folders)) or "made-up heads"
        raise DataError(
            f"{where}: {len(held_out)} cases of the {split} split of {path} and {len(training)} "
            f"of its training; expected the folders that it was trained on"
            + (f", with cases such as {wanted[0]}" if wanted else "")
        )
    return Inputs(painter, held_out, training, folders)


def _as_trained(record: Mapping[str, Any]) -> dict[str, Any]:
    """How the cases of a training are read, by its configuration or its painter's card."""
    return {name: record.get(name) for name in ("patient_pattern", "sequence")}


def _folders(config: dict[str, Any], run: Path) -> tuple[Path, ...]:
    found = config.get("data")
    if not isinstance(found, list) or not found:
        raise RunError(
            f"{run / 'config.json'}: expected the folders that the painter was trained on under "
            "`data`; name them after the run"
        )
    return tuple(Path(str(folder)) for folder in found)


def _phantoms(config: dict[str, Any], run: Path) -> int:
    found = config.get("phantoms")
    if not isinstance(found, int) or found < 1:
        raise ConfigError(
            f"{run}: its painter was trained on no made-up heads; name the folders of patients "
            "after the run, without --phantoms"
        )
    return found
