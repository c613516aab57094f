"""From an image and regions to an edited image and its record, in memory or in files.

Pixels outside of the regions are copied, not computed: they keep every bit.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.cases import head_extent, head_mask
from polyclinic.inpaint.components import KEEP, component
from polyclinic.inpaint.doubts import doubts_about_boxes, doubts_about_input
from polyclinic.inpaint.files import read_source
from polyclinic.inpaint.files.output import Output, Result, Written
from polyclinic.inpaint.files.region import LABELS, digest, merge, read_region, region_files
from polyclinic.inpaint.files.source import ARRAYS, Source, sequence_name
from polyclinic.inpaint.intensity import Scaling, scaling_of
from polyclinic.inpaint.painter import Painter, load_painter, weights_in
from polyclinic.inpaint.painting import Report, Settings, paint_sequences, part_of, tell_nobody
from polyclinic.inpaint.provenance import (
    Asked,
    Provenance,
    array_digest,
    file_digests,
    pack,
    pixel_counts,
)
from polyclinic.inpaint.regions import Region
from polyclinic.models.device import describe, fixed_precision, precision

WEIGHTS = Path(__file__).parent / "weights" / "small.safetensors"
"""The painter that comes with the package."""
DRAWN = "drawn"
"""In the place of a component: the colours of a drawing say it."""
ARRAY = "array"
"""What records call a region that was given as an array."""


@dataclass(frozen=True)
class Edited:
    """One edited source. `volumes` as in `Source`; `realised` int8 (Z, H, W) as in `Painted`;
    `settings` with the seed of this very sample and the levels that were used; `unlikeness` as in
    `Provenance`."""

    volumes: dict[int, NDArray[Any]]
    realised: NDArray[np.int8]
    settings: Settings
    unlikeness: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Ask:
    """A region, in the user's words or an array, see `read_region`, and the name of what to paint
    there; None or `DRAWN` where a drawing's colours say it, `LABELS` where labels do."""

    region: str | NDArray[Any]
    component: str | None = None

    @property
    def words(self) -> str:
        """The region in the user's words; `ARRAY` where it is one."""
        return self.region if isinstance(self.region, str) else ARRAY

    @property
    def number(self) -> int | Literal["labels"] | None:
        """The number of the component; `ConfigError` if it is unknown."""
        if self.component is None or self.component == DRAWN:
            return None
        if not isinstance(self.component, str):
            raise ConfigError(
                f"component: expected a name such as 'oedema', got {self.component!r}"
            )
        if self.component == LABELS:
            return LABELS
        return component(self.component)


def painter_file(path: Path | None = None) -> Path:
    """The weights at `path`, a file or a run of `inpaint train`, or those that come with the
    package; `ConfigError` if missing."""
    if path is None and not WEIGHTS.is_file():
        raise ConfigError(
            f"{WEIGHTS}: this installation comes without a painter; name one that `polyclinic "
            "inpaint train` wrote with --painter"
        )
    found = weights_in(path or WEIGHTS)
    if found is None:
        raise ConfigError(
            f"{path}: no such painter; --painter expects the directory of a finished run of "
            "`polyclinic inpaint train`, or the file of weights in it"
        )
    return found


def open_painter(path: Path | None = None) -> Painter:
    """The painter in `painter_file`."""
    return load_painter(painter_file(path))


def edit(
    painter: Painter,
    source: Source,
    regions: list[Region],
    settings: Settings,
    samples: int = 1,
    report: Report = tell_nobody,
) -> list[Edited]:
    """Paint `regions`, one a slice, into every sequence of `source`, `samples` times.

    Sample k has the seed `settings.seed + k`. In boxes one sequence decides the contour (see
    `paint_sequences`), and the others are painted within it. `report` hears how far it is. Raises
    `ConfigError` for several means, which would be the same, and `DataError` where regions and
    slices do not match, nothing is to be painted, or values are NaN.
    """
    shapes = [region.fill_map.shape for region in regions]
    if shapes != [source.shape[1:]] * source.shape[0]:
        raise DataError(
            f"{source.path}: expected a region for each of {source.shape[0]} slices of "
            f"{source.shape[1:]} pixels, got {len(regions)} of {shapes[0] if shapes else 'none'}"
        )
    if samples < 1:
        raise ConfigError(f"samples: expected 1 or more, got {samples}")
    if samples > 1 and settings.mode == "mean":
        raise ConfigError(
            f"samples: {samples} means would be the same image, whatever the seed; expected 1, or "
            "the mode `sample`"
        )
    fill_mask = np.stack([region.fill_map for region in regions]) != KEEP
    if not fill_mask.any():
        raise DataError("the region is empty: no pixel of the image is to be painted")
    scalings, scaled = {}, {}
    for number in sorted(source.volumes):
        storage = source.storage[number]
        real = storage.real(source.volumes[number])
        scalings[number] = scaling_of(real, storage.name)
        scaled[number] = scalings[number].apply(real)
    head = head_mask(list(scaled.values()))
    score, doubts = doubts_about_input(scaled, head, fill_mask)
    edited = []
    settings = settings.said_for(painter.objective)
    for sample in range(samples):
        chosen = dataclasses.replace(settings, seed=settings.seed + sample)
        painted, realised = paint_sequences(
            painter, scaled, regions, head_extent(head), chosen, part_of(report, sample, samples)
        )
        volumes = {
            number: _stored(source, number, slices, scalings[number], fill_mask)
            for number, slices in painted.items()
        }
        warnings = (*source.warnings, *doubts, *doubts_about_boxes(regions, realised))
        edited.append(Edited(volumes, realised, chosen, score, warnings))
    return edited


def edit_source(
    painter: Painter,
    source: Source,
    asks: Sequence[Ask],
    settings: Settings,
    sidecars: Sequence[Path],
    *,
    boxed: bool = False,
    slices: tuple[int, int] | None = None,
    report: Report = tell_nobody,
) -> list[Result]:
    """Paint what is asked for into `source`: a sample for each of `sidecars`, its record's place.

    Where regions overlap, the later one counts. `boxed`, `slices` as in `read_region`. Nothing is
    written. Raises `ConfigError`, `DataError`.
    """
    if not asks:
        raise ConfigError("no region: say where to paint with --region, and what with --as")
    single = [read_region(ask.region, source, ask.number, boxed, slices) for ask in asks]
    asked = tuple(
        Asked(ask.words, ask.component, boxed, slices, digest(regions))
        for ask, regions in zip(asks, single, strict=True)
    )
    regions = merge(single)
    with fixed_precision(precision()):
        edited = edit(painter, source, regions, settings, len(sidecars), report)
        return [
            (one.volumes, one.realised, record_of(painter, source, asked, regions, one, sidecar))
            for one, sidecar in zip(edited, sidecars, strict=True)
        ]


def edit_file(
    painter: Painter,
    path: Path,
    asks: Sequence[Ask],
    out: Path,
    settings: Settings | None = None,
    *,
    boxed: bool = False,
    slices: tuple[int, int] | None = None,
    sequence: str | None = None,
    samples: int = 1,
    force: bool = False,
    report: Report = tell_nobody,
) -> list[Written]:
    """Paint into the file or folder `path` and write image, mask and record; one result a sample.

    `out` is a file where the input is one, else a folder; a name without a known extension is a
    folder. `boxed`, `slices` as in `read_region`, `sequence` as in `read_source`; `force` writes
    over what is in `out`. Nothing is written unless everything could be computed. Raises
    `ConfigError`, `DataError`, `RunError`.
    """
    source = read_source(path, sequence)
    output = Output(source, out, samples, force, region_files(ask.region for ask in asks))
    sidecars = [sidecar for _, _, sidecar in output.places]
    chosen = settings or Settings()
    results = edit_source(
        painter, source, asks, chosen, sidecars, boxed=boxed, slices=slices, report=report
    )
    return output.write(results)


def _stored(
    source: Source,
    number: int,
    painted: NDArray[np.float32],
    scaling: Scaling,
    fill_mask: NDArray[np.bool_],
) -> NDArray[Any]:
    """The stored values with painted ones in `fill_mask`, none darker than the darkest there is."""
    before, storage = source.volumes[number], source.storage[number]
    darkest = storage.real(before).min()
    inside = scaling.undo(painted[fill_mask], np.dtype(np.float64)).clip(min=darkest)
    after = before.copy()
    after[fill_mask] = storage.stored(inside, before.dtype)
    return after


def record_of(
    painter: Painter,
    source: Source,
    asked: tuple[Asked, ...],
    regions: list[Region],
    edited: Edited,
    sidecar: Path,
) -> Provenance:
    """The record of an edit of `source` in `regions`, which `asked` has in the user's words.

    It says where the input is seen from `sidecar`, the file that it is for: a whole path would
    carry names of people and projects to wherever the image goes.
    """
    outputs = {sequence_name(number): array_digest(v) for number, v in edited.volumes.items()}
    sequence = next(iter(outputs)) if source.format not in ("brats", ARRAYS) else None
    return Provenance(
        input=_seen_from(sidecar, source),
        format=source.format,
        sequence=sequence,
        inputs=_input_digests(source),
        painter=painter.digest,
        asked=asked,
        shape=source.shape,
        fill=pack(regions),
        settings=edited.settings,
        precision=str(precision()).removeprefix("torch."),
        outputs={**outputs, "realised": array_digest(edited.realised)},
        pixels=pixel_counts(edited.realised),
        warnings=edited.warnings,
        machine={**describe(), "numpy": np.__version__, "scipy": scipy.__version__},
        unlikeness=edited.unlikeness,
    )


def _seen_from(sidecar: Path, source: Source) -> str:
    if source.format == ARRAYS:
        return ""
    return Path(os.path.relpath(source.path.resolve(), sidecar.parent.resolve())).as_posix()


def _input_digests(source: Source) -> dict[str, str]:
    """SHA-256 of the files that were read, or of the arrays that were given."""
    if source.format == ARRAYS:
        return {sequence_name(number): array_digest(v) for number, v in source.volumes.items()}
    return file_digests(source.files)
