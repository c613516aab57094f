"""What an edit was made of: enough to say where an image comes from, and to make it again.

The record lies beside every edited image as JSON. It holds the regions themselves, so that the
input and the record are all that a replay needs.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic import __version__
from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import COMPONENTS, KEEP
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.regions import Region

SCHEMA = "polyclinic.edit/1"
_BOXED = 8
"""Added to the number of a component as often as the number of its box says: where the model
chooses the contour."""


_TYPES: Mapping[str, type] = {
    "schema": str,
    "input": str,
    "format": str,
    "inputs": dict,
    "painter": str,
    "asked": list,
    "shape": list,
    "fill": list,
    "settings": dict,
    "precision": str,
    "outputs": dict,
    "pixels": dict,
    "warnings": list,
    "machine": dict,
}
"""What a record has, in JSON."""


@dataclass(frozen=True)
class Asked:
    """One region as it was asked for: `region` in the user's words, `component` by name or None
    where a drawing's colours say it, `slices` first and after the last, `sha256` of its pixels."""

    region: str
    component: str | None
    boxed: bool
    slices: tuple[int, int] | None
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """The record of one edited image. `inputs` and `outputs` are SHA-256 by name: of the files or
    arrays that were read, and of the stored values (and `realised`, the mask) that came out. `fill`
    are runs of equal pixels of all regions together, (code, length), of slices `shape` (Z, H, W).
    `precision` is what was computed in. `settings` have the levels that were used; None in older
    records. `unlikeness` is 0 for a perfectly regular axial head and 1
    for anything else, of the painted slice with most head; None in older records. `input` is a path
    relative to the record's folder, empty for arrays."""

    input: str
    format: str
    sequence: str | None
    inputs: dict[str, str]
    painter: str
    asked: tuple[Asked, ...]
    shape: tuple[int, ...]
    fill: tuple[int, ...]
    settings: Settings
    precision: str
    outputs: dict[str, str]
    pixels: dict[str, int]
    warnings: tuple[str, ...]
    machine: dict[str, str | int]
    unlikeness: float | None = None
    version: str = __version__

    @property
    def summary(self) -> str:
        """One line that fits into the header of a file, most important things first."""
        return (
            f"SYNTHETIC: painted by Polyclinic {self.version}, painter {self.painter[:8]}, "
            f"seed {self.settings.seed}: {', '.join(self.pixels)}"
        )

    @property
    def identity(self) -> str:
        """A digest of all that says what came out, the same on every machine that made it."""
        parts = {**as_record(self), "input": "", "machine": "", "warnings": "", "unlikeness": ""}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def as_record(provenance: Provenance) -> dict[str, Any]:
    """The record as JSON has it."""
    record = dataclasses.asdict(provenance)
    return {"schema": SCHEMA, "synthetic": True, **record}


def read_provenance(path: Path) -> Provenance:
    """The record in `path`; `DataError` where it is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"a JSON {type(record).__name__}")
        for name, kind in _TYPES.items():
            if not isinstance(record[name], kind):
                raise ValueError(f"its {name} is {record[name]!r:.40}")
        if record.pop("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        del record["synthetic"]
        asked = tuple(
            Asked(**{**a, "slices": a["slices"] and tuple(a["slices"])}) for a in record["asked"]
        )
        lists = {key: tuple(record[key]) for key in ("shape", "fill", "warnings")}
        sampler = record["settings"].pop("sampler", "ddim")
        if sampler != "ddim":
            raise DataError(
                f"{path}: sampled by {sampler!r}, which this version does not know; expected "
                f"'ddim', or the version that wrote it, {record['version']}"
            )
        settings = Settings(**record["settings"])
        provenance = Provenance(**{**record, **lists, "asked": asked, "settings": settings})
        unpack(provenance.fill, provenance.shape)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected the JSON beside an edited image") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        if isinstance(error, TypeError | AttributeError):
            why = "something in it is of another type"
        raise DataError(
            f"{path}: not the record of an edit ({why}); expected the JSON that `polyclinic "
            "inpaint edit` wrote"
        ) from None
    return provenance


def pack(regions: Sequence[Region]) -> tuple[int, ...]:
    """Regions, one a slice, as runs (code, length, code, length, ...) over all pixels."""
    fill = np.stack([r.fill_map for r in regions])
    boxes = np.stack([r.boxes for r in regions]).astype(np.int64) * (fill != KEEP)
    codes = (fill + boxes * _BOXED).ravel()
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    lengths = np.diff(starts, append=codes.size)
    pairs = zip(codes[starts].tolist(), lengths.tolist(), strict=True)
    return tuple(itertools.chain.from_iterable(pairs))


def unpack(runs: Sequence[int], shape: Sequence[int]) -> list[Region]:
    """The regions that `pack` packed; `ValueError` where runs and shape do not fit together."""
    codes, lengths = np.array(runs[::2], np.int64), np.array(runs[1::2], np.int64)
    known = (codes == KEEP) | (codes >= 0) & (codes % _BOXED < len(COMPONENTS))
    if not known.all() or (codes > _BOXED * np.iinfo(np.int16).max).any() or (lengths < 0).any():
        raise ValueError("its regions have unknown components")
    if len(shape) != 3 or lengths.sum() != np.prod(shape) or len(codes) != len(lengths):
        raise ValueError("its regions do not have its shape")
    planes = np.repeat(codes, lengths).reshape(tuple(shape))
    boxes = planes.clip(min=0) // _BOXED
    fill = (planes - boxes * _BOXED).astype(np.int8)
    return [Region(f, b) for f, b in zip(fill, boxes.astype(np.int16), strict=True)]


def file_digests(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file."""
    digests = {}
    for name, path in files.items():
        with path.open("rb") as content:
            digests[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


def array_digest(array: NDArray[Any]) -> str:
    """SHA-256 of an array's values, type and shape, whatever its layout in memory."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def pixel_counts(components: NDArray[np.int8]) -> dict[str, int]:
    """How many pixels of each component there are, without those that are kept."""
    return {
        name: count
        for number, name in enumerate(COMPONENTS)
        if (count := int((components == number).sum()))
    }


def differing(provenance: Provenance, digests: Mapping[str, str]) -> Iterable[str]:
    """Names of input files that are not as they were. The name of a single file does not matter."""
    recorded = provenance.inputs
    if len(recorded) == len(digests) == 1:
        ((name, digest),) = digests.items()
        return [] if digest in recorded.values() else [name]
    names = sorted({*recorded, *digests})
    return [name for name in names if recorded.get(name) != digests.get(name)]
