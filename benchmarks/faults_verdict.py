"""What became of a federation after faults, and the figures of all: nothing but counting."""

import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]
Absences = tuple[tuple[int, str], ...]
"""(stage, site), in order, of those that took no part."""
REFUSED = "refused from"
"""How the reason begins for a site whose message was not let in."""


def verdict(
    *,
    finished: bool,
    journal: Sequence[str],
    result: Record,
    encoder: str | None,
    expected: Callable[[Absences], str],
    sites: Sequence[str],
    stages: int,
) -> Record:
    """What is lost or wrong in a run: `journal` has the lines of metrics.jsonl.

    `encoder` is the digest of the final encoder; `expected` gives the one of a run in one process
    in which the same sites were absent from the same stages.
    """
    records = [json.loads(line) for line in journal]
    kept = [record for record in records if record.get("kind") == "stage"]
    counts = Counter(int(record["stage"]) for record in kept)
    found = {
        "finished": finished,
        "who": [stage["who"] for run in result.get("runs", []) for stage in run["stages"]],
        "lost_rounds": lost(counts, stages) + silent(kept, sites) + untold(kept, result),
        "named_absences": [
            {"stage": int(record["stage"]), **entry}
            for record in kept
            for entry in record["absent"]
        ],
        "not_judged": [
            judged["site"] for run in result.get("runs", []) for judged in run["judged"]
            if judged["absent"]
        ],
    }  # fmt: skip
    found["refused_messages"] = sum(REFUSED in entry["reason"] for entry in found["named_absences"])
    whole = finished and set(counts) == set(range(1, stages + 1))
    same = whole and encoder == expected(absences(kept, sites))
    return {**found, "encoder": encoder, "wrong_result": finished and not same}


def lost(counts: Mapping[int, int], stages: int) -> int:
    """Stages that are not in the journal exactly once."""
    return sum(counts.get(stage, 0) != 1 for stage in range(1, stages + 1))


def silent(kept: Sequence[Record], sites: Sequence[str]) -> int:
    """Stages without a site of which the journal does not say that it was absent, and why."""
    return sum(
        {*record["sites"], *(entry["site"] for entry in record["absent"] if entry["reason"])}
        != set(sites)
        for record in kept
    )


def untold(kept: Sequence[Record], result: Record) -> int:
    """Stages of which the result says something else than the journal about who took part."""
    told = {
        stage["stage"]: (set(stage["took_part"]), {entry["site"] for entry in stage["absent"]})
        for run in result.get("runs", [])
        for stage in run["stages"]
    }
    known = {
        int(record["stage"]): (set(record["sites"]), {entry["site"] for entry in record["absent"]})
        for record in kept
    }
    return sum(told[stage] != known.get(stage) for stage in told)


def absences(kept: Sequence[Record], sites: Sequence[str]) -> Absences:
    """Who took no part in which stage."""
    return tuple(
        sorted(
            (int(record["stage"]), site)
            for record in kept
            for site in sites
            if site not in record["sites"]
        )
    )


def whole_rounds(rows: Sequence[Record]) -> tuple[list[Record], list[Record], int]:
    """(faults, rounds, number of rounds that were cut short) of the rows of a journal of ours.

    The faults of a round that was cut short, because the benchmark was, are not counted.
    """
    rounds = [row for row in rows if row["row"] == "round"]
    done = {row["round"] for row in rounds}
    faults = [row for row in rows if row["row"] == "fault" and row["round"] in done]
    return faults, rounds, len({row["round"] for row in rows if "round" in row} - done)


def summary(rows: Sequence[Record], asked: int) -> Record:
    """The figures of all rounds; `asked` is the number of faults that there should be.

    A round's extra time is what it took beyond the median of the runs without faults.
    """
    faults, rounds, cut_short = whole_rounds(rows)
    undisturbed = [row["seconds"] for row in rows if row["row"] == "undisturbed"]
    usual = statistics.median(undisturbed)
    absent = [entry for row in rounds for entry in row["named_absences"]]
    totals = {
        "lost_rounds": sum(row["lost_rounds"] for row in rounds),
        "wrong_results": sum(row["wrong_result"] for row in rounds),
        "limits_hit": sum(not row["finished"] for row in rounds),
        "left_behind": sum(len(row["left_behind"]) for row in rounds),
    }
    return {
        "faults": len(faults),
        "faults_by_kind": dict(sorted(Counter(row["kind"] for row in faults).items())),
        "faults_by_place": dict(
            sorted(Counter(f"{r['kind']}: {r['place']}" for r in faults if "place" in r).items())
        ),
        "rounds": len(rounds),
        "commits": sorted({row["commit"] for row in rounds}),
        "rounds_cut_short": cut_short,
        "stages": sum(len(row["who"]) for row in rounds),
        **totals,
        "named_absences": len(absent),
        "reasons": dict(Counter(_reason(entry) for entry in absent).most_common()),
        "not_judged": sum(len(row["not_judged"]) for row in rounds),
        "refused_messages": sum(row["refused_messages"] for row in rounds),
        "garbled_chunks": sum(row["garbled_chunks"] for row in rounds),
        "tracebacks": sum(row["tracebacks"] for row in rounds),
        "undisturbed_seconds": undisturbed,
        "extra_seconds_a_round": spread([row["seconds"] - usual for row in rounds]),
        "extra_seconds_a_fault": spread(
            [(row["seconds"] - usual) / row["faults"] for row in rounds if row["faults"]]
        ),
        "pass": len(faults) >= asked and not any(totals.values()),
    }


def spread(values: Sequence[float]) -> Record:
    """Median, 90 % and largest; empty without values."""
    if not values:
        return {}
    return {
        "median": round(statistics.median(values), 1),
        "90 %": round(float(np.quantile(values, 0.9)), 1),
        "max": round(max(values), 1),
    }


def _reason(entry: Record) -> str:
    """Why a site was absent, without its name."""
    return str(entry["reason"]).replace(f"'{entry['site']}'", "NAME")
