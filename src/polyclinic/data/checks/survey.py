"""Every file and image of a folder, looked at once, in as many processes as there are cores."""

import functools
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from polyclinic.data.checks.check import FileFacts, ImageFacts, Survey
from polyclinic.data.checks.file_facts import file_facts
from polyclinic.data.checks.image_facts import image_facts
from polyclinic.data.checks.loose import loose_scan
from polyclinic.data.dataset import Scan
from polyclinic.data.files import list_files
from polyclinic.data.processes import bind_to_parent, interrupts_held
from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError

CHUNK = 64
"""Images or files that a process is given at a time."""
ONE_PROCESS = 256
"""Up to so many files and images are looked at in this process: others take longer to start."""


def open_scan(folder: Path) -> Scan:
    """What `scan_site` finds, or, where no reader understands the folder, all its images.

    Raises `DataError` where there is no such folder.
    """
    try:
        return scan_site(folder)
    except DataError as error:
        if not folder.is_dir():
            raise
        return loose_scan(folder, str(error).removeprefix(f"{folder}: "))


def survey_folder(folder: Path, *, jobs: int, done: Callable[[float], None]) -> Survey:
    """Look at every file and decode every image of `folder`; `done` is told the share, 0..1.

    `jobs` processes work; the result does not depend on their number. Raises `DataError` where
    there is no such folder, or a process was killed.
    """
    scan = open_scan(folder)
    names, _ = list_files(folder)
    total = len(scan.items) + len(names)
    pieces: list[_Piece] = [(_images, start, stop) for start, stop in _chunks(scan)]
    pieces += [(_files, at, at + CHUNK) for at in range(0, len(names), CHUNK)]
    images: list[ImageFacts] = []
    files: list[FileFacts] = []
    alone = jobs <= 1 or total <= ONE_PROCESS
    for facts in _here(scan, names, pieces) if alone else _work(folder, pieces, jobs):
        for one in facts:
            images.append(one) if isinstance(one, ImageFacts) else files.append(one)
        done((len(images) + len(files)) / max(1, total))
    return Survey(scan, tuple(images), tuple(files))


def _chunks(scan: Scan) -> Iterator[tuple[int, int]]:
    """Rows from and to; slices of one volume stay together, so that it is decoded once."""
    start = 0
    for row in range(1, len(scan.items) + 1):
        whole = row == len(scan.items) or row - start >= CHUNK
        if whole and (row == len(scan.items) or not _same_volume(scan, row)):
            yield start, row
            start = row


def _same_volume(scan: Scan, row: int) -> bool:
    one, other = scan.items[row - 1], scan.items[row]
    return scan.has_patient_ids and "#" in other.key and one.patient == other.patient


_Facts = list[ImageFacts] | list[FileFacts]
_Piece = tuple[Callable[[Path, int, int], _Facts], int, int]


def _here(scan: Scan, names: Sequence[str], pieces: Sequence[_Piece]) -> Iterator[_Facts]:
    """The results of `pieces`, in their order, by this process."""
    for work, start, stop in pieces:
        if work is _images:
            yield _image_facts(scan, start, stop)
        else:
            yield _file_facts(scan.folder, names, start, stop)


def _work(folder: Path, pieces: Sequence[_Piece], jobs: int) -> Iterator[_Facts]:
    """The results of `pieces`, in their order, by `jobs` processes."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, bind_to_parent)
    try:
        with interrupts_held():
            futures: list[Future[_Facts]] = [
                pool.submit(work, folder, start, stop) for work, start, stop in pieces
            ]
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{folder}: one of {jobs} worker processes was killed, probably for lack of memory; "
            "use fewer --jobs"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@functools.lru_cache(maxsize=1)
def _scan(folder: Path) -> Scan:
    # A scan holds functions, which no process can be sent: each makes its own, once.
    return open_scan(folder)


@functools.lru_cache(maxsize=1)
def _names(folder: Path) -> tuple[str, ...]:
    return list_files(folder)[0]


def _images(folder: Path, start: int, stop: int) -> list[ImageFacts]:
    return _image_facts(_scan(folder), start, stop)


def _files(folder: Path, start: int, stop: int) -> list[FileFacts]:
    return _file_facts(folder, _names(folder), start, stop)


def _image_facts(scan: Scan, start: int, stop: int) -> list[ImageFacts]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders' remarks on what a finding will say
        return [image_facts(scan, item) for item in scan.items[start:stop]]


def _file_facts(folder: Path, names: Sequence[str], start: int, stop: int) -> list[FileFacts]:
    return [file_facts(folder, name) for name in names[start:stop]]
