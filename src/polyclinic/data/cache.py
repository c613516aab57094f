"""Prepared arrays on disk, so that the second start of a site takes a second."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Scan
from polyclinic.data.files import list_files
from polyclinic.errors import ConfigError

VERSION = 1
"""To be raised whenever the same files would give other arrays."""
IMAGES, LABEL_MAPS, FACTS = "images.npy", "label_maps.npy", "facts.json"
LIMIT_NAME = "POLYCLINIC_CACHE_LIMIT"
"""The environment variable that says how many GiB the cache may take."""
LIMIT_GIB = 20.0
_ENTRY = re.compile(r"\.?[0-9a-f]{32}(\.\d+)?")
"""Names of entries, and of those that are being written: `.NAME.PROCESS`."""
_ABANDONED = 86_400.0
"""Seconds after which an entry that is being written is one that nobody writes any more."""
_SMALL = 2**20
"""Arrays of fewer bytes are read at once."""


@dataclass(frozen=True)
class Prepared:
    """The images of a scan that could be read, in one size.

    `images` uint8 (N, C, S, S); `label_maps` uint8 (N, S, S) or None; `rows` the numbers of
    their items in the scan; `blank` marks images of one single value, (N,); `unreadable` pairs
    the number of an item with the reason.
    """

    images: NDArray[np.uint8]
    label_maps: NDArray[np.uint8] | None
    rows: NDArray[np.int64]
    blank: NDArray[np.bool_]
    unreadable: tuple[tuple[int, str], ...]


def fingerprint(scan: Scan, options: Mapping[str, Any]) -> str:
    """A name for what preparing `scan` gives: from names, sizes and times of its files, not pixels.

    Any file that is added, removed, renamed or written to gives another name.
    """
    digest = hashlib.blake2b(digest_size=16)
    head = [VERSION, str(scan.folder.resolve()), scan.format, scan.task, scan.classes]
    digest.update(json.dumps([*head, dict(options)], sort_keys=True).encode())
    for item in scan.items:
        digest.update(b"\0" + item.key.encode())
    for name in list_files(scan.folder)[0]:
        status = os.stat(f"{scan.folder}/{name}")  # noqa: PTH116 (a Path costs more than the call)
        digest.update(f"\0{name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()


def load(folder: Path) -> Prepared | None:
    """What lies in `folder`, or None where nothing is there or anything is wrong."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        images = open_array(folder / IMAGES)
        os.utime(folder)  # it was used now: `trim` removes others first
        has_maps = facts["label_maps"]
        maps = open_array(folder / LABEL_MAPS) if has_maps else None
        if facts["checksum"] != _checksum(images, maps) or len(images) != len(facts["rows"]):
            return None
        return Prepared(
            images,
            maps,
            np.array(facts["rows"], np.int64),
            np.array(facts["blank"], np.bool_),
            tuple((int(row), str(reason)) for row, reason in facts["unreadable"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `folder` at the end: all of it or nothing.

    Only the user may read it: it holds patients' images. Raises `OSError` (a full disk).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)  # corrupt, or `load` would have taken it
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def limit() -> int:
    """Bytes that the cache may take: `LIMIT_NAME` in GiB, else `LIMIT_GIB`.

    Raises `ConfigError` where that is no number from 0 on.
    """
    given = os.environ.get(LIMIT_NAME, "").strip() or str(LIMIT_GIB)
    with contextlib.suppress(ValueError):
        number = float(given)
        if 0 <= number < math.inf:
            return int(number * 2**30)
    raise ConfigError(f"{LIMIT_NAME}: expected a number of GiB, 0 or more, got {given!r}")


def trim(cache: Path, *, keep: Path) -> None:
    """Remove the entries that were used longest ago until the others fit into `limit`.

    `keep` stays, whatever its size: it is being used. What is no entry is never touched; what
    cannot be removed stays.
    """
    entries = []
    for folder in cache.iterdir():
        if folder == keep or folder.is_symlink() or not _ENTRY.fullmatch(folder.name):
            continue
        with contextlib.suppress(OSError):
            used = folder.stat().st_mtime
            if not folder.name.startswith("."):
                entries.append((used, _size(folder), folder))
            elif time.time() - used > _ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)
    left = limit() - _size(keep)
    for _, size, folder in sorted(entries, reverse=True):
        left -= size
        if left < 0:
            shutil.rmtree(folder, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def write_array(path: Path, shape: tuple[int, ...], rows: Iterable[NDArray[np.uint8]]) -> None:
    """Write the rows of an array of `shape`, one after another, as `np.save` would.

    Not through a memory map, where a full disk ends the process.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            file.write(np.ascontiguousarray(row).data)


def write_facts(prepared: Prepared, folder: Path) -> None:
    """Write what `load` needs beside the arrays of `prepared`, which lie in `folder`."""
    facts = {
        "checksum": _checksum(prepared.images, prepared.label_maps),
        "label_maps": prepared.label_maps is not None,
        "rows": prepared.rows.tolist(),
        "blank": prepared.blank.tolist(),
        "unreadable": prepared.unreadable,
    }
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def open_array(path: Path) -> NDArray[np.uint8]:
    """The array in `path`, whose pages are read when they are needed and forgotten when memory is.

    Writing to it changes this process's copy, not the file.
    """
    if path.stat().st_size < _SMALL:
        return np.asarray(np.load(path, allow_pickle=False))
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def _checksum(images: NDArray[np.uint8], maps: NDArray[np.uint8] | None) -> int:
    checksum = zlib.crc32(repr(images.shape).encode())
    for array in (images, maps):
        if array is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum
