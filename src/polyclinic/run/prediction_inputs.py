"""Finds what is to be predicted: every image of a file or a folder, labelled or not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyclinic.data.dataset import Image, Item, Scan, Task
from polyclinic.data.files import is_image, walk
from polyclinic.data.images import read_image
from polyclinic.data.nifti import is_volume
from polyclinic.data.readers import READERS, bids, image_masks, manifest, msd, npz, scan_site
from polyclinic.data.readers.archive import image_count, members
from polyclinic.data.readers.dicom_files import DicomFiles, find_dicom
from polyclinic.errors import DataError
from polyclinic.run.prediction_items import ALONE, Inputs, Whole, left_out_line
from polyclinic.run.prediction_volumes import LAYOUTS, find_volumes

_ONLY_LABELS = ("class-folders", "manifest")
"""Formats that add labels to images, and nothing that their pixels need."""
_TABLES = (manifest.TABLE, bids.TABLE, msd.TABLE, image_masks.CLASS_NAMES)
_NO_IMAGE = {
    "segmentation": "a DICOM Segmentation, not an image",
    "directory": "a DICOM directory, not an image",
}

Load = Callable[[Item], tuple[Image, Any]]


def find_inputs(path: Path, *, task: Task = "single-label", layout: str = "") -> Inputs:
    """The images in a file or a folder, for a model of `task`.

    A folder that is a site in one of the known formats is read as that, apart from its labels; any
    other is searched for images, DICOM, NIfTI and npz at any depth. `layout` is the format that
    the model was fitted to: it says how unlabelled volumes have their channels. Files that are no
    input are in `left_out`. Raises `DataError` where there is nothing else, or one file alone that
    cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected images to predict on")
    if path.is_file():
        inputs = _listed(path.parent, (path.name,), task, layout, {}, ALONE)
        if not inputs.items:
            read_image(path, path.name)  # says what the file is not
            why = inputs.left_out.get(path.name, "not an image")
            raise DataError(f"{path}: {why}; expected a file of images")
        inputs.scan.load(inputs.items[0])  # an error here, not a row
        return inputs
    names, refused = walk(path)
    not_read = {finding.where: finding.what for finding in refused}
    patients: Mapping[str, str] = {}
    known = next((name for name in (*LAYOUTS, "dicom-seg") if _recognised(path, name)), "")
    if not known:
        try:
            found = scan_site(path)
        except DataError:  # no site, but perhaps images
            found = None
        if found is not None:
            patients = {i.key: i.patient for i in found.items} if found.has_patient_ids else {}
            as_slices = found.format == "bids" and task == "segmentation"
            if found.format not in _ONLY_LABELS and not as_slices:
                left_out = not_read | _unused(found, names)
                return Inputs(found, patients, left_out=_sorted(left_out))
    layout = known if known in LAYOUTS else layout
    inputs = _listed(path, names, task, layout, patients)
    inputs = replace(inputs, left_out=_sorted({**not_read, **inputs.left_out}))
    if not inputs.items:
        lost = f" ({left_out_line(inputs.left_out)})" if inputs.left_out else ""
        raise DataError(
            f"{path}: no image in it; expected png, jpg, tif, bmp, webp, DICOM, NIfTI or npz{lost}"
        )
    return inputs


def _recognised(folder: Path, name: str) -> bool:
    return READERS[name].recognise(folder) == 1


def _unused(site: Scan, names: Sequence[str]) -> dict[str, str]:
    """The files of a site that hold none of its images, nor labels, with what is said of them."""
    used = {part for i in site.items for part in (i.key, *(i.key.rpartition(m)[0] for m in "#:"))}
    masks = image_masks.MASK_FOLDERS if site.format == "image-masks" else ()
    why = f"no image of the site, which was read as {site.format}"
    return {
        name: why
        for name in names
        if name not in used and name not in _TABLES and name.partition("/")[0] not in masks
    }


def _sorted(left_out: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(left_out.items()))


def _listed(
    folder: Path,
    names: Sequence[str],
    task: Task,
    layout: str,
    patients: Mapping[str, str],
    format: str = "files",
) -> Inputs:
    """All images among the files `names` in `folder`, in their order, as `Inputs`.

    Files of a series are next to each other where label maps are asked for, at the first of them.
    """
    loaders: dict[str, Load] = {}
    units: list[tuple[str, Sequence[Item]]] = [
        (name, [Item(name, name)]) for name in names if is_image(name)
    ]
    for name in names:
        if name.lower().endswith(".npz"):
            keys, loaders[name] = _archive(folder, name)
            units.append((name, [Item(key, key) for key in keys]))
    others = [n for n in names if not (is_image(n) or n in loaders or is_volume(n))]
    dicom = find_dicom(folder, others)
    series, wholes = _series(dicom, task)
    for files in series:
        units.append((files[0], [Item(key, name) for name in files for key in dicom.keys(name)]))
    volumes = find_volumes(folder, [n for n in names if is_volume(n)], task, layout)
    units += volumes.items.items()
    named = [(name, header.patient) for name, header in dicom.images.items() if header]
    of_dicom = {key: who for name, who in named if who for key in dicom.keys(name)}
    slices = {item.key for items in volumes.items.values() for item in items}

    def load(item: Item) -> tuple[Image, Any]:
        if item.key in slices and volumes.load is not None:
            return volumes.load(item)
        archive = item.key if item.key in loaders else item.key.rpartition(":")[0]
        if archive in loaders:
            return loaders[archive](item)
        return read_image(folder / item.key, item.key), None

    units.sort(key=lambda unit: unit[0])
    items = tuple(item for _, own in units for item in own)
    whose = {**volumes.patients, **of_dicom, **patients}
    scan = Scan(folder, format, "single-label", (), items, load)
    taken = {*dicom.images, *_TABLES}
    left_out = {name: "not an image" for name in others if name not in taken}
    for header in dicom.others:
        what = f"DICOM without an image ({header.modality or 'no modality'})"
        left_out[header.name] = _NO_IMAGE.get(header.kind, what)
    left_out |= {name: "holds no image" for name, own in units if not own}
    left_out |= volumes.left_out
    return Inputs(scan, whose, {**volumes.wholes, **wholes}, left_out)


def _archive(folder: Path, name: str) -> tuple[list[str], Load]:
    """Keys of its images; one that cannot be read is one image, which fails when it is loaded."""
    path = folder / name
    try:
        arrays = members(path)
        array = "train_images" if "train_images" in arrays else "images"
        count = image_count(path, array, arrays)
    except DataError as error:
        reason = str(error)

        def load(item: Item) -> tuple[Image, Any]:
            raise DataError(f"{item.key}: {reason}")

        return [name], load
    return [f"{name}:{array}#{index}" for index in range(count)], npz.loader(path)


def _series(dicom: DicomFiles, task: Task) -> tuple[list[list[str]], dict[str, Whole]]:
    """DICOM files that belong together, and what the masks of their frames are called.

    Without label maps each file is on its own, and so is one that cannot be referred to.
    """
    together: dict[tuple[str, ...], list[str]] = {}
    for name, header in dicom.images.items():
        place: tuple[str, ...] = (name,)
        if header is not None and task == "segmentation":
            uids = (header.study, header.series, header.instance)
            place = ("", header.study, header.series) if all(uids) else place
        together.setdefault(place, []).append(name)
    wholes: dict[str, Whole] = {}
    taken: set[str] = set()
    for place, files in together.items():
        if len(place) == 1:
            continue
        above = files[0].rpartition("/")[0]
        mask = f"{above}/{place[-1]}" if above else place[-1]
        if len(files) == 1:
            mask = files[0].removesuffix(".dcm")
        mask = f"{files[0]}.mask" if mask in taken else mask  # a.dcm beside a
        taken.add(mask)
        keys = (key for name in files for key in dicom.keys(name))
        wholes |= dict.fromkeys(keys, Whole(f"{mask}.dcm"))
    return list(together.values()), wholes
