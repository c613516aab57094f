"""Where a run may start. Imports nothing heavy, because the command line asks first."""

from pathlib import Path


def is_unused(folder: Path) -> bool:
    """Whether `folder` is absent, empty, or holds only what a start that failed early leaves.

    That is the lock, and files that were not finished (`*.part`).
    """
    if not folder.exists():
        return True
    return folder.is_dir() and all(
        path.name == ".lock" or path.suffix == ".part" for path in folder.iterdir()
    )
