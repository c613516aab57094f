"""`polyclinic.paint`: what `polyclinic inpaint edit` does, for arrays as well as files."""

import numbers
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import to_mask
from polyclinic.inpaint.edit import Ask, edit_source, open_painter
from polyclinic.inpaint.files import read_source
from polyclinic.inpaint.files.output import Output
from polyclinic.inpaint.files.region import region_files
from polyclinic.inpaint.files.source import UNKNOWN, Source, from_arrays, sequence_name
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.painting import Mode, Settings
from polyclinic.inpaint.provenance import as_record

Image = str | os.PathLike[str] | NDArray[Any] | Mapping[str, NDArray[Any]]
"""A path, an array, or the arrays of a case by the names of their sequences."""
RegionAsked = str | os.PathLike[str] | NDArray[Any]
"""A box in words, a path, or an array."""


@dataclass(frozen=True, eq=False)
class PaintedImage:
    """What `paint` gives back.

    `volumes` are the painted values by the name of their sequence (`unknown` if it was not said),
    of the type and shape that was given; of a file its stored values, as axial slices (Z, H, W).
    `mask` uint8, of that shape, has the numbers of mask files: 0 kept, 1 core, 2 oedema,
    3 enhancing, 5 tumour-free, 6 mixed. `record` is the content of the JSON file, with `warnings`.
    `files` are the paths of `image`, `mask` and `sidecar` where `out` was given.
    """

    volumes: dict[str, NDArray[Any]]
    mask: NDArray[np.uint8]
    record: dict[str, Any]
    files: dict[str, Path]

    @property
    def image(self) -> NDArray[Any]:
        """The only one of `volumes`; `DataError` where there are several."""
        if len(self.volumes) != 1:
            raise DataError(f"several sequences, {', '.join(self.volumes)}: look into `volumes`")
        return next(iter(self.volumes.values()))


def paint(
    image: Image,
    regions: Sequence[tuple[RegionAsked, str | None]],
    *,
    sequence: str | None = None,
    box: bool = False,
    slices: tuple[int, int] | None = None,
    steps: int = 4,
    guidance: float = 1.5,
    mode: Mode = "sample",
    seed: int = 0,
    painter: str | os.PathLike[str] | Painter | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> PaintedImage:
    """Paint `regions` into `image`; see `polyclinic.paint`."""
    source = _source(image, sequence)
    asks = [_ask(pair) for pair in regions]
    settings = Settings(
        steps=_whole("steps", steps), guidance=_real(guidance), seed=_whole("seed", seed), mode=mode
    )
    output, sidecar = None, source.path.parent / "edit.json"
    if out is not None:
        if not isinstance(image, str | os.PathLike):
            raise ConfigError("out: arrays are given back and not written; leave it out")
        output = Output(source, Path(out), 1, force, region_files(ask.region for ask in asks))
        sidecar = output.places[0][2]
    if not isinstance(painter, Painter):
        painter = open_painter(None if painter is None else Path(painter))
    results = edit_source(painter, source, asks, settings, [sidecar], boxed=box, slices=slices)
    files = {}
    if output is not None:
        (written,) = output.write(results)
        files = {"image": written.image, "mask": written.mask, "sidecar": written.sidecar}
    ((volumes, realised, record),) = results
    shape = source.shape if isinstance(image, str | os.PathLike) else _shape(image)
    return PaintedImage(
        {sequence_name(number): slices.reshape(shape) for number, slices in volumes.items()},
        to_mask(realised).reshape(shape),
        as_record(record),
        files,
    )


def _source(image: Image, sequence: str | None) -> Source:
    if isinstance(image, str | os.PathLike):
        return read_source(Path(image), sequence)
    if not isinstance(image, Mapping):
        return from_arrays({sequence or UNKNOWN: np.asarray(image)})
    if sequence is not None:
        raise ConfigError("sequence: the names of the arrays say it; leave it out")
    return from_arrays({name: np.asarray(values) for name, values in image.items()})


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{name}: expected a whole number, got {value!r}") from None


def _real(guidance: Any) -> float:
    if not isinstance(guidance, numbers.Real):
        raise ConfigError(f"guidance: expected a number, got {guidance!r}")
    return float(guidance)


def _shape(image: NDArray[Any] | Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
    return np.shape(next(iter(image.values())) if isinstance(image, Mapping) else image)


def _ask(pair: tuple[RegionAsked, str | None]) -> Ask:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ConfigError(
            f"regions: expected pairs of a region and a component, got {type(pair).__name__}; "
            "such as [('box:40,52,71,80', 'oedema')]"
        )
    region, component = pair
    if isinstance(region, str | os.PathLike):
        return Ask(os.fspath(region), component)
    return Ask(np.asarray(region), component)
