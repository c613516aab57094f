"""Arrays that are kept one after another until it is known how large all of them become."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray


class Spool:
    """uint8 arrays of any shapes: in memory, or in a file where `path` is given.

    A file may be full: `append` then raises `OSError`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file: BinaryIO | None = path.open("w+b") if path else None
        self._held: list[NDArray[np.uint8]] = []
        self._shapes: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self._shapes)

    def append(self, array: NDArray[np.uint8]) -> None:
        """Keep `array`."""
        self._shapes.append(array.shape)
        if self._file is None:
            self._held.append(array)
        else:
            self._file.write(np.ascontiguousarray(array).data)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """The arrays in the order in which they came."""
        if self._file is None:
            yield from self._held
            return
        self._file.seek(0)
        for shape in self._shapes:
            count = int(np.prod(shape))
            yield np.frombuffer(self._file.read(count), np.uint8).reshape(shape)

    def close(self) -> None:
        """Forget the arrays, and remove the file."""
        self._held.clear()
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
