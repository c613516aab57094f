"""An edit again from its record: the same input, painter, regions and seed give the same bits."""

import dataclasses
from pathlib import Path

from polyclinic.errors import DataError
from polyclinic.inpaint.edit import edit, record_of
from polyclinic.inpaint.files import read_source
from polyclinic.inpaint.files.output import Output, Written
from polyclinic.inpaint.files.source import ARRAYS
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.provenance import differing, file_digests, read_provenance, unpack
from polyclinic.models.device import PRECISIONS, fixed_precision


def replay(
    sidecar: Path, painter: Painter, out: Path, *, path: Path | None = None, force: bool = False
) -> Written:
    """Make the image of the record `sidecar` again; `path` is where its input is now.

    Raises `DataError` where the input or the painter is another one. On another machine the last
    bits may differ: then the result has a warning, and its own record.
    """
    record = read_provenance(sidecar)
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
    output = Output(source, out, 1, force)
    regions = unpack(record.fill, record.shape)
    asked_precision = PRECISIONS.get(record.precision)
    if asked_precision is None:
        raise DataError(f"{sidecar}: precision {record.precision!r}; expected float32 or bfloat16")
    with fixed_precision(asked_precision):
        (edited,) = edit(painter, source, regions, record.settings)
        again = record_of(painter, source, record.asked, regions, edited, output.places[0][2])
    if again.outputs == record.outputs:
        again = dataclasses.replace(record, input=again.input)
    else:
        changed = [f"{k} was {v}" for k, v in record.machine.items() if again.machine.get(k) != v]
        why = f": {'; '.join(changed)}" if changed else ""
        text = f"the result differs from that of {sidecar.name}{why}"
        again = dataclasses.replace(again, warnings=(*again.warnings, text))
    (written,) = output.write([(edited.volumes, edited.realised, again)])
    return written
