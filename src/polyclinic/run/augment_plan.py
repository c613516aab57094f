"""What an augmentation is asked for: which cases, which parts, which hospitals, and the plan."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyclinic.data.dataset import Finding
from polyclinic.data.patients import same_names
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.augment import Balance, PlannedEdit
from polyclinic.inpaint.cases import (
    Case,
    CaseFolder,
    Order,
    find_cases,
    first_groups,
    read_cases,
)
from polyclinic.inpaint.components import COMPONENTS, MASK, TUMOUR_FREE, component
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.provenance import array_digest
from polyclinic.run.augment_files import read_target
from polyclinic.run.directory import RunDirectory, read_json
from polyclinic.run.progress import Progress, Tell

PARTS = COMPONENTS[1:]
"""What can be added: all components but tumour-free tissue, which stands for none of them."""


@dataclass(frozen=True)
class AugmentRun:
    """Everything that decides what an augmentation computes, apart from the painter's weights.

    `components` are names of those to lend, all if empty; tumour-free alone lends none, and the
    cases' own tumours are painted away. `sites` is a regular expression whose first group finds the
    hospital in a case's key, `patient_pattern` one for the patient. `patients` is a list of the
    cases to use, see `chosen_cases`; without one, all but those that the painter's training held
    out. `sequence` is that of images with masks. The seed of `settings` decides the plan and all
    noise.
    """

    data: Path
    count: int
    order: Order = "auto"
    components: tuple[str, ...] = ()
    balance: Balance = "none"
    remove_tumours: bool = False
    sites: str | None = None
    patients: Path | None = None
    patient_pattern: str | None = None
    sequence: str | None = None
    settings: Settings = field(default_factory=Settings)


def part_numbers(names: Sequence[str]) -> tuple[int, ...]:
    """Numbers of components by name; `ConfigError` where one is unknown, or tumour-free tissue is
    asked for beside parts of a tumour."""
    numbers = tuple(dict.fromkeys(component(name) for name in names))
    if TUMOUR_FREE in numbers and len(numbers) > 1:
        raise ConfigError(
            f"component: {COMPONENTS[TUMOUR_FREE]} adds nothing, so it stands alone; expected it, "
            f"or some of {', '.join(PARTS)}"
        )
    return numbers


def find_chosen(
    config: AugmentRun, splits: Mapping[str, Sequence[str]]
) -> tuple[CaseFolder, list[str]]:
    """The data set, with the cases that may be used, and what is to be told about it.

    `splits` are the cases of the painter's training.

    Raises `ConfigError`, and `DataError` if none can be used.
    """
    found = find_cases(config.data, config.order, config.patient_pattern, config.sequence)
    if found.order == MASK and found.layout != "image-masks":
        raise ConfigError(
            f"{config.data}: volumes whose labels mean a mixture, for which BraTS has no number; "
            "expected labels in brats or msd order, or images/ with masks/"
        )
    messages = [f"{config.data}: {found.describe()}"]
    if config.patients is not None:
        chosen = chosen_cases(found, config.patients)
    else:
        chosen = not_held_out(found, splits)
        if not any(_in_training(found, splits).values()):
            why = (
                "none of its cases is known from the painter's training"
                if splits
                else "no splits.json beside the painter says whom it was trained on"
            )
            messages.append(
                f"{config.data}: {why}, so none is left out as held out; if it was trained on "
                "some of them, say which to use with --patients"
            )
        if left_out := len(found.sources) - len(chosen):
            messages.append(
                f"{config.data}: {left_out} cases left out, of patients that the painter's "
                "training held out; --patients says otherwise"
            )
    sources = {key: found.sources[key] for key in chosen}
    return dataclasses.replace(found, sources=sources), messages


def read_usable(found: CaseFolder, tell: Tell, messages: list[str]) -> list[Case]:
    """All cases that can be painted on, without their volumes: the plan needs labels and heads.

    What is told is added to `messages`. Raises `DataError` where no case is left.
    """
    cases = []
    for number, case in enumerate(read_cases(found), 1):
        usable = case
        if isinstance(case, Case):
            try:
                read_target(found, case.key)
            except DataError as error:
                usable = Finding("warning", case.key, str(error))
        if isinstance(usable, Finding):
            messages.append(f"{usable.where}: {usable.what}; left out")
            tell(Progress("prepare", 0.0, message=messages[-1]))
        else:
            cases.append(dataclasses.replace(usable, volumes={}))
        tell(Progress("prepare", 0.0, site=f"{found.folder.name} ({number})"))
    if not cases:
        raise DataError(f"{found.folder}: no case can be used; expected some to paint on")
    return cases


def hospitals(keys: Sequence[str], config: AugmentRun) -> dict[str, str]:
    """The hospital of each case in `keys`; empty without a pattern. Raises `ConfigError` where the
    pattern is wrong, finds nothing, or is needed and not there."""
    if config.sites is None:
        if config.balance == "site":
            raise ConfigError(
                "balance: `site` needs the hospital of each case; add --sites with a pattern that "
                "finds it in the case's name"
            )
        return {}
    return first_groups(keys, config.sites, "sites", "hospital", "TCGA_([A-Z]+)_")


def keep_plan(directory: RunDirectory[AugmentRun], planned: Sequence[PlannedEdit]) -> None:
    """Write the plan; a run that is resumed must have begun with the same one, or less of it:
    else `DataError`, or `ConfigError` where there was more."""
    edits = [
        {
            "key": edit.key,
            "target": edit.target,
            "donor": edit.donor,
            "corner": list(edit.corner),
            "shape": list(edit.parts.shape),
            "sha256": array_digest(edit.parts),
            "removes": edit.removes,
            "seed": edit.seed,
        }
        for edit in planned
    ]
    path, data = directory.path / "plan.json", directory.config.data
    before: list[Any] = read_json(path).get("edits", []) if path.exists() else []
    if len(before) > len(edits):
        raise ConfigError(
            f"{path}: {len(before)} cases are planned already, got --add {len(edits)}; expected as "
            "many or more"
        )
    for old, new in zip(before, edits, strict=False):
        if old != new:
            raise DataError(
                f"{data}: its cases are no longer those from which {path} was planned (see "
                f"{new['key']}); expected the same ones; restore them, or choose another --out"
            )
    directory.write_json("plan.json", {"edits": edits})


def not_held_out(found: CaseFolder, splits: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys of the cases of `found` without those of a patient in the validation or test split of
    the painter's training, in whatever folder they lay then; `DataError` where none is left."""
    held_out = {found.patient(key) for name in ("val", "test") for key in splits.get(name, [])}
    trained = _in_training(found, splits)
    chosen = [key for key in found.sources if held_out.isdisjoint(trained[found.patient(key)])]
    if not chosen:
        raise DataError(
            f"{found.folder}: all {len(found.sources)} cases are of patients that the painter's "
            "training held out; name cases with --patients to use them all the same"
        )
    return chosen


def _in_training(found: CaseFolder, splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each patient of `found` those of the painter's training that it may be."""
    known = [found.patient(key) for keys in splits.values() for key in keys]
    return same_names(map(found.patient, found.sources), known)


def chosen_cases(found: CaseFolder, patients: Path) -> list[str]:
    """Keys of the cases of `found` that the file `patients` names.

    The file has a key a line, or is the `splits.json` of a painter's run, of which the patients in
    `train` count. Raises `ConfigError` where it cannot be read or has a key that is no case, and
    `DataError` where no case is left.
    """
    try:
        if patients.suffix.lower() == ".json":
            split = read_json(patients).get("train")
            if not isinstance(split, list):
                raise ConfigError(f"{patients}: expected the splits.json of `inpaint train`")
            named = {str(key) for key in split}  # a painter may have learned from other folders too
        else:
            lines = patients.read_text(encoding="utf-8-sig").splitlines()
            named = {line.strip() for line in lines if line.strip()}
            unknown = sorted(named - found.sources.keys())
            if unknown:
                raise ConfigError(
                    f"{patients}: {unknown[0]} is no case of {found.folder}; expected one a line, "
                    f"such as {next(iter(found.sources))}"
                )
    except (OSError, UnicodeDecodeError, RunError) as error:
        raise ConfigError(f"{patients}: cannot be read ({error})") from None
    chosen = [key for key in found.sources if key in named]
    if not chosen:
        raise DataError(f"{patients}: names no case of {found.folder}; expected some of its cases")
    return chosen
