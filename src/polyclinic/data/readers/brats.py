"""`brats`: a folder per patient with NIfTI volumes per sequence and a segmentation.

Names and labels follow the BraTS challenges: until 2020 `_t1 _t1ce _t2 _flair _seg` with
enhancing tumour 4, from 2023 `-t1n -t1c -t2w -t2f -seg` with enhancing tumour 3.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Finding, Item, Scan
from polyclinic.data.files import cap_findings, is_hidden, list_files
from polyclinic.data.images import HIGH_PERCENTILE, LOW_PERCENTILE, scale
from polyclinic.data.nifti import Volume, axial, read_volume, room, values_of
from polyclinic.data.patients import patients_of
from polyclinic.data.readers.reader import Reader, TaskChoice, require_task
from polyclinic.data.readers.volumes import loader
from polyclinic.errors import DataError

CLASSES = ("background", "core", "oedema", "enhancing")
CHANNELS = (("t2f", "t2w"), ("t1c",), ("t1n",))
"""Sequences of the three channels; the second choice serves where the first is missing."""
MIN_NONZERO = 0.01
"""Slices with a smaller share of pixels other than 0 are left out."""

_OLD_NAMES = {"t1": "t1n", "t1ce": "t1c", "t1gd": "t1c", "t2": "t2w", "flair": "t2f"}
_SUFFIX = re.compile(r"[-_](t1n|t1ce|t1c|t1gd|t1|t2w|t2f|t2|flair|seg)\.nii(\.gz)?$", re.IGNORECASE)


def recognise(folder: Path) -> float:
    """Sure where the files of a sub-folder end in `seg.nii` or `seg.nii.gz`."""
    for case in folder.iterdir():
        if not is_hidden(case.name) and case.is_dir() and not case.is_symlink():
            try:
                found = any(kind_of(path.name) == "seg" for path in case.iterdir())
            except OSError:
                continue
            if found:
                return 1.0
    return 0.0


def scan(folder: Path, task: TaskChoice) -> Scan:
    """List the axial slices of every case as `CASE#Z`, Z from the feet up, see `patients_of`.

    A case that cannot be read, has no segmentation, or no slice worth using stays in the list as
    one item, so that it counts as unreadable. Images are uint8 (H, W, 3): `CHANNELS`, zero where a
    sequence is missing; each volume is scaled by the percentiles 0.5 and 99.5 of its nonzero
    voxels. Rows run from anterior to posterior, columns from the patient's right to left.
    """
    require_task("brats", task, "segmentation")
    files, refused = list_files(folder)
    cases: dict[str, dict[str, str]] = {}
    findings: list[Finding] = list(refused)
    for name in files:
        kind = kind_of(name)
        case = name.rpartition("/")[0]
        if kind and case:
            if kind in cases.setdefault(case, {}):
                findings.append(Finding("warning", name, f"a second {kind} of its case; left out"))
            cases[case].setdefault(kind, name)
    if not cases:
        raise DataError(f"{folder}: no sub-folder with files like CASE-t1n.nii.gz, CASE-seg.nii.gz")
    with ThreadPoolExecutor() as pool:
        slices = list(pool.map(lambda case: _slices(folder, case, cases[case]), cases))
    items: list[Item] = []
    notes: list[Finding] = []
    patients = patients_of(cases)
    for case, found in zip(cases, slices, strict=True):
        keys = [case] if isinstance(found, str) else [f"{case}#{z}" for z in found]
        items += [Item(key, patient=patients[case]) for key in keys]
        if isinstance(found, str):
            notes.append(Finding("warning", case, found))
        lost = [c[0] for c in CHANNELS if not any(kind in cases[case] for kind in c)]
        if lost:
            what = f"has no {', no '.join(lost)}; these channels are zero"
            notes.append(Finding("info", case, what))
    findings += cap_findings(notes)
    unusable = {
        case: found for case, found in zip(cases, slices, strict=True) if isinstance(found, str)
    }
    load = loader(lambda case: _decode(folder, case, cases[case]), unusable)
    return Scan(folder, "brats", "segmentation", CLASSES, tuple(items), load, True, tuple(findings))


def kind_of(name: str) -> str | None:
    """`t1n`, `t1c`, `t2w`, `t2f` or `seg`, from the end of a file's name; None for others."""
    match = _SUFFIX.search(name)
    if match is None:
        return None
    kind = match.group(1).lower()
    return _OLD_NAMES.get(kind, kind)


def _slices(folder: Path, case: str, files: dict[str, str]) -> list[int] | str:
    """The slices worth using, or why the case cannot be used."""
    try:
        first = next(name for kinds in CHANNELS for name in map(files.get, kinds) if name)
        if "seg" not in files:
            return "has no segmentation (seg.nii or seg.nii.gz)"
        with room(folder / first):
            volume = read_volume(folder / first, first)
            share = np.count_nonzero(volume, axis=(0, 1)) / (volume.shape[0] * volume.shape[1])
            del volume
    except StopIteration:
        return "has no t2f, t2w, t1c or t1n"
    except DataError as error:
        return str(error).removeprefix(f"{case}/")
    found = [int(z) for z in np.flatnonzero(share >= MIN_NONZERO)]
    where = first.removeprefix(f"{case}/")
    return found or f"{where} has no slice with {100 * MIN_NONZERO:g} % of its pixels nonzero"


def _decode(
    folder: Path, case: str, files: dict[str, str]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All slices of a case: images (Z, H, W, 3) and labels (Z, H, W)."""
    labels = _labels(read_volume(folder / files["seg"], files["seg"]), files["seg"])
    images = np.zeros((*labels.shape, len(CHANNELS)), np.uint8)
    for channel, kinds in enumerate(CHANNELS):
        name = next((files[kind] for kind in kinds if kind in files), None)
        if name is None:
            continue
        volume = read_volume(folder / name, name)
        if volume.shape != labels.shape:
            raise DataError(
                f"{case}: {name} has shape {volume.shape}, {files['seg']} {labels.shape}; "
                "expected the same"
            )
        nonzero = volume[volume != 0]
        if nonzero.size:
            ends = (LOW_PERCENTILE, HIGH_PERCENTILE)
            low, high = np.percentile(nonzero, ends, overwrite_input=True)
            low = min(low, 0.0) if low == high else low
            images[..., channel] = scale(volume, low, high)
            images[..., channel][volume == 0] = 0
    return axial(images), axial(labels)


def _labels(volume: Volume, name: str) -> NDArray[np.uint8]:
    values = {float(value) for value in values_of(volume)}
    if not values <= {0, 1, 2, 3, 4} or values >= {3, 4}:
        shown = ", ".join(f"{value:g}" for value in sorted(values)[:8])
        raise DataError(f"{name}: labels {shown}; expected 0, 1, 2 and either 3 or 4 (enhancing)")
    labels = volume.astype(np.uint8)
    labels[labels == 4] = 3
    return labels


READER = Reader("brats", "CASE/CASE-{t1n,t1c,t2w,t2f,seg}.nii.gz, or BraTS 2020", recognise, scan)
