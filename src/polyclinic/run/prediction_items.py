"""What is predicted on: images in a fixed order, and which of them share a mask."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

from polyclinic.data.dataset import Item, Scan, counted

ALONE = "file"
"""Format of a scan of one file, in whose folder nothing else is looked at."""
_SHOWN = 3
"""Files left out that are named one by one in a line."""


@dataclass(frozen=True)
class Whole:
    """Slices of a volume or a series, whose masks are one file.

    `mask` is its name in the folder of masks. It is written in the geometry of `reference`, a
    NIfTI file; None for DICOM, each of whose slices says its own.
    """

    mask: str
    reference: Path | None = None


@dataclass(frozen=True)
class Inputs:
    """`scan` without labels that anybody looks at; by key, where there is one: the patient, and
    the whole that a slice belongs to. Slices of a whole are next to each other. `left_out` says of
    files without an answer why; tables and masks of labels are not among them."""

    scan: Scan
    patients: Mapping[str, str] = field(default_factory=dict)
    wholes: Mapping[str, Whole] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def items(self) -> tuple[Item, ...]:
        """The images, in the order of the answers."""
        return self.scan.items

    def groups(self, size: int) -> Iterator[Sequence[Item]]:
        """The items in runs of `size`, or more where the last whole in it is not over by then."""
        run: list[Item] = []
        for whole, part in groupby(self.items, lambda item: self.wholes.get(item.key)):
            for unit in [list(part)] if whole else ([item] for item in part):
                run += unit
                if len(run) >= size:
                    yield run
                    run = []
        if run:
            yield run


def left_out_line(left_out: Mapping[str, str]) -> str:
    """How many files have no answer, and why the first of them have none.

    >>> left_out_line({"a.txt": "not an image"})
    '1 file left out: a.txt (not an image)'
    """
    shown = [f"{name} ({why})" for name, why in islice(left_out.items(), _SHOWN)]
    if len(left_out) > _SHOWN:
        shown.append(f"and {len(left_out) - _SHOWN} more")
    return f"{counted(len(left_out), 'file')} left out: {', '.join(shown)}"
