"""One federation from its beginning to its end, with the faults that befall it on the way."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from faults_federation import SERVER, SITES, Federation, mount_disk, unmount_disk
from faults_kinds import Ending, NotThereError, inject, with_clock
from faults_plan import CLOCK, FULL, Fault
from faults_reference import ENCODER, digest
from faults_verdict import Absences, verdict

PAUSE = 0.2  # s
JOINING = 900.0  # s until all sites have joined; no fault comes before
Record = dict[str, Any]
Note = Callable[[Record], None]


def play(
    folder: Path,
    *,
    data: Path,
    faults: Sequence[Fault],
    note: Note,
    expected: Callable[[Absences], str],
    stages: int,
    undisturbed: float,
    limit: float,
) -> Record:
    """Run a federation in `folder` under `faults`; what became of it.

    Moments are shares of `undisturbed` (s), counted from when all sites have joined, or of the
    stages, whichever comes first. `note` gets a row for each fault as it happens. After `limit` s
    nothing more is waited for.
    """
    folder.mkdir(parents=True)
    clocks = {fault.victim for fault in faults if fault.kind == CLOCK}
    disks = {fault.victim for fault in faults if fault.kind == FULL}

    def surroundings(who: str) -> Mapping[str, str]:
        return with_clock(who, folder) if who in clocks else {}

    federation = Federation(folder, data, stages, surroundings)
    mounted = [federation.state(who) for who in (SERVER, *SITES) if who in disks]
    try:
        for place in mounted:
            mount_disk(place)
        with federation:
            _until(federation, lambda: federation.joined, JOINING)
            began = time.monotonic()
            happened = _disturb(federation, faults, undisturbed, limit, note)
            seconds = time.monotonic() - began
        return {
            "faults": happened,
            "not_there": len(faults) - happened,
            "seconds": round(seconds, 1),
            "starts": {who: unit.starts for who, unit in federation.units.items()},
            "garbled_chunks": sum(proxy.garbled for proxy in federation.proxies.values()),
            "tracebacks": _tracebacks(folder),
            "left_behind": federation.left_behind,
            **_verdict(federation, stages, expected),
        }
    finally:
        for place in mounted:
            unmount_disk(place)


def clean(folder: Path) -> None:
    """Delete what a round that went well leaves."""
    shutil.rmtree(folder, ignore_errors=True)


def _disturb(
    federation: Federation, faults: Sequence[Fault], undisturbed: float, limit: float, note: Note
) -> int:
    """Let faults begin and end at their moments until the run has ended; how many there were."""
    began = time.monotonic()
    waiting, lasting, happened = list(faults), list[tuple[float, Ending]](), 0
    while not federation.finished and time.monotonic() < began + limit:
        federation.look()
        now = time.monotonic() - began
        # a machine that is less busy than it was comes to an end before all moments have come
        share = max(now / undisturbed, federation.progress) if undisturbed else 0.0
        for over, end in [pair for pair in lasting if pair[0] <= now]:
            end()
            lasting.remove((over, end))
        for fault in [fault for fault in waiting if fault.at <= share]:
            try:
                about, ending = inject(fault, federation)
            except NotThereError:  # at the next look
                continue
            waiting.remove(fault)
            happened += 1
            note({"row": "fault", **fault.as_dict(), "second": round(now, 1), **about})
            if ending is not None:
                lasting.append((now + fault.seconds, ending))
        time.sleep(PAUSE)
    for _, end in lasting:
        end()
    return happened


def _until(federation: Federation, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(
                f"{federation.folder}: the sites have not joined within {seconds:.0f} s, before "
                "any fault; the logs say why"
            )
        federation.look()
        time.sleep(PAUSE)


def _verdict(federation: Federation, stages: int, expected: Callable[[Absences], str]) -> Record:
    run = federation.state(SERVER) / "run"
    journal = run / "metrics.jsonl"
    text = journal.read_text(encoding="utf-8") if journal.exists() else ""
    return verdict(
        finished=federation.finished,
        journal=[line for line in text.splitlines(keepends=True) if line.endswith("\n")],
        result=federation.result,
        encoder=digest(run / ENCODER),
        expected=expected,
        sites=SITES,
        stages=stages,
    )


def _tracebacks(folder: Path) -> int:
    """How often our own commands ended with a traceback instead of a line that says what to do."""
    return sum(
        path.read_text(encoding="utf-8", errors="replace").count("Traceback (most recent")
        for path in (folder / "logs").glob("*.log")
    )
