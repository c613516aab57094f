"""Do painted tumours help a segmenter that has few patients to learn from?

    python benchmarks/scarcity.py DATA --phase choose --painter DU=RUN --painter CS=RUN ...
    python benchmarks/scarcity.py DATA --phase test --painter DU=RUN --painter CS=RUN ...
    python benchmarks/scarcity.py --smoke    # a minute: does it work?
    python benchmarks/scarcity.py --table benchmarks/results/scarcity.json    # as Markdown

DATA are folders of patients as in BraTS whose names are like TCGA_DU_5849: the middle part is the
hospital. A segmenter is trained on 5, 10, 20 or all patients of all hospitals but one, and judged
on all patients of that one; each hospital is left out in turn. What it trains on beside the real
slices is what is compared: nothing (`none`), random views (`geometric`, part of all others too;
once with a third of the steps, `geometric-brief`, as few slices may be learnt by heart), tumours of
the same few patients pasted into each other (`carvemix`), or painted into each other's tumour-free
slices (`painted`), and variants of the last.

The painter must not have seen the hospital that is left out. One is needed for each:

    polyclinic inpaint train DATA --leave-out 'TCGA_DU_*' --steps 4000 --out runs/painter-without-DU

and so for the other hospitals, then `--painter DU=runs/painter-without-DU`. With the painters of
some hospitals only, the cells of those are computed; the result is written once all are there. A
painter has seen more patients of the training hospitals than a segmenter of 5 or 10 has, and some
of others: the study asks what a painter is worth that somebody else trained on theirs, not what 5
patients are worth alone.

`--phase choose` picks the best remedy for each hospital left out, on patients of the others whom
its painter was not fitted to; beside the remedies stands `geometric-long`, with twice the steps, to
show whether the reference is trained to its end. `--phase test` judges the main arms and the chosen
one on the hospitals left out, once; the claim stands or falls with the chosen one. Both write a
record after each cell and go on with it if they are killed; both say first how long they will take.

Primary: Dice of the whole tumour in the volume of a patient, mean over patients. Intervals draw
patients. All patients of the hospitals left out count alike, so a large hospital counts more;
figures for each are beside it. The data's enhancing tumour and core come from a rule, not from an
expert.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import records
import scarcity_made_up
import scarcity_tables
from polyclinic.errors import ConfigError, PolyclinicError, RunError
from polyclinic.run.directory import read_json
from scarcity_arms import ARMS, LONG, MAIN, PAINTED, RARE, REFERENCE, REMEDIES
from scarcity_cells import PLAN, Study, cases_of, estimate, painter_of, run
from scarcity_patients import (
    ALL,
    Group,
    StudyPainter,
    by_hospital,
    choosing_groups,
    testing_groups,
)
from scarcity_records import about_of, agree, open_records, read_chosen, write_chosen
from scarcity_summary import (
    CHOSEN,
    choose,
    claim,
    gains,
    imbalance,
    only,
    scores,
    table,
)

SEED = 0
PACKAGES = ["polyclinic", "torch", "numpy", "scipy", "monai"]
NOTE = (
    "each painter was fitted to more patients of the two training hospitals (`painters`) than a "
    "segmenter of 5 or 10. Its weights have seen none of the hospital that is tested; but "
    "guidance, the levels of noise, feathering and grain were settled once for all painters, on "
    "validation patients of the package's own painter: those of DU and FG are of hospitals that "
    "are tested"
)


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.table:
            print(scarcity_tables.markdown(read_json(arguments.table)))
        elif arguments.smoke:
            _smoke(arguments)
        else:
            _start(arguments)
    except PolyclinicError as error:
        sys.exit(f"scarcity: {error}")


def _arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA")
    parser.add_argument("--phase", choices=("choose", "test"), default="choose")
    parser.add_argument(
        "--painter", action="append", default=[], metavar="HOSPITAL=RUN",
        help="the run of a painter that has not seen HOSPITAL; one for each hospital to study now",
    )  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("runs/scarcity"), help="records go here")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/scarcity.json")
    parser.add_argument(
        "--remedies", nargs="+", choices=REMEDIES, default=list(REMEDIES), help="to choose among"
    )
    parser.add_argument("--sizes", nargs="+", default=["5", "10", "20", ALL], help="of the test")
    parser.add_argument("--choose-sizes", nargs="+", default=["5", "10"])
    parser.add_argument(
        "--rare-sizes", nargs="*", default=["20"],
        help="sizes at which the rarest component gets its share of painted cases",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="of the test (default 3)")
    parser.add_argument("--choose-seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=PLAN.steps, help="of a segmenter's training")
    parser.add_argument("--batch-size", type=int, default=PLAN.batch_size)
    parser.add_argument("--edits", type=int, default=24, help="added cases a draw of patients")
    parser.add_argument("--paint-steps", type=int, default=4)
    parser.add_argument(
        "--workers", type=int, default=records.cores(), help="processes (default: one a core)"
    )
    parser.add_argument("--estimate", action="store_true", help="say how long it takes, and stop")
    parser.add_argument("--smoke", action="store_true", help="made-up patients, one step")
    parser.add_argument("--table", type=Path, metavar="RESULT", help="print a result as Markdown")
    return parser.parse_args(words)


def _smoke(arguments: argparse.Namespace) -> None:
    """Both phases on made-up patients, one hospital after another, in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = scarcity_made_up.write_patients(folder / "data")
        words = [str(folder / "data"), "--work", str(folder / "work"), "--workers", "0"]
        words += ["--sizes", "4", "--choose-sizes", "4", "--rare-sizes", "4", "--seeds", "1"]
        words += ["--steps", "1", "--batch-size", "2", "--edits", "2", "--paint-steps", "1"]
        words += ["--out", str(arguments.out or folder / "scarcity.json")]
        words += ["--remedies", *arguments.remedies]
        for hospital in scarcity_made_up.HOSPITALS:
            scarcity_made_up.write_painter(folder / hospital, names, hospital)
            painter = ["--painter", f"{hospital}={folder / hospital}"]
            for phase in ("choose", "test"):
                _start(_arguments([*words, *painter, "--phase", phase]))
    print("a smoke test trains next to nothing: its figures say nothing about the claim")


def _start(arguments: argparse.Namespace) -> None:
    if arguments.data is None:
        raise ConfigError("expected the folder of patients; see --help")
    _check_sizes(arguments)
    patients = by_hospital(cases_of(arguments.data))
    runs = _painter_runs(arguments.painter, list(patients))
    painters = {name: painter_of(run, name) for name, run in runs.items()}
    study = Study(
        data=arguments.data,
        painters=tuple(runs.items()),
        precision=_precision(arguments.work),
        plan=dataclasses.replace(PLAN, steps=arguments.steps, batch_size=arguments.batch_size),
        edits=arguments.edits,
        paint_steps=arguments.paint_steps,
    )
    phase = _choose if arguments.phase == "choose" else _test
    phase(arguments, study, patients, painters)


def _choose(
    arguments: argparse.Namespace,
    study: Study,
    patients: dict[str, tuple[str, ...]],
    painters: dict[str, StudyPainter],
) -> None:
    """Pick a remedy for each hospital left out, without a look at it."""
    about = study.as_dict()
    candidates = (PAINTED, *arguments.remedies)
    groups = choosing_groups(
        patients, painters, arguments.choose_sizes, arguments.choose_seeds,
        (REFERENCE, LONG, *candidates),
    )  # fmt: skip
    cells = _cells(arguments, study, groups, "choose.jsonl")
    if arguments.estimate:
        return
    asked = {group.unit(arm) for group in groups for arm in group.arms}
    chosen = choose({unit: cells[unit] for unit in asked}, candidates, list(painters))
    tested = {unit[0] for unit in open_records(arguments.work / "test.jsonl", about)}
    for hospital, record in chosen.items():
        before = read_chosen(arguments.work, hospital, about)
        if hospital in tested and before is not None:
            agree(before["arm"], record["arm"], arguments.work, f"{hospital}, tested already,")
        record["painter"] = painters[hospital].described()
        write_chosen(arguments.work, hospital, about, record)
        print(f"without {hospital}: {record['arm']}, {100 * record['gains'][record['arm']]:+.1f}")


def _test(
    arguments: argparse.Namespace,
    study: Study,
    patients: dict[str, tuple[str, ...]],
    painters: dict[str, StudyPainter],
) -> None:
    """Judge the main arms and what was chosen on the hospitals left out; write the result."""
    began = time.perf_counter()
    chosen = _chosen(arguments.work, study, list(patients), painters)
    remedies = {name: record["arm"] for name, record in chosen.items()}
    arms = {
        hospital: {
            size: (*MAIN, *{remedy} - set(MAIN)) + ((RARE,) if size in arguments.rare_sizes else ())
            for size in arguments.sizes
        }
        for hospital, remedy in remedies.items()
    }
    groups = testing_groups(patients, arguments.sizes, arguments.seeds, arms)
    now = [group for group in groups if group.hospital in painters]
    cells = _cells(arguments, study, now, "test.jsonl")
    if arguments.estimate:
        return
    waiting = {g.hospital for g in groups for arm in g.arms if g.unit(arm) not in cells}
    if missing := sorted(waiting | (patients.keys() - chosen.keys())):
        print(f"still to be studied: {', '.join(missing)}; the result is written after the last")
        return
    everyone = sum(map(len, patients.values()))
    available = {name: everyone - len(own) for name, own in patients.items()}
    names = (*MAIN, CHOSEN, RARE)
    whole = [
        table(cells, patients, available, size, arguments.seeds, names, remedies)
        for size in arguments.sizes
    ]
    each = [only(one, hospital) for one in whole for hospital in patients]
    found = gains([*whole, *each], SEED)
    result = records.circumstances(PACKAGES, seed=SEED) | {
        "painters_have_seen_more": NOTE,
        "study": study.as_dict(),
        "arms": {name: dataclasses.asdict(arm) for name, arm in ARMS.items()},
        "painters": {name: record["painter"] for name, record in chosen.items()},
        "commits": sorted({cell["commit"] for cell in cells.values()}),
        "seeds": arguments.seeds,
        "patients": {name: len(own) for name, own in patients.items()},
        "chosen": chosen,
        "cells": len(cells),
        "cell_seconds": round(sum(cell["seconds"] for cell in cells.values())),
        "wall_seconds_of_last_start": round(time.perf_counter() - began),
        "claim": claim(found),
        "imbalance": imbalance(found, whole),
        "gains": found,
        "scores": scores([*whole, *each], SEED),
    }
    print(json.dumps(result["claim"], indent=1))
    print(NOTE)
    records.write(result, arguments.out or records.RESULTS / "scarcity.json")


def _chosen(
    work: Path, study: Study, hospitals: list[str], painters: dict[str, StudyPainter]
) -> dict[str, dict[str, Any]]:
    """What was chosen for each hospital, those of `painters` at least, among the same remedies."""
    found = {name: read_chosen(work, name, study.as_dict()) for name in hospitals}
    chosen = {name: record for name, record in found.items() if record is not None}
    if waiting := [name for name in painters if name not in chosen]:
        raise RunError(
            f"{work}: no remedy is chosen for {', '.join(waiting)} yet; run --phase choose with "
            "the same painters first"
        )
    for name, painter in painters.items():
        agree(chosen[name]["painter"], painter.described(), work, f"painter of {name}")
    first, *others = chosen
    for name in others:
        agree(chosen[first]["candidates"], chosen[name]["candidates"], work, f"remedies of {name}")
    return chosen


def _cells(
    arguments: argparse.Namespace, study: Study, groups: list[Group], name: str
) -> dict[tuple[str, int, int, str], dict[str, Any]]:
    """The records of all cells in the file `name`; those of `groups` that it lacks are computed.

    Raises `RunError` where one rests on other patients, another painter or another arm than now.
    """
    path = arguments.work / name
    done = open_records(path, study.as_dict())
    for group in groups:
        for arm in group.arms:
            for key, now in study.told(group, arm).items() if group.unit(arm) in done else ():
                agree(done[group.unit(arm)].get(key), now, path, f"{group.hospital}.{arm}.{key}")
    waiting = [
        dataclasses.replace(group, arms=missing)
        for group in groups
        if (missing := tuple(arm for arm in group.arms if group.unit(arm) not in done))
    ]
    asked = sum(len(group.arms) for group in groups)
    print(f"{asked - sum(len(g.arms) for g in waiting)} of {asked} cells are done; {NOTE}")
    if waiting:
        recipes = sum(
            len({ARMS[arm].recipe for arm in group.arms if ARMS[arm].added == "painted"})
            for group in waiting
        )
        expected = estimate(study, waiting, recipes, arguments.workers)
        print(f"estimate: {json.dumps(expected)}", flush=True)
        if not arguments.estimate:
            run(study, waiting, path, arguments.workers)
    return open_records(path, study.as_dict())


def _painter_runs(given: list[str], hospitals: list[str]) -> dict[str, Path]:
    """Run directories by hospital, in the order of `hospitals`."""
    runs = {}
    for word in given:
        hospital, equals, path = word.partition("=")
        if not equals or not hospital or not path:
            raise ConfigError(f"--painter: expected HOSPITAL=RUN, got {word!r}")
        if hospital in runs:
            raise ConfigError(f"--painter: expected one for {hospital}, got two")
        runs[hospital] = Path(path)
    if not runs or not runs.keys() <= set(hospitals):
        raise ConfigError(
            f"--painter: expected one for each of the hospitals {', '.join(hospitals)}, or for "
            f"some of them, got {', '.join(sorted(runs)) or 'none'}"
        )
    return {name: runs[name] for name in hospitals if name in runs}


def _check_sizes(arguments: argparse.Namespace) -> None:
    for size in (*arguments.sizes, *arguments.choose_sizes, *arguments.rare_sizes):
        if size != ALL and not (size.isdigit() and int(size) > 1):
            raise ConfigError(f"sizes: expected numbers of patients, 2 or more, or all; got {size}")
    if min(arguments.seeds, arguments.choose_seeds, arguments.edits) < 1:
        raise ConfigError("seeds, edits: expected 1 or more of each")


def _precision(work: Path) -> str:
    """What the study was begun in, else what is fastest here: timed once for all processes."""
    from polyclinic.models.device import precision

    for path in (work / "choose.jsonl", work / "test.jsonl"):
        if about := about_of(path):
            return str(about["precision"])
    return str(precision()).removeprefix("torch.")


if __name__ == "__main__":
    main()
