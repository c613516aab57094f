"""Where an edit goes: image, mask and record, whole or not at all, and never over the input.

`--out painted.nii.gz` writes

    painted.nii.gz  painted.mask.nii.gz  painted.json

and a folder gets the names of the input, in folders of their own where there are several samples:

    OUT/scan.nii.gz  OUT/scan.mask.nii.gz  OUT/scan.json
    OUT/sample-1/...  OUT/sample-2/...

The mask and the record of a case or series are `mask.nii.gz` and `edit.json`.

Where something is written over, the old record goes first and the new one comes last. So whoever
looks, or is left with what a killed process leaves, sees a record that describes what is beside it,
or none: then image and mask may be old, new, or some of both.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import ConfigError, PolyclinicError, RunError
from polyclinic.inpaint.components import to_mask
from polyclinic.inpaint.files import FORMATS
from polyclinic.inpaint.files.source import Source
from polyclinic.inpaint.provenance import Provenance, as_record

_KNOWN = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii.gz", ".nii", ".gz", ".dcm")
Result = tuple[dict[int, NDArray[Any]], NDArray[np.int8], Provenance]
"""Edited volumes, realised components (Z, H, W), record."""


@dataclass(frozen=True)
class Written:
    """What was written: `image` is a folder where the input is one."""

    image: Path
    mask: Path
    sidecar: Path
    provenance: Provenance


class Output:
    """A place for `samples` edits of `source`, made from it and from the files `made_from`.

    Raises, before anything is computed, `ConfigError` where the name does not fit and `RunError`
    where something is there already (unless `force`), or where the input or one of `made_from`
    would be written over.
    """

    def __init__(
        self,
        source: Source,
        out: Path,
        samples: int,
        force: bool,
        made_from: Collection[Path] = (),
    ) -> None:
        self.source, self.out, self.format = source, out, FORMATS[source.format]
        self.is_file = out.name.lower().endswith(_KNOWN) and not out.is_dir()
        if self.is_file:
            self._check_name(samples)
        elif out.exists() and not out.is_dir():
            raise RunError(f"{out}: a file; expected a folder, or a name with an extension")
        inside = source.path.is_dir() and out.resolve().is_relative_to(source.path.resolve())
        if inside:
            raise RunError(f"{out}: within the input folder; choose another --out")
        self._check_room()
        self.places = [self._place(number, samples) for number in range(1, samples + 1)]
        inputs = dict.fromkeys((path.resolve() for path in source.files.values()), "the input")
        inputs |= {path.resolve(): f"{path}, which it is made from" for path in made_from}
        for place in self.places:
            taken = [path for path in self._files(place) if path.exists()]
            for path in self._files(place):
                if (what := inputs.get(path.resolve())) is not None:
                    raise RunError(f"{out}: would overwrite {what}; choose another --out")
            if taken and not force:
                raise RunError(
                    f"{taken[0]}: exists already; add --force to write over it, or choose "
                    "another --out"
                )

    def write(self, results: Sequence[Result]) -> list[Written]:
        """Write everything: first beside its place, then into it, each record after its image."""
        parent = self.out if self.out.is_dir() else self.out.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            workshop = Path(
                tempfile.mkdtemp(prefix=f".{self.out.name}.", suffix=".part", dir=parent)
            )
            try:
                ready = []
                for number, (place, result) in enumerate(zip(self.places, results, strict=True)):
                    room = workshop / str(number)
                    room.mkdir()
                    ready.append((place, room, self._prepare(room, place, result)))
                for place, room, image in ready:
                    self._move(place, room, image)
            finally:
                shutil.rmtree(workshop, ignore_errors=True)
        except PolyclinicError:
            raise
        except OSError as error:
            full = "free some space or " if error.errno == errno.ENOSPC else ""
            raise RunError(
                f"{self.out}: cannot be written ({error.strerror or error}); {full}choose another "
                "--out"
            ) from None
        return [Written(*place, r[2]) for place, r in zip(self.places, results, strict=True)]

    def _check_name(self, samples: int) -> None:
        if not self.format.extensions or self.source.path.is_dir():
            raise ConfigError(f"{self.out}: expected a folder, as {self.source.path} is one")
        if not self.out.name.lower().endswith(self.format.extensions):
            raise ConfigError(
                f"{self.out}: {self.source.path.name} is written as "
                f"{' or '.join(self.format.extensions)}; expected such a name, or a folder"
            )
        if samples > 1:
            raise ConfigError(f"{self.out}: one file for {samples} samples; expected a folder")

    def _check_room(self) -> None:
        """Raise `RunError` where no file can be made, without making one."""
        there = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if self.is_file and there == self.out:
            there = self.out.absolute().parent
        if not there.is_dir():
            raise RunError(f"{self.out}: {there} is a file; choose another --out")
        if not os.access(there, os.W_OK | os.X_OK):
            raise RunError(f"{self.out}: {there} may not be written to; choose another --out")

    def _place(self, number: int, samples: int) -> tuple[Path, Path, Path]:
        """Image, mask and record of a sample."""
        folder = self.out / f"sample-{number}" if samples > 1 else self.out
        if self.source.path.is_dir():
            return folder, folder / f"mask{self.format.mask}", folder / "edit.json"
        if self.is_file:
            image = self.out
        elif self.source.format == "png":
            image = folder / f"{self.source.path.stem}.png"
        else:
            image = folder / self.source.path.name
        stem = _without_extension(image.name)
        mask, sidecar = f"{stem}.mask{self.format.mask}", f"{stem}.json"
        return image, image.with_name(mask), image.with_name(sidecar)

    def _files(self, place: tuple[Path, Path, Path]) -> list[Path]:
        image, mask, sidecar = place
        single = not self.source.path.is_dir()
        images = [image] if single else [image / name for name in self.source.files]
        return [*images, mask, sidecar]

    def _prepare(self, room: Path, place: tuple[Path, Path, Path], result: Result) -> Path:
        """Write one result into `room`; returns the image, a file or a folder, there."""
        volumes, realised, record = result
        image = room / "image"
        image.mkdir()
        if not self.source.path.is_dir():
            image /= place[0].name
        self.format.write(self.source, volumes, image, record)
        self.format.write_mask(self.source, to_mask(realised), room / f"realised{self.format.mask}")
        text = json.dumps(as_record(record), indent=1, ensure_ascii=False)
        (room / "record.json").write_text(text + "\n", encoding="utf-8")
        return image

    def _move(self, place: tuple[Path, Path, Path], room: Path, image: Path) -> None:
        target, mask, sidecar = place
        mask.parent.mkdir(parents=True, exist_ok=True)
        sidecar.unlink(missing_ok=True)  # it would describe what it does not lie beside
        if image.is_dir():
            for file in sorted(path for path in image.rglob("*") if path.is_file()):
                final = target / file.relative_to(image)
                final.parent.mkdir(parents=True, exist_ok=True)
                file.replace(final)
        else:
            image.replace(target)
        (room / f"realised{self.format.mask}").replace(mask)
        (room / "record.json").replace(sidecar)


def _without_extension(name: str) -> str:
    """`name` without a known extension: what follows a dot in a UID is none.

    >>> _without_extension("scan.NII.gz"), _without_extension("1.2.3.4")
    ('scan', '1.2.3.4')
    """
    ending = next((known for known in _KNOWN if name.lower().endswith(known)), "")
    return name[: len(name) - len(ending)]
