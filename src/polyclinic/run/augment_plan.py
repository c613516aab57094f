"""What an augmentation is asked for: which cases, which parts, which hospitals, and the plan."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyclinic.data.dataset import Finding
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.augment import Balance, PlannedEdit
from polyclinic.inpaint.cases import Case, CaseFolder, Order, find_cases, read_cases
from polyclinic.inpaint.components import COMPONENTS, TUMOUR_FREE, component
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.provenance import array_digest
from polyclinic.run.augment_files import read_target
from polyclinic.run.directory import RunDirectory, read_json
from polyclinic.run.progress import Progress, Tell

PARTS = COMPONENTS[1:]
"""What can be added: all components but tumour-free tissue."""


@dataclass(frozen=True)
class AugmentRun:
    """Everything that decides what an augmentation computes, apart from the painter's weights.

    `components` are names of those to lend, all if empty. `sites` is a regular expression whose
    first group finds the hospital in a case's key. `patients` is a list of the cases to use, see
    `chosen_cases`. The seed of `settings` decides the plan and all noise.
    """

    data: Path
    count: int
    order: Order = "auto"
    components: tuple[str, ...] = ()
    balance: Balance = "none"
    remove_tumours: bool = False
    sites: str | None = None
    patients: Path | None = None
    settings: Settings = field(default_factory=Settings)


def part_numbers(names: Sequence[str]) -> tuple[int, ...]:
    """Numbers of components by name; `ConfigError` where one is unknown or no part of a tumour."""
    numbers = tuple(component(name) for name in names)
    if TUMOUR_FREE in numbers:
        raise ConfigError(
            f"component: {COMPONENTS[TUMOUR_FREE]} is nothing to add; expected one of "
            f"{', '.join(PARTS)}"
        )
    return numbers


def find_chosen(config: AugmentRun) -> CaseFolder:
    """The data set, with the cases that may be used; `ConfigError`, `DataError` if none can be."""
    found = find_cases(config.data, config.order)
    if found.order == "mask" and found.layout != "image-masks":
        raise ConfigError(
            f"{config.data}: volumes whose labels mean a mixture, for which BraTS has no number; "
            "expected labels in brats or msd order, or images/ with masks/"
        )
    chosen = chosen_cases(found, config.patients)
    return dataclasses.replace(found, sources={key: found.sources[key] for key in chosen})


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
    try:
        pattern = re.compile(config.sites)
    except re.error as error:
        raise ConfigError(f"sites: {config.sites!r} is no regular expression ({error})") from None
    if not pattern.groups:
        raise ConfigError(
            f"sites: {config.sites!r} has no group; expected one in brackets for the hospital, "
            "such as TCGA_([A-Z]+)_"
        )
    sites = {}
    for key in keys:
        match = pattern.search(key)
        if match is None or not match.group(1):
            raise ConfigError(f"sites: {config.sites!r} finds no hospital in the name {key}")
        sites[key] = match.group(1)
    return sites


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


def chosen_cases(found: CaseFolder, patients: Path | None) -> list[str]:
    """Keys of the cases of `found` that may be used: all, or those that the file `patients` names.

    The file has a key a line, or is the `splits.json` of a painter's run, of which the patients in
    `train` count. Raises `ConfigError` where it cannot be read or has a key that is no case, and
    `DataError` where no case is left.
    """
    if patients is None:
        return list(found.sources)
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
