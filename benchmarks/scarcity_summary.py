"""What the cells of the scarcity study say: Dice, paired gains, intervals, corrected p-values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from polyclinic.errors import RunError
from polyclinic.evaluate.bootstrap import Estimate, cluster_weights, interval, paired_gain
from polyclinic.evaluate.metrics import Predictions
from polyclinic.evaluate.statistics import DECIMALS, holm, wilcoxon
from polyclinic.inpaint.components import COMPONENTS
from scarcity_arms import BRIEF, PAINTED, RARE, REFERENCE
from scarcity_patients import ALL, size_of

Record = dict[str, Any]
Cells = Mapping[tuple[str, int, int, str], Record]
Draws = tuple[NDArray[np.float64], int]
"""Mean gains (seeds,) over the patients of one hospital, and how many these are."""
CHOSEN = "painted-chosen"
"""Stands for the remedy that was chosen for a hospital."""
MEASURES = ("whole", *COMPONENTS[1:])
"""Rows of the counts: the whole tumour, then each component."""
RESAMPLES = 2000
CLAIM = {"patients_at_most": 10, "gain_at_least": 0.03}


@dataclass(frozen=True)
class Table:
    """The cells of one size: `counts[arm]` int64 (seeds, N, measures, 3) of the N patients
    `keys`, `of` which hospital each is: segmenters that judge it never saw that one."""

    size: str
    hospitals: tuple[str, ...]
    keys: tuple[str, ...]
    of: tuple[str, ...]
    patients: dict[str, int]  # trained on, for each hospital left out
    counts: dict[str, NDArray[np.int64]]

    def shown(self, measure: int) -> NDArray[np.bool_]:
        """Patients (N,) that truly show what is measured: the others have no Dice."""
        true: NDArray[np.bool_] = next(iter(self.counts.values()))[0, :, measure, 2] > 0
        return true

    def predictions(self, arm: str, measure: int) -> list[Predictions]:
        """One a seed, one row a patient that shows it."""
        rows = self.shown(measure)
        clusters = np.arange(rows.sum(), dtype=np.int64)
        return [
            Predictions.segmentation(seed[rows][:, [measure]], clusters)
            for seed in self.counts[arm]
        ]

    def dice(self, arm: str, measure: int) -> NDArray[np.float64]:
        """Dice (seeds, patients that show it)."""
        counts = self.counts[arm][:, self.shown(measure), measure]
        dice: NDArray[np.float64] = 2 * counts[..., 0] / counts[..., 1:].sum(-1)
        return dice

    def draws(self, differences: NDArray[np.float64], measure: int) -> list[Draws]:
        """`differences` (seeds, patients that show it) as the mean over patients of each hospital
        and seed, one pair of segmenters each, and how many patients there are."""
        of = np.array(self.of)[self.shown(measure)]
        rows = [of == name for name in self.hospitals if (of == name).any()]
        return [(differences[:, row].mean(1), int(row.sum())) for row in rows]


def table(
    cells: Cells,
    judged: Mapping[str, Sequence[str]],
    available: Mapping[str, int],
    size: str,
    seeds: int,
    arms: Sequence[str],
    chosen: Mapping[str, str],
) -> Table:
    """The cells of `size`. `judged` are the patients of each hospital left out, `available` how
    many there are to train on. Arms that lack a cell are left out."""
    hospitals = tuple(judged)
    patients = {name: size_of(size, available[name]) for name in hospitals}
    counts = {}
    for arm in arms:
        names = {name: chosen.get(name, arm) if arm == CHOSEN else arm for name in hospitals}
        units = [
            [(name, patients[name], seed, names[name]) for name in hospitals]
            for seed in range(seeds)
        ]
        if all(unit in cells for row in units for unit in row):
            counts[arm] = np.array(
                [
                    [cells[unit]["counts"][key] for unit in row for key in judged[unit[0]]]
                    for row in units
                ],
                np.int64,
            )
    keys = tuple(key for name in hospitals for key in judged[name])
    of = tuple(name for name in hospitals for _ in judged[name])
    return Table(size, hospitals, keys, of, patients, counts)


def only(whole: Table, hospital: str) -> Table:
    """The rows of one hospital."""
    rows = np.array(whole.of) == hospital
    return Table(
        whole.size,
        (hospital,),
        tuple(np.array(whole.keys)[rows].tolist()),
        (hospital,) * int(rows.sum()),
        {hospital: whole.patients[hospital]},
        {arm: counts[:, rows] for arm, counts in whole.counts.items()},
    )


def scores(tables: Sequence[Table], seed: int) -> list[Record]:
    """Dice of every arm, size and measure, with intervals over patients."""
    return [
        _place(one, row, arm) | _plain(interval(one.predictions(arm, row), "dice", weights))
        for one, row, weights in _measured(tables, seed)
        for arm in one.counts
    ]


def gains(tables: Sequence[Table], seed: int) -> list[Record]:
    """Every arm against the reference, patient by patient.

    `p` is of Wilcoxon's signed-rank test over patients, each with the mean over seeds; `p_holm` is
    corrected for all arms and sizes of the same measure and hospitals. These and the interval hold
    for these segmenters; `draws` has an interval for others of these hospitals (`over_draws`).
    """
    found: list[Record] = []
    for one, row, weights in _measured(tables, seed):
        for arm in one.counts:
            if arm == REFERENCE or REFERENCE not in one.counts:
                continue
            estimate = paired_gain(
                one.predictions(arm, row), one.predictions(REFERENCE, row), "dice", weights
            )
            differences = one.dice(arm, row) - one.dice(REFERENCE, row)
            means = differences.mean(0).round(DECIMALS)
            found.append(
                _place(one, row, arm)
                | {"over": REFERENCE, "patients_won": int((means > 0).sum())}
                | _plain(estimate)
                | {"p": wilcoxon(means), "draws": over_draws(one.draws(differences, row))}
            )
    families: dict[tuple[str, str], list[Record]] = {}
    for record in found:
        families.setdefault((record["measure"], record["hospital"]), []).append(record)
    for family in families.values():
        for record, p in zip(family, holm([r["p"] for r in family]).tolist(), strict=True):
            record["p_holm"] = p
    return found


def over_draws(hospitals: Sequence[Draws]) -> Record:
    """Student's interval of 95 % about the mean over patients, if other patients of the training
    hospitals had been drawn and other weights, and the same patients judged.

    The variance between seeds is that within hospitals, pooled. One seed has no interval.
    """
    everyone = sum(patients for _, patients in hospitals)
    value = sum(patients / everyone * float(gains.mean()) for gains, patients in hospitals)
    freedom = sum(len(gains) - 1 for gains, _ in hospitals)
    low: float | None = None
    high: float | None = None
    if freedom:
        squares = sum(float(((gains - gains.mean()) ** 2).sum()) for gains, _ in hospitals)
        shares = sum((patients / everyone) ** 2 / len(gains) for gains, patients in hospitals)
        reach = float(stats.t.ppf(0.975, freedom)) * math.sqrt(squares / freedom * shares)
        low, high = value - reach, value + reach
    return {"count": freedom + len(hospitals), "low": low, "high": high}


def claim(found: Sequence[Record]) -> Record:
    """Does painting add at least 3 points, interval above 0, with at most 10 patients?

    The remedy that was fixed before the test is judged. Shown beside it, without a verdict, are
    plain painting, as the better of two would be chosen on the test patients, and what a shorter
    training is worth, by which the gain could be overstated. The verdict rests on the interval over
    patients; that over draws is beside it.
    """
    rows = [
        record
        for record in found
        if record["measure"] == "whole"
        and record["hospital"] == ALL
        and record["arm"] in (PAINTED, CHOSEN, BRIEF)
        and record["size"].isdigit()
        and int(record["size"]) <= CLAIM["patients_at_most"]
    ]
    columns = ("size", "arm", "value", "low", "high", "p_holm", "draws")
    shown = [{name: record[name] for name in columns} for record in rows]
    judged = [row for row in shown if row["arm"] == CHOSEN]
    for row in judged:
        low = row["low"]
        row["holds"] = row["value"] >= CLAIM["gain_at_least"] and low is not None and low > 0
    holding = {row["size"] for row in judged if row["holds"]}
    holds = bool(judged) and holding == {row["size"] for row in shown}
    return {**CLAIM, "judged": CHOSEN, "rows": shown, "pass": holds}


def imbalance(found: Sequence[Record], tables: Sequence[Table]) -> Record:
    """The rarest component: the one with the fewest true voxels, and what the arms make of it."""
    true = next(iter(tables[0].counts.values()))[0, :, 1:, 2].sum(axis=0)  # (components,)
    rarest = MEASURES[1 + int(np.where(true > 0, true, true.max() + 1).argmin())]
    rows = [r for r in found if r["measure"] == rarest and r["hospital"] == ALL]
    return {"rarest": rarest, "balanced_arm": RARE, "gains": rows}


def choose(cells: Cells, candidates: Sequence[str], hospitals: Sequence[str]) -> dict[str, Record]:
    """For each hospital left out, the candidate with the highest gain in whole-tumour Dice over
    the reference: the mean over its draws and the patients that they were judged on. Gains are told
    of all arms that were trained."""
    chosen: dict[str, Record] = {}
    for hospital in hospitals:
        differences: dict[str, list[float]] = {}
        for unit, cell in cells.items():
            reference = cells.get((*unit[:3], REFERENCE))
            if unit[0] == hospital and unit[3] != REFERENCE and reference is not None:
                gain = _mean_dice(cell) - _mean_dice(reference)
                differences.setdefault(unit[3], []).append(gain)
        found = {arm: float(np.mean(values)) for arm, values in sorted(differences.items())}
        tried = [arm for arm in candidates if arm in found]
        if not tried:
            raise RunError(f"no cell to choose a remedy for {hospital} by; run --phase choose")
        best = max(tried, key=lambda arm: found[arm])
        draws = {arm: len(values) for arm, values in sorted(differences.items())}
        chosen[hospital] = {
            "arm": best, "candidates": sorted(candidates), "gains": found, "draws": draws
        }  # fmt: skip
    return chosen


def _mean_dice(cell: Record) -> float:
    """Whole-tumour Dice, mean over the patients of a cell."""
    overlap, found, true = np.array(list(cell["counts"].values()))[:, 0].T
    return float(np.mean(2 * overlap / np.maximum(1, found + true)))


def _measured(tables: Sequence[Table], seed: int) -> Iterator[tuple[Table, int, NDArray[np.int32]]]:
    """Each table and measure that any of its patients shows, and how resamples weigh them."""
    for one in tables:
        for row in range(len(MEASURES)):
            if one.counts and (count := int(one.shown(row).sum())):
                yield one, row, cluster_weights(np.arange(count), RESAMPLES, seed)


def _place(one: Table, row: int, arm: str) -> Record:
    return {
        "size": one.size,
        "measure": MEASURES[row],
        "arm": arm,
        "hospital": one.hospitals[0] if len(one.hospitals) == 1 else ALL,
        "trained_on": one.patients,
        "judged_on": int(one.shown(row).sum()),
    }


def _plain(estimate: Estimate) -> Record:
    """For JSON, which has no NaN: one patient alone has no interval."""
    limits = {"low": estimate.low, "high": estimate.high}
    return {
        "value": estimate.value,
        **{name: None if math.isnan(limit) else limit for name, limit in limits.items()},
        "per_seed": list(estimate.per_seed),
    }
