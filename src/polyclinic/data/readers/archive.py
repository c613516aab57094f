"""Arrays in a `.npz` file, within limits: a few bytes may declare, and unpack to, any size."""

import contextlib
import functools
import math
import threading
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.images import MAX_PIXELS
from polyclinic.errors import DataError

MAX_HELD = 2**28
"""Bytes up to which an array is kept in memory; of a larger one, some rows are."""
MAX_ROWS = 2**20
"""Images of one array; files with more are refused."""
BLOCK = 2**24
"""Bytes that are read at a time of an array that is too large to be kept."""

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class ArrayHeader:
    """What an array of the archive says of itself; `start` bytes of it are this header."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def members(path: Path) -> frozenset[str]:
    """The names of the arrays in the archive; `DataError` where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # damaged archives make zipfile trip in many ways
        raise DataError(f"{path}: not a readable .npz file ({_reason(error)})") from None
    return frozenset(name.removesuffix(".npy") for name in names)


def read_header(path: Path, name: str) -> ArrayHeader:
    """The header of array `name`, which the archive's own numbers bear out; else `DataError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = archive.getinfo(f"{name}.npy").file_size
            with archive.open(f"{name}.npy") as file:
                header = _read_header(file)
    except Exception as error:  # as above, and NumPy has errors of its own
        raise DataError(f"{path}: array {name} cannot be read ({_reason(error)})") from None
    if header.dtype.hasobject:
        why = "Python objects are never loaded: allow_pickle=False"
    elif min(header.shape, default=0) < 0 or header.start + header.size != held:
        why = f"{held - header.start} bytes; its header says {header.size}"
    else:
        return header
    raise DataError(f"{path}: array {name} cannot be read ({why})")


def read_small(path: Path, name: str) -> NDArray[Any]:
    """A whole array of at most `MAX_HELD` bytes; `DataError` where it is larger or damaged."""
    header = read_header(path, name)
    if header.size > MAX_HELD:
        raise DataError(
            f"{path}: array {name} takes {header.size} bytes; expected at most {MAX_HELD}"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
            return array
    except Exception as error:  # zip, zlib and NumPy each have errors of their own
        raise DataError(f"{path}: array {name} cannot be read ({_reason(error)})") from None


def row_reader(path: Path) -> Callable[[str, int], NDArray[Any]]:
    """A function that gives row `index` of array `name`; safe among threads.

    Arrays of up to `MAX_HELD` bytes are kept. Larger ones are unpacked from the start to the row
    that is asked for, and on from there for the next, so that memory stays within `BLOCK`.
    """
    lock = threading.Lock()

    @functools.cache
    def rows(name: str) -> Callable[[int], NDArray[Any]] | str:
        try:
            header = read_header(path, name)
            if header.size <= MAX_HELD:
                return read_small(path, name).__getitem__
            return _Stream(path, name, header).row
        except DataError as error:  # kept, so that it is not tried again for every image
            return str(error)

    def row(name: str, index: int) -> NDArray[Any]:
        with lock:
            reader = rows(name)
            if isinstance(reader, str):
                raise DataError(reader)
            return reader(index)

    return row


class _Stream:
    """Rows of one large array, read forward in blocks; going back begins anew.

    The archive's checksum is of the whole array and so shows at its end alone.
    """

    def __init__(self, path: Path, name: str, header: ArrayHeader) -> None:
        if header.fortran:
            raise DataError(
                f"{path}: array {name} is large and stored column by column; save it again after "
                "np.ascontiguousarray"
            )
        self._path, self._name, self._header = path, name, header
        self._row_size = math.prod(header.shape[1:]) * header.dtype.itemsize
        self._rows = max(1, BLOCK // max(1, self._row_size))
        self._kept: dict[int, NDArray[Any]] = {}
        self._file: IO[bytes] | None = None
        self._opened = contextlib.ExitStack()
        weakref.finalize(self, self._opened.close)
        self._next = 0  # number of the block that the file is at

    def row(self, index: int) -> NDArray[Any]:
        """One row, with the shape of the array's others. Raises `DataError`."""
        number, within = divmod(index, self._rows)
        try:
            if number not in self._kept:
                self._read_to(number)
        except Exception as error:  # as in `read_small`
            self._close()
            what = f"array {self._name} cannot be read ({_reason(error)})"
            raise DataError(f"{self._path}: {what}") from None
        row: NDArray[Any] = self._kept[number][within].copy()
        return row

    def _close(self) -> None:
        self._file = None
        self._opened.close()

    def _read_to(self, number: int) -> None:
        if self._file is None or number < self._next:
            self._close()
            archive = self._opened.enter_context(zipfile.ZipFile(self._path))
            self._file = self._opened.enter_context(archive.open(f"{self._name}.npy"))
            self._file.read(self._header.start)
            self._next = 0
        while self._next <= number:
            count = min(self._rows, self._header.shape[0] - self._next * self._rows)
            data = self._file.read(count * self._row_size)
            if len(data) < count * self._row_size:
                raise EOFError("it is cut off")
            self._next += 1
        block = np.frombuffer(data, self._header.dtype).reshape(count, *self._header.shape[1:])
        # Threads ask for rows nearly in order: the block before may be wanted once more.
        self._kept = {n: one for n, one in self._kept.items() if n == number - 1} | {number: block}


def image_count(path: Path, name: str, names: frozenset[str]) -> int:
    """How many images array `name` holds, from its header alone; checks that they are images."""
    if name not in names:
        raise DataError(
            f"{path}: expected train_images (val_images, test_images) or images; "
            f"found {', '.join(sorted(names)[:20]) or 'nothing'}"
        )
    shape = read_header(path, name).shape
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape[1:]:
        raise DataError(
            f"{path}: {name} has shape {shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
        )
    if shape[0] > MAX_ROWS or math.prod(shape[1:3]) > MAX_PIXELS:
        raise DataError(
            f"{path}: {name} has shape {shape}; expected at most {MAX_ROWS} images of at most "
            f"{MAX_PIXELS} pixels"
        )
    return shape[0]


def _read_header(file: IO[bytes]) -> ArrayHeader:
    shape, fortran, dtype = _READ_HEADER[np.lib.format.read_magic(file)](file)
    return ArrayHeader(shape, fortran, dtype, file.tell())


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
