"""A folder that no reader understands, as far as it can be looked at: images, DICOM, volumes."""

from pathlib import Path

from polyclinic.data.dataset import Finding, Image, Item, Scan
from polyclinic.data.files import is_image, list_files
from polyclinic.data.images import read_image
from polyclinic.data.nifti import axial, axial_depth, is_volume, read_volume
from polyclinic.data.readers import volumes
from polyclinic.data.readers.dicom_files import find_dicom
from polyclinic.errors import DataError

UNRECOGNISED = "unrecognised"
"""The format of such a folder."""


def loose_scan(folder: Path, reason: str) -> Scan:
    """All that may be an image in `folder`, at any depth, without labels.

    Of DICOM every frame, of a NIfTI volume every fifth axial slice; those of one file count as of
    one patient. `reason` says why the folder cannot be used as a site.
    """
    names, refused = list_files(folder)
    of_volumes = [name for name in names if is_volume(name)]
    dicom = find_dicom(folder, [name for name in names if not is_volume(name)])
    keys = {name: [name] for name in names if is_image(name)}
    keys |= {name: list(dicom.keys(name)) for name in dicom.images}
    unusable: dict[str, str] = {}
    for name in of_volumes:
        try:
            depth = axial_depth(folder / name, name)
        except DataError as error:
            unusable[name] = str(error).removeprefix(f"{name}: ")
            keys[name] = [name]
        else:
            first = min(volumes.EVERY // 2, depth - 1)
            keys[name] = [f"{name}#{z}" for z in range(first, depth, volumes.EVERY)]
    slices = {key for name in of_volumes for key in keys[name]}

    def decode(name: str) -> volumes.Slices:
        return axial(volumes.as_grey(read_volume(folder / name, name), is_ct=False)), None

    load_slice = volumes.loader(decode, unusable)

    def load(item: Item) -> tuple[Image, None]:
        if item.key in slices:
            return load_slice(item)[0], None
        return read_image(folder / item.key, item.key), None

    items = tuple(Item(key, name) for name in sorted(keys) for key in keys[name])
    what = f"cannot be used as a site: {reason}"
    findings = (
        Finding("error", "", what, "see docs/data.md for the formats"),
        *refused,
        *dicom.findings,
    )
    return Scan(folder, UNRECOGNISED, "single-label", (), items, load, findings=findings)
