"""What every reader is: a name, a line for the help, a guess, and a scan."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Image, Item, Scan, Split, Task
from polyclinic.errors import DataError

Load = Callable[[Item], tuple[Image, NDArray[np.uint8] | None]]
"""`Scan.load`; where it can be pickled, processes decode large sites."""
TaskChoice = Task | Literal["auto"]


@dataclass(frozen=True)
class Reader:
    """One format of a site's folder.

    `recognise(folder)` looks at names only and says how sure it is: 0 is no, 1 is sure.
    `scan(folder, task)` lists the items; it raises `DataError` when the folder is not in this
    format or cannot serve this task.
    """

    name: str
    describe: str
    recognise: Callable[[Path], float]
    scan: Callable[[Path, TaskChoice], Scan]


def require_task(name: str, task: TaskChoice, only: Task) -> None:
    """Raise `DataError` when a format that serves one task was declared with another."""
    if task not in ("auto", only):
        raise DataError(f"format {name} is for {only}, not for {task}; change format or task")


SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""How people call the splits, in small letters."""
