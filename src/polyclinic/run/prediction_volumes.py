"""NIfTI volumes to predict on: files that are one volume, and their slices, without any labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from polyclinic.data.dataset import Image, Item, Task
from polyclinic.data.nifti import ENDS, Volume, axial, axial_depth, read_volume
from polyclinic.data.readers import brats, msd, volumes
from polyclinic.errors import DataError
from polyclinic.run.prediction_items import Whole

LAYOUTS = ("brats", "msd")
"""Formats in which several files are the channels of one volume."""
_MOST = 3  # channels
_UNLABELLED = (msd.IMAGES, "imagesTs", "imagesVal")


@dataclass(frozen=True)
class Volumes:
    """Slices by the name of their volume, from the feet up; see `find_volumes`."""

    items: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)
    load: Callable[[Item], tuple[Image, Any]] | None = None
    wholes: Mapping[str, Whole] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files that no volume is made of, and why; those of labels are not among them."""


def find_volumes(folder: Path, names: Sequence[str], task: Task, layout: str) -> Volumes:
    """The slices of the volumes among the files `names`, as `VOLUME#Z`; reads headers alone.

    For label maps every axial slice, so that a mask covers its volume; otherwise every fifth of
    the middle half, as for `bids`. `layout`, the format of a site, says which files are channels
    of one volume: those of a case in `brats` and in `msd`; else each file is a volume. A volume
    whose header cannot be read is one item, which fails when it is loaded.
    """
    stacks, left_out = _stacks(names, layout)
    items: dict[str, tuple[Item, ...]] = {}
    wholes: dict[str, Whole] = {}
    patients: dict[str, str] = {}
    unusable: dict[str, str] = {}
    taken: set[str] = set()
    for volume, files in stacks.items():
        first = next(name for name in files if name)
        try:
            depth = axial_depth(folder / first, first)
        except DataError as error:
            unusable[volume] = str(error).removeprefix(f"{volume}: ")
            items[volume] = (Item(volume, volume),)
            continue
        slices = range(depth)
        if task != "segmentation":
            slices = range(depth // 4, depth - depth // 4, volumes.EVERY)
        found = tuple(Item(f"{volume}#{z}", volume) for z in slices)
        items[volume] = found
        if task == "segmentation":
            mask = f"{without_end(volume)}.nii.gz"
            mask = f"{volume}.nii.gz" if mask in taken else mask  # a.nii beside a.nii.gz
            taken.add(mask)
            wholes |= dict.fromkeys((i.key for i in found), Whole(mask, folder / first))
        if len(files) > 1:
            case = PurePosixPath(volume).name
            patients |= {item.key: case for item in found}

    def decode(volume: str) -> volumes.Slices:
        return _decode(folder, stacks[volume])

    return Volumes(items, volumes.loader(decode, unusable), wholes, patients, left_out)


def without_end(name: str) -> str:
    """The name of a NIfTI file without `.nii` and `.nii.gz`."""
    end = next((end for end in ENDS if name.lower().endswith(end)), "")
    return name[: len(name) - len(end)]


def _stacks(
    names: Sequence[str], layout: str
) -> tuple[dict[str, tuple[str | None, ...]], dict[str, str]]:
    """The files of each volume, one a channel, None where it has none; by the volume's name.

    And the files whose place in a volume another one has, with what is said of them.
    """
    held: dict[str, dict[str, str]] = {}
    alone: dict[str, tuple[str | None, ...]] = {}
    second: dict[str, str] = {}

    def hold(case: str, kind: str, name: str) -> None:
        first = held.setdefault(case, {}).setdefault(kind, name)
        if first != name:
            second[name] = f"its case has {first} as {kind} already"

    for name in names:
        if layout == "brats" and (kind := brats.kind_of(name)):
            case = name.rpartition("/")[0] or without_end(name).removesuffix(kind)[:-1]
            hold(case, kind, name)
        elif layout == "msd" and (part := _part(name)):
            hold(*part, name)
        elif not (layout == "msd" and name.startswith("labels")):
            alone[name] = (name,)
    channels = brats.CHANNELS if layout == "brats" else [(f"{n:04}",) for n in range(_MOST)]
    stacks: dict[str, tuple[str | None, ...]] = {}
    for case, files in held.items():
        found = tuple(next((files[k] for k in kinds if k in files), None) for kinds in channels)
        if layout == "msd" and found[1:] == (None, None):
            found = found[:1]  # one channel is grey
        if any(found):
            stacks[case] = found
    return stacks | alone, second


def _part(name: str) -> tuple[str, str] | None:
    """Case and channel, `0000`, of a file that is called as nnU-Net calls them; or None."""
    case, _, number = without_end(name).rpartition("_")
    known = len(number) == 4 and number.isdecimal() and int(number) < _MOST
    return (case, number) if case and known else None


def _decode(folder: Path, files: Sequence[str | None]) -> volumes.Slices:
    """Images (Z, H, W) of one channel, (Z, H, W, 3) of more."""
    first = next(name for name in files if name)
    found: list[Volume | None]
    if len(files) == 1 and (count := _in_one_file(folder / first)) > 1:
        found = [read_volume(folder / first, first, n) for n in range(min(count, _MOST))]
    else:
        found = [read_volume(folder / name, name) if name else None for name in files]
    shapes = {volume.shape for volume in found if volume is not None}
    if len(shapes) > 1:
        shown = " and ".join(map(str, sorted(shapes)))
        raise DataError(f"{first}: channels of shapes {shown}; expected the same")
    greys = [None if volume is None else _grey(volume) for volume in found]
    if len(greys) == 1 and greys[0] is not None:
        return axial(greys[0]), None
    nothing = np.zeros(shapes.pop(), np.uint8)
    greys += [None] * (_MOST - len(greys))
    return axial(np.stack([nothing if grey is None else grey for grey in greys], axis=-1)), None


def _in_one_file(path: Path) -> int:
    """How many volumes a file holds: the Decathlon keeps channels in one."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        return int(image.shape[3]) if len(image.shape) == 4 else 1
    except Exception:  # reading the voxels says what is wrong
        return 1


def _grey(volume: Volume) -> Any:
    """As at sites; a volume with values of air in HU counts as CT, as no table says so here."""
    return volumes.as_grey(volume, is_ct=float(volume.min()) <= volumes.AIR_HU)
