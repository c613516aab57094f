"""The formats of sites. To add one: write a file beside this one, and add it to `READERS`."""

from pathlib import Path

from polyclinic.data.dataset import Scan
from polyclinic.data.files import escaped, is_hidden
from polyclinic.data.readers import (
    bids,
    brats,
    class_folders,
    dicom_seg,
    image_masks,
    manifest,
    msd,
    npz,
)
from polyclinic.data.readers.corpus import scan_corpus
from polyclinic.data.readers.reader import Reader, TaskChoice
from polyclinic.errors import DataError, did_you_mean

__all__ = ["READERS", "Reader", "TaskChoice", "scan_corpus", "scan_site", "unknown_format"]

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        class_folders.READER,
        manifest.READER,
        npz.READER,
        image_masks.READER,
        brats.READER,
        msd.READER,
        bids.READER,
        dicom_seg.READER,
    )
}


def scan_site(folder: Path, *, format: str = "auto", task: TaskChoice = "auto") -> Scan:
    """Find out what a site's folder holds; decodes no image except the masks' values.

    With `auto` the format and the task are recognised. Raises `DataError` where there is no such
    folder, nothing in it, no or more than one format that fits, or nothing usable in that format.
    """
    if wrong := unknown_format(format):
        raise DataError(f"{folder}: format {wrong}")
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; expected a folder with a site's images")
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file; expected the folder that holds a site's images")
    try:
        seen = sorted(escaped(p.name) for p in folder.iterdir() if not is_hidden(p.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
    if not seen:
        raise DataError(f"{folder}: is empty; expected a site's images")
    scan = READERS[_recognise(folder, seen) if format == "auto" else format].scan(folder, task)
    if not scan.items:
        raise DataError(f"{folder}: no image that could be used, read as {scan.format}")
    return scan


def unknown_format(name: str) -> str:
    """What is wrong with the name of a format; "" for `auto` and for those that there are."""
    if name == "auto" or name in READERS:
        return ""
    known = f"known: auto, {', '.join(READERS)}"
    return f"{name!r} is unknown; {known}{did_you_mean(name, READERS)}"


def _recognise(folder: Path, seen: list[str]) -> str:
    sure = {name: reader.recognise(folder) for name, reader in READERS.items()}
    best = max(sure.values())
    winners = [name for name, value in sure.items() if value == best]
    if best == 0:
        alone = class_folders.with_images(folder)
        if len(alone) == 1:
            raise DataError(
                f"{folder}: images in one sub-folder only, {escaped(alone[0])}; expected a "
                "sub-folder for each class, at least two"
            )
        shown = ", ".join(seen[:5]) + (f" and {len(seen) - 5} more" if len(seen) > 5 else "")
        known = "; ".join(f"{reader.name}: {reader.describe}" for reader in READERS.values())
        raise DataError(f"{folder}: format not recognised; it holds {shown}; known are {known}")
    if len(winners) > 1:
        names = " or ".join(winners)
        raise DataError(f"{folder}: could be {names}; say which with format = {winners[0]!r}")
    if winners[0] == class_folders.READER.name:
        _refuse_several_sites(folder)
    return winners[0]


def _refuse_several_sites(folder: Path) -> None:
    """A folder of sites looks like a folder of classes; classes hold images and nothing else.

    So do the folder above it, which holds the corpus too, and a run with its pictures.
    """
    inside = {path.name for path in folder.iterdir()}
    if {"sites", "corpus"} <= inside and (folder / "sites").is_dir():
        raise DataError(
            f"{folder}: holds sites/ and corpus/, a whole federation; expected one site: name one "
            f"of the folders in {folder / 'sites'}"
        )
    if {"config.json", "metrics.jsonl"} <= inside:
        raise DataError(f"{folder}: is the directory of a run; expected a site's images")
    sites = [
        f"{escaped(path.name)}/ ({name})"
        for path in sorted(folder.iterdir())
        if path.is_dir() and not is_hidden(path.name)
        for name, reader in READERS.items()
        if reader is not class_folders.READER and reader.recognise(path) > 0
    ]
    if len(sites) > 1:
        raise DataError(
            f"{folder}: holds several sites, {' and '.join(sites[:2])} among them; expected one: "
            "name the folder of one"
        )
