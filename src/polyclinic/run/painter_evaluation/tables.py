"""From rows of edits to tables: one table a question, computed from the rows alone.

A table is a list of entries with the same keys: `variant`; `kind` of edit; `by` and `group`, the
part of the edits that is meant; `measure`; `value`, `low` and `high`; `edits` and `patients`.
Comparisons with the real slices are paired: a painted and a real row of the same edit.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.evaluate.painting.ring import ring_auc
from polyclinic.evaluate.painting.texture import TEXTURE_FEATURES
from polyclinic.evaluate.painting.variety import copy_rate
from polyclinic.run.painter_evaluation import intervals
from polyclinic.run.painter_evaluation.intervals import NONE, Interval
from polyclinic.run.painter_evaluation.measure import REAL, Row

Entry = dict[str, Any]
Pair = tuple[Row, Row]
"""A row of a variant, and that of the real slices of the same edit."""

ALL = "all"
FIDELITY = ("psnr", "ssim", "mse", "found_tumour")
CHALLENGE = ("challenge_ssim", "challenge_psnr", "challenge_psnr_01", "challenge_mse")
COMPARED = ("psnr", "ssim", "mse", "seconds")
MIN_RING_PATIENTS = 2
MIN_SPREAD = 1e-6
"""A feature that varies less than that among the real regions of a sequence says nothing."""

Grouping = Callable[[Row], str]
OF_REGIONS: Mapping[str, Grouping] = {
    ALL: lambda _: ALL,
    "sequence": lambda row: str(row["sequence"]),
    "size": lambda row: str(row["size"]),
    "shape": lambda row: str(row["shape"]),
}
OF_TUMOURS: Mapping[str, Grouping] = {
    **OF_REGIONS,
    "request": lambda row: f"{row['request']}, {row['shape']}",
}
OF_COMPONENTS: Mapping[str, Grouping] = {
    "component": lambda row: f"{row['component']}, {row['shape']}",
    "size": lambda row: f"{row['component']}, {row['size']}",
}


def tables(
    rows: Sequence[Row], seed: int, references: Sequence[str] = ()
) -> dict[str, list[Entry]]:
    """Every table, by name; variants stand in the order of the first edit's rows.

    `differences` has every variant against the first one, and against those of `references`.
    """
    rows = _standardised(rows)
    real = {_place(row): row for row in rows if row["variant"] == REAL}
    pairs: dict[str, list[Pair]] = {}
    for row in rows:
        if row["variant"] != REAL:
            pairs.setdefault(row["variant"], []).append((row, real[_place(row)]))
    found: dict[str, list[Entry]] = {name: [] for name in TABLES}
    for variant, mine in pairs.items():
        for name, make in TABLES.items():
            found[name] += [{"variant": variant, **entry} for entry in make(mine, seed)]
    against = dict.fromkeys([*list(pairs)[:1], *references])
    found["differences"] = [
        entry for name in against if name in pairs for entry in _differences(pairs, name, seed)
    ]
    return found


def _place(row: Row) -> tuple[int, str]:
    """Edit and sequence."""
    return int(row["edit"]), str(row["sequence"])


def _standardised(rows: Sequence[Row]) -> list[Row]:
    """The same rows with features in standard deviations from the mean, both of the real rows of
    their sequence: KID's kernel supposes numbers of about 1."""
    real: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["variant"] == REAL:
            real.setdefault(row["sequence"], []).append(row["features"])
    usual = {name: (np.mean(them, axis=0), np.std(them, axis=0)) for name, them in real.items()}
    scaled = []
    for row in rows:
        middle, spread = usual[row["sequence"]]
        says = spread >= MIN_SPREAD
        features = (np.array(row["features"]) - middle) / np.where(says, spread, 1.0) * says
        scaled.append({**row, "features": features.tolist()})
    return scaled


def _infill(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """Nearness to the truth of tumour-free regions in single slices."""
    yield from _means(_of(pairs, "infill"), FIDELITY, OF_REGIONS, "infill", seed)


def _challenge(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """The challenge's scores of volumes, and how neighbouring slices differ, against the real."""
    mine, groupings = _of(pairs, "volume"), {k: OF_REGIONS[k] for k in (ALL, "sequence")}
    yield from _means(mine, CHALLENGE, groupings, "volume", seed)
    for by, group, some in _grouped(mine, groupings):
        found = _ratio(some, "between_slices", "between_slices", seed)
        yield {"kind": "volume", "by": by, "group": group, **found}


def _components(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """The segmenter's Dice on painted and on real components, and what it takes them for."""
    parts: list[Pair] = []
    for painted, truth in _of(pairs, "tumour"):
        theirs = {part["component"]: part for part in truth["components"]}
        for part in painted["components"]:
            other = theirs[part["component"]]
            # size classes are those of the real part: a box may hold less
            parts.append(({**painted, **part, "size": other["size"]}, {**truth, **other}))
    for by, group, some in _grouped(parts, OF_COMPONENTS):
        head = {"kind": "tumour", "by": by, "group": group}
        for measure in ("dice", "as_asked", "as_another", "as_none"):
            yield {**head, **_mean([row for row, _ in some], measure, measure, seed)}
        yield {**head, **_mean([row for _, row in some], "dice", "dice_real", seed)}
        yield {**head, **_mean([row for _, row in some], "as_another", "as_another_real", seed)}
        yield {**head, **_ratio(some, "dice", "dice_ratio", seed)}


def _seams(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """Does the border show: step against the real one, and whether a classifier can tell."""
    for kind, mine in _kinds(pairs):
        yield from _means(mine, ("seam_ratio",), OF_REGIONS, kind, seed)
        for by, group, some in _grouped(mine, {ALL: OF_REGIONS[ALL], "shape": OF_REGIONS["shape"]}):
            yield {
                "kind": kind,
                "by": by,
                "group": group,
                "measure": "ring_auc",
                **_numbers(_ring(some, seed)),
            }


def _variety(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """How much samples of different seeds differ."""
    for kind, mine in _kinds(pairs):
        yield from _means(mine, ("diversity", "deviation"), OF_REGIONS, kind, seed)


def _containment(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """Pixels changed outside of regions, and whether tumours stay in their boxes."""
    yield from _means(pairs, ("changed_outside",), {ALL: OF_REGIONS[ALL]}, ALL, seed)
    boxes = [pair for pair in _of(pairs, "tumour") if "containment" in pair[0]]
    measures = ("containment", "containment_found", "filled")
    yield from _means(boxes, measures, {k: OF_TUMOURS[k] for k in (ALL, "request")}, "tumour", seed)
    for measure in ("containment_found", "filled"):
        for by, group, some in _grouped(boxes, {ALL: OF_TUMOURS[ALL]}):
            real = _mean([row for _, row in some], measure, f"{measure}_real", seed)
            yield {"kind": "tumour", "by": by, "group": group, **real}


def _features(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """KID of the encoder's features, and texture in standard deviations from the real one."""
    for kind, mine in _kinds(pairs):
        groupings = {k: OF_TUMOURS[k] for k in (ALL, "sequence", "request")}
        for by, group, some in _grouped(mine, groupings):
            head = {"kind": kind, "by": by, "group": group}
            a, b = (np.array([pair[n]["features"] for pair in some]) for n in (0, 1))
            places = [(row["case"], row["slice"]) for row, _ in some]
            found = intervals.kernel_distance(a, b, places, _patients(some), seed)
            yield {**head, "measure": "kid", **_numbers(found)}
        for number, name in enumerate(TEXTURE_FEATURES):
            both = [p for p in mine if None not in (row["texture"][number] for row in p)]
            a, b = (np.array([pair[n]["texture"][number] for pair in both]) for n in (0, 1))
            found = intervals.standardised_difference(a, b, _patients(both), seed)
            head = {"kind": kind, "by": ALL, "group": ALL}
            yield {**head, "measure": f"texture: {name}", **_numbers(found)}


def _copies(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """Regions that are nearer to a training image than 19 of 20 real ones."""
    for kind, mine in _kinds(pairs):
        both = [p for p in mine if None not in (p[0]["nearest"], p[1]["nearest"])]
        if not both:
            continue
        painted, real = (np.array([pair[n]["nearest"] for pair in both]) for n in (0, 1))
        patients, head = _patients(both), {"kind": kind, "by": ALL, "group": ALL}
        threshold = copy_rate(painted, real).threshold
        for measure, values in (
            ("copies", painted < threshold),
            ("copies_real", real < threshold),
            ("nearest", painted),
            ("nearest_real", real),
        ):
            found = intervals.mean(values.astype(np.float64), patients, seed)
            yield {**head, "measure": measure, **_numbers(found)}


def _time(pairs: Sequence[Pair], seed: int) -> Iterator[Entry]:
    """Evaluations of the network and seconds a slice, one slice at a time."""
    single = [pair for pair in pairs if pair[0]["kind"] != "volume"]
    yield from _means(single, ("calls", "seconds"), {ALL: OF_REGIONS[ALL]}, ALL, seed)


TABLES: Mapping[str, Callable[[Sequence[Pair], int], Iterator[Entry]]] = {
    "infill": _infill,
    "challenge": _challenge,
    "components": _components,
    "seams": _seams,
    "diversity": _variety,
    "containment": _containment,
    "features": _features,
    "copies": _copies,
    "time": _time,
}


def _differences(pairs: Mapping[str, Sequence[Pair]], reference: str, seed: int) -> Iterator[Entry]:
    """Every variant against one of them, on the tumour-free regions that both painted."""
    mine = {_place(row): row for row, _ in _of(pairs[reference], "infill")}
    for other in pairs:
        if other == reference:
            continue
        shared = [
            (row, mine[_place(row)])
            for row, _ in _of(pairs[other], "infill")
            if _place(row) in mine
        ]
        for measure in COMPARED:
            both = _defined(shared, measure)
            values = np.array([a[measure] - b[measure] for a, b in both])
            yield {
                "variant": other,
                "kind": "infill",
                "by": "against",
                "group": reference,
                "measure": measure,
                **_numbers(intervals.mean(values, _patients(both), seed)),
            }


def _kinds(pairs: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """Edits of single slices by kind, where there are any."""
    for kind in ("infill", "tumour"):
        mine = _of(pairs, kind)
        if mine:
            yield kind, mine


def _of(pairs: Sequence[Pair], kind: str) -> list[Pair]:
    return [pair for pair in pairs if pair[0]["kind"] == kind]


def _grouped(
    pairs: Sequence[Pair], groupings: Mapping[str, Grouping]
) -> Iterator[tuple[str, str, list[Pair]]]:
    """Grouping, group, and its pairs; groups in alphabetical order."""
    for by, group_of in groupings.items():
        groups: dict[str, list[Pair]] = {}
        for pair in pairs:
            groups.setdefault(group_of(pair[0]), []).append(pair)
        for group in sorted(groups):
            yield by, group, groups[group]


def _means(
    pairs: Sequence[Pair],
    measures: Sequence[str],
    groupings: Mapping[str, Grouping],
    kind: str,
    seed: int,
) -> Iterator[Entry]:
    for by, group, some in _grouped(pairs, groupings):
        for measure in measures:
            found = _mean([row for row, _ in some], measure, measure, seed)
            if found["edits"]:
                yield {"kind": kind, "by": by, "group": group, **found}


def _mean(rows: Sequence[Row], measure: str, name: str, seed: int) -> Entry:
    """The mean of a measure over the rows in which it is defined."""
    there = [row for row in rows if row.get(measure) is not None]
    values = np.array([float(row[measure]) for row in there])
    found = intervals.mean(values, [row["patient"] for row in there], seed)
    return {"measure": name, **_numbers(found)}


def _ratio(pairs: Sequence[Pair], measure: str, name: str, seed: int) -> Entry:
    """The mean of a measure of painted slices over that of the real ones."""
    both = _defined(pairs, measure)
    above, below = (np.array([float(pair[n][measure]) for pair in both]) for n in (0, 1))
    return {"measure": name, **_numbers(intervals.ratio(above, below, _patients(both), seed))}


def _defined(pairs: Sequence[Pair], measure: str) -> list[Pair]:
    return [pair for pair in pairs if None not in (row.get(measure) for row in pair)]


def _ring(pairs: Sequence[Pair], seed: int) -> Interval:
    """AUC of telling painted borders from the same borders in the real slices."""
    features: list[list[float]] = []
    painted: list[bool] = []
    patients: list[str] = []
    for pair in pairs:
        for row, kind in zip(pair, (True, False), strict=True):
            features += row["ring"]
            painted += [kind] * len(row["ring"])
            patients += [row["patient"]] * len(row["ring"])
    names, clusters = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < MIN_RING_PATIENTS:
        return NONE
    truth: NDArray[np.bool_] = np.array(painted)
    found = ring_auc(
        np.array(features),
        truth,
        clusters.astype(np.int64),
        seed=seed,
        resamples=intervals.RESAMPLES,
    )
    return Interval(found.value, found.low, found.high, len(pairs), len(names))


def _patients(pairs: Sequence[Pair]) -> list[str]:
    return [row["patient"] for row, _ in pairs]


def _numbers(found: Interval) -> Entry:
    """The interval's fields; None for what is not defined."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in dataclasses.asdict(found).items()
    }
