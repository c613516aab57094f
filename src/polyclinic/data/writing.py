"""A file that appears as a whole, or not at all."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Where to write, beside `path`; it takes that name when the block ends well.

    A reader never sees half a file, and a block that fails leaves what was there before. Errors
    pass through: who writes says what to do about them.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the error that brought us here says more
            part.unlink()
        raise


def settle(path: Path) -> None:
    """Force a file, and its name in its folder, onto the disk: a power cut cannot undo it."""
    for what in (path, path.parent) if os.name == "posix" else ():
        descriptor = os.open(what, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
