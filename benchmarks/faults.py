"""Do faults cost a federation a round, or make its result wrong?

    python benchmarks/faults.py            # hours; goes on where it was killed
    python benchmarks/faults.py --lanes 3  # three federations at a time: most of a round is waiting
    python benchmarks/faults.py --smoke    # a few minutes: does it work?

A server and three sites, real processes on this machine, TLS and Flower between them, train three
short stages on phantoms and judge the encoder. While they do, faults befall them; kinds, victims
and moments are drawn from a seed. What ends is started again after ten seconds, as the units in
`examples/service/` have it. Nobody else does anything.

- kill the server, kill a site: kill -9 of the supervisor, of Flower's process, of the process that
  works, or of all at once.
- stop a site: all its processes stand still for up to a minute, then go on.
- cut the link: a proxy between a site and the server drops what it has, and lets nothing through.
- garble the link: the proxy changes bytes of what passes.
- full disk: the folder of the server or of a site is a small disk, and something else fills it.
  Needs `unshare` and the kernel's leave for namespaces of one's own, but not root.
- clock jumps: the time of day of the server or a site is wrong by up to two hours, then right
  again. Of Python's clocks: `faults_clock/` is on the path of these processes and of no others.

A kind that cannot be had is left out, and the result says so. After each round: every stage is in
the journal once, with who took part; no site is missing without a name and a reason; and the final
encoder is bit by bit that of a run in one process in which the same sites were absent from the same
stages.

Claim: 100 faults lose no round and give no wrong result.
"""

import argparse
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from subprocess import Popen
from typing import Any

import records
from faults_federation import SITES, can_mount, settings
from faults_plan import CHEAPEST, FULL, KINDS, faults_of
from faults_reference import references
from faults_round import clean, play
from faults_unit import end_with_parent
from faults_verdict import summary, whole_rounds

PACKAGES = ["polyclinic", "torch", "flwr"]
STAGES = 3
PATIENCE = 6.0  # times as long as an undisturbed run may a disturbed one take,
LEAST = 1800.0  # and at least so many s
IMAGES = {"images_per_site": 24, "corpus_images": 16, "image_size": 16}
INSIDE = "POLYCLINIC_FAULTS_INSIDE"
"""Set where this process is in a namespace in which it may mount small disks."""


@dataclass(frozen=True)
class Study:
    """What is played: `number` faults or more, so many in `a_round`, of `kinds`.

    Of several lanes, each plays the rounds whose index has its own remainder.
    """

    seed: int
    number: int
    a_round: int
    stages: int
    kinds: Sequence[str]
    lane: int = 0
    lanes: int = 1

    @property
    def about(self) -> dict[str, Any]:
        """What may not change while it goes on."""
        kept = ("seed", "kinds", "a_round", "stages", "lane", "lanes")
        return {name: value for name, value in asdict(self).items() if name in kept}

    def after(self, played: Sequence[int]) -> int:
        """The index of the next round of this lane."""
        return max(played, default=self.lane - self.lanes) + self.lanes


def main() -> None:
    arguments = _arguments()
    if not os.environ.get(INSIDE) and can_mount():
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-Urm", sys.executable, *sys.argv])
    kinds, left_out = _kinds(arguments)
    work = arguments.work.absolute()
    if arguments.smoke:
        work = work / "smoke"
        clean(work)
    number, each, stages = arguments.faults, arguments.a_round, STAGES
    if arguments.smoke:
        number, each, stages = 2, 2, 1
    lane, lanes = arguments.lane or 0, arguments.lanes
    study = Study(arguments.seed, math.ceil(number / lanes), each, stages, kinds, lane, lanes)
    if arguments.lane is not None:
        _measure(work, study)
        return
    rows = _measure(work, study) if lanes == 1 else _side_by_side(work, study)
    figures = summary(rows, number)
    result = records.circumstances(PACKAGES, seed=arguments.seed) | {
        "sites": len(SITES),
        "stages_a_round": stages,
        "faults_a_round": each,
        "federations_at_a_time": lanes,
        "left_out": left_out,
        **figures,
    }
    shown = ("faults", "lost_rounds", "wrong_results", "named_absences", "limits_hit", "pass")
    print(json.dumps({key: result[key] for key in shown}))
    if arguments.smoke:
        print("a smoke test has two faults: its figures say nothing about the claim")
    if not arguments.smoke or arguments.out:
        records.write(result, arguments.out or records.RESULTS / "faults.json")


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=100, help="at least so many (default 100)")
    parser.add_argument("--a-round", type=int, default=4, help="faults a round (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/faults"), help="rows go here")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/faults.json")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--lanes", type=int, default=1, help="federations at a time (default 1)")
    parser.add_argument("--lane", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="one round, two faults")
    found = parser.parse_args(words)
    if found.smoke:
        found.lanes = 1
    return found


def _kinds(arguments: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """The kinds that can be had here, and why the others cannot."""
    left_out = {}
    if not os.environ.get(INSIDE):
        left_out[FULL] = "no namespace of mounts for this user"
    chosen = CHEAPEST if arguments.smoke else arguments.kinds
    left_out |= {kind: "not asked for" for kind in KINDS if kind not in chosen}
    kinds = [kind for kind in KINDS if kind not in left_out]
    if not kinds:
        raise SystemExit(f"none of the kinds of faults can be had here: {json.dumps(left_out)}")
    return kinds, left_out


def _side_by_side(work: Path, study: Study) -> list[dict[str, Any]]:
    """A process a lane, each with its own folder; the rows of all."""
    command = [sys.executable, *sys.argv]
    lanes = [
        Popen(
            [*command, "--lane", str(lane), "--work", str(work / f"lane-{lane}")],
            preexec_fn=end_with_parent,
        )
        for lane in range(study.lanes)
    ]
    failed = [lane for lane, process in enumerate(lanes) if process.wait()]
    if failed:
        raise SystemExit(f"{work}: these lanes failed: {failed}; see above, and start it again")
    return [
        row
        for lane in range(study.lanes)
        for row in Journal(
            work / f"lane-{lane}" / "rows.jsonl", replace(study, lane=lane).about
        ).rows
    ]


def _measure(work: Path, study: Study) -> list[dict[str, Any]]:
    """Play rounds until enough faults have happened; all rows."""
    from polyclinic.data.phantoms import write_phantoms

    work.mkdir(parents=True, exist_ok=True)
    journal = Journal(work / "rows.jsonl", study.about)
    data = work / "data"
    if not data.exists():
        write_phantoms(data, seed=study.seed, **IMAGES)
    expected = references(data, settings(data, 1, study.stages))
    a_round = functools.partial(
        play, data=data, note=journal.note, expected=expected, stages=study.stages
    )
    undisturbed = _undisturbed(work, journal, a_round, 1)
    limit = max(LEAST, PATIENCE * undisturbed)
    commit = records.circumstances((), seed=study.seed)["commit"]
    while (happened := len(whole_rounds(journal.rows)[0])) < study.number:
        index = study.after([row["round"] for row in journal.rows if "round" in row])
        print(f"{happened} of {study.number} faults; round {index}", flush=True)
        journal.note({"row": "begun", "round": index})
        folder = _fresh(work, f"round-{index:03d}")
        found = a_round(
            folder,
            faults=faults_of(study.seed, index, study.a_round, study.kinds),
            undisturbed=undisturbed,
            limit=limit,
        )
        journal.note({"row": "round", "round": index, "commit": commit, **found})
        if found["finished"] and not (found["wrong_result"] or found["lost_rounds"]):
            clean(folder)
    _undisturbed(work, journal, a_round, 2)
    return journal.rows


def _undisturbed(
    work: Path, journal: "Journal", a_round: Callable[..., dict[str, Any]], number: int
) -> float:
    """How long the `number`-th run without faults takes, s; it must do what it should."""
    known = [float(row["seconds"]) for row in journal.rows if row["row"] == "undisturbed"]
    if len(known) >= number:
        return known[number - 1]
    print("a run without faults", flush=True)
    folder = _fresh(work, "undisturbed")
    found = a_round(folder, faults=(), undisturbed=0.0, limit=PATIENCE * LEAST)
    if not found["finished"] or found["wrong_result"] or found["lost_rounds"]:
        raise SystemExit(f"{folder}: a run without faults does not do what it should: {found}")
    journal.note({"row": "undisturbed", **found})
    clean(folder)
    return float(found["seconds"])


def _fresh(work: Path, name: str) -> Path:
    clean(work / name)
    return work / name


class Journal:
    """The rows of all rounds so far, in a file that survives the benchmark."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.rows = records.whole_rows(path)
        if not self.rows:
            self.note({"row": "about", **about})
        kept = {key: self.rows[0].get(key) for key in about}
        if kept != about:
            raise SystemExit(f"{path}: begun with {kept}, not {about}; choose another --work")

    def note(self, row: dict[str, Any]) -> None:
        """Add a row, at once."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "time": round(time.time())}) + "\n")
        self.rows.append(row)


if __name__ == "__main__":
    main()
