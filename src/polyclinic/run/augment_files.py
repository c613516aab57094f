"""Cases as files hold them: read to be painted on; painted ones written, whole or not at all."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.data.dataset import Item
from polyclinic.data.nifti import axial, read_volume
from polyclinic.data.writing import writing
from polyclinic.errors import DataError
from polyclinic.inpaint.cases import CaseFolder
from polyclinic.inpaint.components import MASK, SEQUENCES, from_labels
from polyclinic.inpaint.files import images, nifti, read_source
from polyclinic.inpaint.files.source import Grid, Source, sequence_name
from polyclinic.inpaint.provenance import Provenance, as_record
from polyclinic.models.state import disk_error
from polyclinic.run.directory import Record

CASES, RECORDS, PREVIEWS = "cases", "records", "previews"
WORKSHOP = "unfinished.part"
"""What is being written lies here until it is whole."""


@dataclass(frozen=True, eq=False)
class Target:
    """A real case with all its slices: stored values, and its component map uint8 (Z, H, W)."""

    source: Source
    components: NDArray[np.uint8]


@dataclass(frozen=True)
class WrittenCase:
    """A case in the workshop. `files` maps a sequence, `image` or `seg` to a path relative to the
    run, `moves` are what makes it whole, in this order."""

    files: Mapping[str, str]
    moves: tuple[str, ...]


def read_target(found: CaseFolder, key: str) -> Target:
    """The case `key` as its files hold it.

    Raises `DataError` where it can be read but not painted on: colours, sequences in different
    places, several files of one sequence, or an image and labels of different shapes.
    """
    if found.scan is not None:
        labels = found.scan.load(Item(key, key))[1]
        assert labels is not None  # the reader of images and masks returns one for every image
        source = read_source(found.folder / key, sequence_name(found.image_sequence))
        target = Target(source, from_labels(labels[None], MASK, key))
    else:
        kinds = found.sources[key]
        is_msd = found.layout == "msd"
        source = _decathlon(found, kinds) if is_msd else read_source(found.folder / key)
        name, channel = kinds["seg"]
        labels = axial(read_volume(found.folder / name, name, channel))
        target = Target(source, from_labels(labels, found.order, name))
    if target.source.shape != target.components.shape:
        raise DataError(
            f"{key}: shape {target.source.shape}, its labels {target.components.shape}; expected "
            "the same"
        )
    return target


def write_case(
    target: Target,
    volumes: dict[int, NDArray[Any]],
    components: NDArray[np.uint8],
    key: str,
    record: Provenance,
    room: Path,
) -> WrittenCase:
    """Write stored values and component map (Z, H, W) below `room`, as they shall lie in the run.

    Sequences keep the type, geometry and header of the target; labels are numbered as in BraTS. Of
    images, the mask moves before the image: without its image it is no case.
    """
    source = target.source
    if source.format == "png":
        image, mask = f"{CASES}/images/{key}.png", f"{CASES}/masks/{key}.png"
        for name in (image, mask):
            (room / name).parent.mkdir(parents=True)
        images.write(source, volumes, room / image, record)
        images.write_mask(source, np.where(components > 0, 255, 0).astype(np.uint8), room / mask)
        return WrittenCase({"image": image, "seg": mask}, (mask, image))
    folder = f"{CASES}/{key}"
    (room / folder).mkdir(parents=True)
    files = {}
    for number, slices in sorted(volumes.items()):
        name = sequence_name(number)
        files[name] = f"{folder}/{key}-{name}.nii.gz"
        nifti.write_stored(source.held[number][1], slices, room / files[name], record)
    files["seg"] = f"{folder}/{key}-seg.nii.gz"
    nifti.write_mask(source, components, room / files["seg"])  # numbered as in BraTS
    return WrittenCase(files, (folder,))


def write_record(record: Provenance, key: str, room: Path) -> str:
    """Write what `inpaint edit` writes beside an image; returns its path relative to the run."""
    name = f"{RECORDS}/{key}.json"
    (room / RECORDS).mkdir()
    text = json.dumps(as_record(record), indent=1, ensure_ascii=False)
    (room / name).write_text(text + "\n", encoding="utf-8")
    return name


def write_preview(picture: Image.Image, key: str, room: Path) -> str:
    """Write a picture; returns its path relative to the run."""
    name = f"{PREVIEWS}/{key}.png"
    (room / PREVIEWS).mkdir()
    picture.save(room / name)
    return name


def fresh_room(run: Path, key: str) -> Path:
    """An empty folder to write `key` in; what a kill has left there goes."""
    room = run / WORKSHOP / key
    shutil.rmtree(run / WORKSHOP, ignore_errors=True)
    room.mkdir(parents=True)
    return room


def move_out(room: Path, run: Path, moves: Sequence[str]) -> None:
    """Move files and folders into the run, in place of what has that name, and clear the room."""
    for name in moves:
        place = run / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():  # of a run that was killed before it could note this case
            place.replace(room / "replaced")
        (room / name).replace(place)
    shutil.rmtree(room.parent, ignore_errors=True)


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each file by its path relative to `folder`; an absent file has an empty one."""
    found = {}
    for name in names:
        file = folder / name
        found[name] = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    return found


def write_sheet(pictures: Sequence[Path], path: Path) -> None:
    """One picture below the other, flush left on black, as the file `path`."""
    rows = []
    for picture in pictures:
        with Image.open(picture) as image:
            rows.append(np.asarray(image.convert("RGB")))
    sheet = np.zeros((sum(map(len, rows)), max(row.shape[1] for row in rows), 3), np.uint8)
    top = 0
    for row in rows:
        sheet[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    _whole(path, lambda part: Image.fromarray(sheet).save(part, "PNG"))


def write_manifest(rows: Sequence[Record], columns: Sequence[str], path: Path) -> None:
    """A table with a line a case, as the file `path`; what a case lacks stays empty."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    _whole(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8", newline=""))


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with writing(path) as part:
            write(part)
    except OSError as error:
        raise disk_error(error, path) from None


def _decathlon(found: CaseFolder, kinds: Mapping[str, tuple[str, int | None]]) -> Source:
    """The sequences of a file (X, Y, Z, channel), as if each were a volume of its own."""
    import nibabel

    name = next(name for kind, (name, _) in kinds.items() if kind in SEQUENCES)
    path = found.folder / name
    try:
        image: Any = nibabel.load(path)
        stored: Any = image.dataobj
        voxels = np.asarray(stored.get_unscaled())
        slope, intercept = float(stored.slope), float(stored.inter)
        grid = Grid(tuple(int(n) for n in voxels.shape[:3]), np.array(image.affine, np.float64))
    except Exception as error:  # gzip, zlib, struct and nibabel each have errors of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable NIfTI file ({reason})") from None
    if voxels.dtype.kind not in "iuf":
        raise DataError(f"{name}: voxels of type {voxels.dtype}; expected numbers")
    header = image.header.copy()
    header.set_data_shape(grid.shape)
    header.set_slope_inter(slope, intercept)
    header["vox_offset"] = offset = int(header.single_vox_offset)
    begin = bytes(header.binaryblock).ljust(offset, b"\0")
    descrip = int(type(header).template_dtype.fields["descrip"][1])
    held = {}
    for number, kind in enumerate(SEQUENCES):
        if kind in kinds:
            volume = voxels[..., kinds[kind][1]]
            content = begin + volume.tobytes(order="F")
            held[number] = nifti.Stored(content, offset, descrip, volume, slope, intercept, grid)
    return Source(
        path,
        "brats",
        {number: grid.to_axial(one.voxels) for number, one in held.items()},
        {number: nifti.storage_of(one, path) for number, one in held.items()},
        {path.name: path},
        grid,
        {number: (f"{SEQUENCES[number]}.nii.gz", one) for number, one in held.items()},
    )
