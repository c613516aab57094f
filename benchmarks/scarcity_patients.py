"""Who is in the scarcity study: hospitals, painters that have not seen one, who trains on what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyclinic.data.patients import last_part, patient_of
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.painter import Painter, load_painter
from polyclinic.run.directory import read_json
from polyclinic.seeding import derive

MIN_JUDGED = 3
"""Patients that a remedy is chosen on, at least."""
ALL = "all"


@dataclass(frozen=True)
class StudyPainter:
    """A painter's run directory. `trained` are the patients whose images its weights were fitted
    to, `unseen` those of its validation and test splits."""

    run: Path
    digest: str
    trained: frozenset[str]
    unseen: frozenset[str]

    def described(self) -> dict[str, object]:
        """For the records: weights by their digest, not by where they are."""
        return {"digest": self.digest, "fitted_to_patients": len(self.trained)}

    def open(self) -> Painter:
        """Load the weights."""
        return load_painter(self.run / "painter.safetensors")


@dataclass(frozen=True)
class Group:
    """All arms of one draw: trained on the patients `trained`, judged on `judged`, none in both.

    `hospital` is the one that is left out.
    """

    phase: str
    hospital: str
    seed: int
    trained: tuple[str, ...]
    judged: tuple[str, ...]
    arms: tuple[str, ...]

    @property
    def patients(self) -> int:
        """How many it is trained on."""
        return len(self.trained)

    def unit(self, arm: str) -> tuple[str, int, int, str]:
        """What one cell is called in the records."""
        return self.hospital, self.patients, self.seed, arm


def patient(key: str) -> str:
    """A case's patient, whatever folder the case was found in."""
    return last_part(patient_of(key))


def hospital(key: str) -> str | None:
    """The middle part of a patient's id, as in TCGA_DU_5849; None where there is none."""
    parts = patient(key).split("_")
    return parts[1] if len(parts) == 3 else None


def by_hospital(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Patients of each hospital, both in alphabetical order; `DataError` where one has none."""
    found: dict[str, list[str]] = {}
    for key in sorted(keys):
        name = hospital(key)
        if name is None:
            raise DataError(
                f"case {key}: no hospital in its name; expected three parts as in TCGA_DU_5849"
            )
        found.setdefault(name, []).append(key)
    if len(found) < 3:
        raise DataError(
            f"patients of {', '.join(sorted(found))} only; expected three hospitals or more: two "
            "to train on, and one to test on"
        )
    return {name: tuple(found[name]) for name in sorted(found)}


def read_painter(run: Path, left_out: str) -> StudyPainter:
    """The painter of a run directory; `ConfigError` if it has seen a patient of `left_out`.

    Patients of its validation split count as seen: somebody may have chosen by them.
    """
    weights = run / "painter.safetensors"
    if not weights.is_file() or not (run / "splits.json").is_file():
        raise ConfigError(
            f"{run}: expected the finished run of `polyclinic inpaint train`, with splits.json and "
            "painter.safetensors"
        )
    splits = read_json(run / "splits.json")
    painter = load_painter(weights)
    counts = {name: len(keys) for name, keys in splits.items()}
    if painter.card.get("patients") != counts:
        raise ConfigError(
            f"{run}: splits.json names {counts} patients, the painter's card says "
            f"{painter.card.get('patients')}; expected both from one run"
        )
    seen = [key for name in ("train", "val") for key in splits[name] if hospital(key) == left_out]
    if seen:
        raise ConfigError(
            f"{run}: this painter has seen {len(seen)} patients of {left_out}, {seen[0]} among "
            f"them, which is the test hospital; train one with `polyclinic inpaint train DATA "
            f"--leave-out 'TCGA_{left_out}_*' --out {run}-without-{left_out}`"
        )
    return StudyPainter(
        run,
        painter.digest,
        frozenset(map(patient, splits["train"])),
        frozenset(map(patient, [*splits["val"], *splits["test"]])),
    )


def choosing_groups(
    patients: dict[str, tuple[str, ...]],
    painters: dict[str, StudyPainter],
    sizes: Sequence[str],
    seeds: int,
    arms: tuple[str, ...],
) -> list[Group]:
    """Trained on the painter's own patients, judged on those of the training hospitals that it was
    not fitted to. No patient of the hospital left out is in any group."""
    groups = []
    for left_out, painter in painters.items():
        others = [key for name in patients if name != left_out for key in patients[name]]
        own = [key for key in others if patient(key) in painter.trained]
        judged = tuple(key for key in others if patient(key) in painter.unseen)
        if len(judged) < MIN_JUDGED or not own:
            raise DataError(
                f"{painter.run}: its splits leave {len(judged)} patients to choose on and "
                f"{len(own)} to train on; expected at least {MIN_JUDGED} and 1 of these data"
            )
        groups += _groups("choose", left_out, own, judged, sizes, seeds, arms)
    return groups


def testing_groups(
    patients: dict[str, tuple[str, ...]],
    sizes: Sequence[str],
    seeds: int,
    arms: dict[str, dict[str, tuple[str, ...]]],
) -> list[Group]:
    """Trained on patients of the other hospitals, judged on all patients of the one left out.

    `arms` are those of each hospital that is studied, by size.
    """
    groups: list[Group] = []
    for left_out, own_arms in arms.items():
        judged = patients[left_out]
        others = [key for name in patients if name != left_out for key in patients[name]]
        merged: dict[int, tuple[str, ...]] = {}  # 20 and all are the same where there are but 20
        for size in sizes:
            count = size_of(size, len(others))
            merged[count] = tuple(dict.fromkeys((*merged.get(count, ()), *own_arms[size])))
        for count, own in merged.items():
            groups += _groups("test", left_out, others, judged, [str(count)], seeds, own)
    return groups


def size_of(size: str, available: int) -> int:
    """The number of patients that a size means."""
    return available if size == ALL else min(int(size), available)


def _groups(
    phase: str,
    left_out: str,
    candidates: Sequence[str],
    judged: tuple[str, ...],
    sizes: Sequence[str],
    seeds: int,
    arms: tuple[str, ...],
) -> list[Group]:
    """A group a seed and number of patients; a smaller draw is part of a larger one."""
    groups = []
    for seed in range(seeds):
        rng = np.random.default_rng(derive(seed, phase, "patients", left_out))
        order = [candidates[row] for row in rng.permutation(len(candidates))]
        counts = dict.fromkeys(size_of(size, len(candidates)) for size in sizes)
        groups += [
            Group(phase, left_out, seed, tuple(order[:count]), judged, arms) for count in counts
        ]
    return groups
