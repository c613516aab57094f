"""An edit again from its record: the same input, painter, regions and seed give the same bits."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from polyclinic.errors import DataError, RunError
from polyclinic.inpaint.edit import edit, record_of
from polyclinic.inpaint.files import read_source
from polyclinic.inpaint.files.output import Output, Written
from polyclinic.inpaint.files.source import ARRAYS, Source
from polyclinic.inpaint.objectives import ObjectiveName
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Report, tell_nobody
from polyclinic.inpaint.provenance import (
    Provenance,
    differing,
    file_digests,
    read_provenance,
    unpack,
)
from polyclinic.models.device import PRECISIONS, fixed_precision, fixed_threads

MAX_THREADS = 1024
"""More than any machine has: a record that says so is damaged."""
# Records did not always hold what spaces the levels: it was that of the objective, whose values for
# a flow have changed since.
OLD_POWERS: Mapping[ObjectiveName, float] = {"flow": 1.5, "ddpm": 1.0, "regression": 1.0}
"""The power of records that hold none, by the painter's objective."""
OLD_LOWEST = 0.0
"""The lowest level of records that hold none."""


def replay(
    sidecar: Path,
    painter: Painter,
    out: Path,
    *,
    path: Path | None = None,
    force: bool = False,
    report: Report = tell_nobody,
) -> Written:
    """Make the image of the record `sidecar` again; `path` is where its input is now, `report`
    hears how far it is.

    It is computed in the precision and with the number of threads that the record has. Raises
    `DataError` where the input or the painter is another one, and `RunError` where the result
    differs from the record, as it may on another machine; then it is written all the same, with a
    record of its own.
    """
    record = read_provenance(sidecar)
    source = _source(record, sidecar, painter, path)
    output = Output(source, out, 1, force, [sidecar])
    asked_precision, threads = PRECISIONS.get(record.precision), record.machine.get("threads")
    if asked_precision is None:
        raise DataError(f"{sidecar}: precision {record.precision!r}; expected float32 or bfloat16")
    if not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise DataError(f"{sidecar}: machine: threads {threads!r}; expected 1 to {MAX_THREADS}")
    regions = unpack(record.fill, record.shape)
    settings = record.settings
    if settings.power is None:
        settings = dataclasses.replace(settings, power=OLD_POWERS[painter.objective.name])
    if settings.lowest is None:
        settings = dataclasses.replace(settings, lowest=OLD_LOWEST)
    with fixed_precision(asked_precision), fixed_threads(threads):
        (edited,) = edit(painter, source, regions, settings, report=report)
        again = record_of(painter, source, record.asked, regions, edited, output.places[0][2])
    differs = _difference(record, again)
    if differs:
        text = f"the result differs from that of {sidecar.name}: {differs}"
        again = dataclasses.replace(again, warnings=(*again.warnings, text))
    else:
        again = dataclasses.replace(record, input=again.input, settings=settings)
    (written,) = output.write([(edited.volumes, edited.realised, again)])
    if differs:
        raise RunError(
            f"{written.image}: not as {sidecar} recorded it, but kept, with a record of its own: "
            f"{differs}; replay on the machine and with the versions of the record"
        )
    return written


def _source(record: Provenance, sidecar: Path, painter: Painter, path: Path | None) -> Source:
    """The input of `record`; `DataError` unless it and `painter` are those that it names."""
    if painter.digest != record.painter:
        raise DataError(
            f"{sidecar}: made with the painter {record.painter[:16]}, this is "
            f"{painter.digest[:16]}; name the same one with --painter"
        )
    if record.format == ARRAYS:
        raise DataError(
            f"{sidecar}: of arrays, which no file holds; expected the record of an edited file: "
            "call `polyclinic.paint` again with the same arrays and settings"
        )
    found = path or sidecar.parent / record.input
    if not found.exists():
        raise DataError(f"{found}: the input of {sidecar} is not there; say where with --input")
    source = read_source(found, record.sequence)
    others = list(differing(record, file_digests(source.files)))
    if others or source.shape != record.shape:
        raise DataError(
            f"{found}: {', '.join(others[:3]) or 'its geometry'} differs from what {sidecar} was "
            "made from; expected the same input, bit for bit"
        )
    return source


def _difference(record: Provenance, again: Provenance) -> str:
    """What of the outputs is another, and why that may be; empty where nothing is."""
    names = sorted({*record.outputs, *again.outputs})
    other = [name for name in names if record.outputs.get(name) != again.outputs.get(name)]
    if not other:
        return ""
    was, now = ({**one.machine, "polyclinic": one.version} for one in (record, again))
    changed = [f"{key} was {value}" for key, value in was.items() if now.get(key) != value]
    changed += [
        f"its {name} is not recorded, {getattr(again.settings, name)} was taken"
        for name in ("power", "lowest")
        if getattr(record.settings, name) is None
    ]
    why = "; ".join(changed) or "nothing that the record knows of the machine has changed"
    return f"{', '.join(other)}: {why}"
