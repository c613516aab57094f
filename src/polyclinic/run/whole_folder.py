"""A folder that appears as a whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyclinic.errors import RunError
from polyclinic.models.state import disk_error
from polyclinic.run.start import is_unused


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends well; `RunError` where it cannot.

    `out` must be absent or empty. What a block that failed has written goes away.
    """
    require_unused(out)
    part = out.absolute().with_name(f".{out.absolute().name}.part-{os.getpid()}")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if out.exists():
            shutil.rmtree(out)  # empty, but for what a start that failed leaves
        part.replace(out.absolute())
    except OSError as error:
        raise disk_error(error, out) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_unused(out: Path) -> None:
    """Raise `RunError` where `out` holds something already."""
    if not is_unused(out):
        raise RunError(f"{out}: exists already and is not empty; choose another folder with --out")
