"""New labelled cases as a run: a directory that can be resumed, and a data set in it.

RUN/
  cases/             the new cases, a data set of its own: a folder each, or images/ and masks/
  records/KEY.json   what each was made of, as `inpaint edit` records it
  previews/KEY.png   before, what was asked for, after, in each sequence
  contact-sheet.png  the first of these
  manifest.csv       a line a case: where it comes from, what it shows, SHA-256 of its files
  plan.json          what is to be painted, decided before anything is
  metrics.jsonl      a record for each case that is finished
  config.json, environment.json, log.txt
"""

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.errors import RunError
from polyclinic.inpaint.augment import (
    PlannedEdit,
    maps_of,
    plan_edits,
)
from polyclinic.inpaint.cases import Case, CaseFolder
from polyclinic.inpaint.components import COMPONENTS, KEEP, SEQUENCES, TUMOUR_FREE, UNKNOWN_SEQUENCE
from polyclinic.inpaint.contact_sheet import SHOWN, contact_sheet
from polyclinic.inpaint.edit import Edited, edit, painter_file, record_of
from polyclinic.inpaint.files.region import digest
from polyclinic.inpaint.files.source import Source
from polyclinic.inpaint.painter import Painter, load_painter, splits_beside
from polyclinic.inpaint.provenance import Asked
from polyclinic.inpaint.regions import Region
from polyclinic.models.device import fixed_precision
from polyclinic.models.memory import shortage_explained
from polyclinic.models.state import disk_error
from polyclinic.run.augment_files import (
    CASES,
    PREVIEWS,
    RECORDS,
    WORKSHOP,
    Target,
    digests,
    fresh_room,
    move_out,
    read_target,
    write_case,
    write_manifest,
    write_preview,
    write_record,
    write_sheet,
)
from polyclinic.run.augment_plan import (
    PARTS,
    AugmentRun,
    find_chosen,
    hospitals,
    keep_plan,
    part_numbers,
    read_usable,
)
from polyclinic.run.directory import Record, RunDirectory
from polyclinic.run.environment import settle
from polyclinic.run.progress import Progress, Tell, silent

COLUMNS = (
    *("key", "target", "donor", "hospital", "slices", *PARTS, "removed", "seed", "painter"),
    *(f"sha256_{name}" for name in (*SEQUENCES, "image", "seg")),
)
"""Of the manifest. `slices` as `first:after the last`, of what was added, or removed if nothing
was; `removed` in voxels of the former tumour."""


@dataclass(frozen=True)
class Augmented:
    """What a run made: `count` new cases in the folder `cases`, with `voxels` of each component."""

    cases: Path
    manifest: Path
    sheet: Path
    count: int
    voxels: dict[str, int]


@shortage_explained()
def augment(
    config: AugmentRun,
    out: Path,
    *,
    painter: Path | None = None,
    resume: bool = False,
    tell: Tell = silent,
) -> Augmented:
    """Paint new cases into copies of those in `config.data`; all of it lies in `out`.

    A run that was killed at any moment continues with `resume` and ends with the same files; with
    a larger `count`, it adds to them. Nothing is written before everything is planned. `painter`
    None is that of the package. Raises `ConfigError`, `DataError`, `RunError`.
    """
    numbers = part_numbers(config.components)
    if out.resolve().is_relative_to(config.data.resolve()):
        raise RunError(f"{out}: within the data set {config.data}; choose another --out")
    weights = painter_file(painter)
    brush = load_painter(weights)
    config = dataclasses.replace(config, settings=config.settings.said_for(brush.objective))
    found, messages = find_chosen(config, splits_beside(weights) or {})
    for message in messages:
        tell(Progress("prepare", 0.0, message=message))
    cases = read_usable(found, tell, messages)
    sites = hospitals([case.key for case in cases], config)
    planned = plan_edits(
        cases,
        config.count,
        config.balance,
        numbers,
        config.settings.seed,
        sites=sites or None,
        removes=config.remove_tumours,
    )
    if found.scan is not None and found.image_sequence == UNKNOWN_SEQUENCE:
        messages.append(
            f"{config.data}: the sequence of its images is not known, so what is painted may be "
            "dark where it should be bright; say it with --sequence"
        )
        tell(Progress("prepare", 0.0, message=messages[-1]))
    if other := [edit.no_room_for for edit in planned if edit.no_room_for]:
        messages.append(
            f"{config.data}: {len(other)} of {len(planned)} new cases are not as --balance "
            f"{config.balance} drew them, for which there is no room: {_counted(other)}"
        )
        tell(Progress("prepare", 0.0, message=messages[-1]))

    def as_dict(run: AugmentRun) -> Record:
        texts = {"data": str(run.data.resolve()), "patients": run.patients and str(run.patients)}
        return {**dataclasses.asdict(run), **texts, "painter": brush.digest}

    with RunDirectory(
        out, config, as_dict, resume=resume, may_change=frozenset({"count", "patients"})
    ) as directory:
        told = directory.telling(tell)
        for message in messages:
            directory.log(message)
        with fixed_precision(settle(directory, told)):
            keep_plan(directory, planned)
            job = _Job(directory, found, {case.key: case for case in cases}, sites, brush)
            rows = job.paint_all(planned, told)
        return _finish(directory.path, planned, rows)


@dataclass(frozen=True, eq=False)
class _Job:
    """Paints what is planned. `cases` are without their volumes, which are read when needed."""

    directory: RunDirectory[AugmentRun]
    found: CaseFolder
    cases: dict[str, Case]
    sites: dict[str, str]
    painter: Painter

    def paint_all(self, planned: Sequence[PlannedEdit], tell: Tell) -> list[Record]:
        """Paint every case that is not there yet; returns a row of the manifest for each."""
        run, records = self.directory.path, self.directory.records
        missing = [edit for edit in planned if not _is_whole(run, records.get(edit.key))]
        began, total = time.perf_counter(), len(planned)
        for number, planned_edit in enumerate(missing):
            left = None
            if number:
                left = (time.perf_counter() - began) / number * (len(missing) - number)
            done = (total - len(missing) + number) / total
            tell(Progress("augment", done, seconds_left=left))
            try:
                self._paint(planned_edit, tell)
            except OSError as error:
                shutil.rmtree(run / WORKSHOP, ignore_errors=True)
                raise disk_error(error, run) from None
        tell(Progress("augment", 1.0))
        return [records[edit.key]["row"] for edit in planned]

    def _paint(self, planned: PlannedEdit, tell: Tell) -> None:
        """One case: painted and written in a room of its own, moved out, and noted last."""
        case, run = self.cases[planned.target], self.directory.path
        target = read_target(self.found, planned.target)
        fill_map, components = maps_of(planned, target.components, case.rows)
        regions = [Region(plane, np.zeros(plane.shape, bool)) for plane in fill_map]
        settings = planned.settings(self.directory.config.settings)
        (edited,) = edit(self.painter, target.source, regions, settings)
        for warning in edited.warnings:
            tell(Progress("augment", 0.0, message=f"{planned.key}: {warning}"))
        asked = _in_words(planned, fill_map)
        place = run / RECORDS / f"{planned.key}.json"
        record = record_of(self.painter, target.source, asked, regions, edited, place)
        room = fresh_room(run, planned.key)
        written = write_case(target, edited.volumes, components, planned.key, record, room)
        picture = _preview(planned, case, target, edited)
        about = write_record(record, planned.key, room), write_preview(picture, planned.key, room)
        sums = digests(room, [*about, *written.files.values()])
        row = self._row(planned, target, fill_map) | {
            f"sha256_{name}": sums[path] for name, path in written.files.items()
        }
        done = {"unit": planned.key, "kind": "painted", "files": sums, "row": row}
        if self.directory.records.get(planned.key, done) != done:
            raise RunError(
                f"{planned.key}: its files are missing or changed, and painted again they differ "
                "from the record; resume on the machine where the run was started, or start anew "
                "with another --out"
            )
        move_out(room, run, (*about, *written.moves))
        self.directory.record(done)

    def _row(self, planned: PlannedEdit, target: Target, fill_map: NDArray[np.int8]) -> Record:
        """What the manifest says of a case, without the digests of its files."""
        asked = fill_map > TUMOUR_FREE if planned.donor else fill_map == TUMOUR_FREE
        shown = np.flatnonzero(asked.any(axis=(1, 2)))
        return {
            "key": planned.key,
            "target": planned.target,
            "donor": planned.donor,
            "hospital": self.sites.get(planned.target, ""),
            "slices": f"{shown[0]}:{shown[-1] + 1}",
            **{name: int((fill_map == COMPONENTS.index(name)).sum()) for name in PARTS},
            "removed": int((target.components > 0).sum()) if planned.removes else 0,
            "seed": planned.seed,
            "painter": self.painter.digest,
        }


def _is_whole(run: Path, record: Record | None) -> bool:
    """Whether all files of a finished case are as they were written."""
    return record is not None and bool(digests(run, record["files"]) == record["files"])


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(names).items()))


def _in_words(planned: PlannedEdit, fill_map: NDArray[np.int8]) -> tuple[Asked, ...]:
    """The edit as a person would ask for it."""
    asked = []
    free = ["border of the new tumour"] if planned.donor else []
    free += [f"the tumour of {planned.target}"] if planned.removes else []
    for text, chosen in (
        (", and ".join(free), fill_map == TUMOUR_FREE),
        (f"tumour of {planned.donor}, deformed", fill_map > TUMOUR_FREE),
    ):
        if chosen.any():
            shown = np.flatnonzero(chosen.any(axis=(1, 2)))
            planes = np.where(chosen, fill_map, KEEP).astype(np.int8)
            regions = [Region(plane, np.zeros(plane.shape, bool)) for plane in planes]
            bounds = int(shown[0]), int(shown[-1]) + 1
            asked.append(Asked(text, None, False, bounds, digest(regions)))
    return tuple(asked)


def _preview(planned: PlannedEdit, case: Case, target: Target, edited: Edited) -> Image.Image:
    """Before, what is asked for, and after, on the slice with most to paint."""
    before = _shown(case, target.source, dict(target.source.volumes))
    return contact_sheet([before], [planned], [_shown(case, target.source, edited.volumes)])


def _shown(case: Case, source: Source, stored: dict[int, NDArray[Any]]) -> Case:
    """The case with volumes: scaled intensities of stored values, of the slices that it has."""
    rows = list(case.rows)
    volumes = {
        number: case.scalings[number].apply(source.storage[number].real(values[rows]))
        for number, values in sorted(stored.items())
    }
    return dataclasses.replace(case, volumes=volumes)


def _finish(run: Path, planned: Sequence[PlannedEdit], rows: Sequence[Record]) -> Augmented:
    """Write what is about all cases together."""
    manifest, sheet = run / "manifest.csv", run / "contact-sheet.png"
    write_manifest(rows, COLUMNS, manifest)
    write_sheet([run / PREVIEWS / f"{edit.key}.png" for edit in planned[:SHOWN]], sheet)
    voxels = {name: sum(int(row[name]) for row in rows) for name in PARTS}
    present = {name: count for name, count in voxels.items() if count}
    return Augmented(run / CASES, manifest, sheet, len(rows), present)
