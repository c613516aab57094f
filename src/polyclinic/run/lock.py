"""One process at a time: a file that is locked for as long as somebody writes beside it."""

from pathlib import Path
from typing import IO, Any

from polyclinic.errors import RunError


def locked(path: Path, busy: str) -> IO[Any]:
    """Lock the file `path`, until what this returns is closed, or until the process ends.

    The file stays: were it removed, two could hold locks of the same name. Raises `RunError` with
    the text `busy` where another process holds it.
    """
    file = path.open("w")
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks; a second process is not noticed
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RunError(busy) from None
    return file
