"""Label maps as files: PNG for images, NIfTI for volumes, DICOM Segmentations for DICOM."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.data.dataset import Item
from polyclinic.data.dicom.header import reason_of
from polyclinic.data.nifti import axial_depth, from_axial
from polyclinic.data.writing import writing
from polyclinic.errors import DataError
from polyclinic.models.state import disk_error
from polyclinic.run.prediction_dicom import Drawer, write_segmentations
from polyclinic.run.prediction_items import Inputs, Whole
from polyclinic.run.prediction_rows import Decoded, Mask, Said, restored

FOLDER = "masks"
_Answered = list[tuple[Item, Decoded, Said]]


def write_masks(
    inputs: Inputs,
    group: Sequence[Item],
    decoded: Sequence[Decoded],
    said: Sequence[Said | None],
    out: Path,
    drawer: Drawer,
) -> dict[str, Mask]:
    """Write the masks of a group into the folder `out`; where that of each image is, by its key.

    PNG of the image's own size; a NIfTI volume in the geometry of the input, 0 where it has no
    answer; a DICOM Segmentation of a series. A mask that cannot be written in the geometry of its
    input is a reason, not an error: the other images do not wait for it. Raises `RunError` where
    the disk is full.
    """
    rows = zip(group, decoded, said, strict=True)
    answered = [(item, one, told) for item, one, told in rows if told is not None]
    masks: dict[str, Mask] = {}
    for whole, part in groupby(answered, lambda row: inputs.wholes.get(row[0].key)):
        own = list(part)
        try:
            if whole is None:
                masks |= {row[0].key: _write_png(row, out) for row in own}
            elif whole.reference is not None:
                masks |= _write_nifti(whole, whole.reference, own, out)
            else:
                masks |= _write_dicom(inputs, whole, own, out, drawer)
        except DataError as error:
            masks |= {row[0].key: Mask(problem=f"no mask: {error}") for row in own}
        except OSError as error:
            raise disk_error(error, out) from None
    return masks


def _write_png(row: tuple[Item, Decoded, Said], out: Path) -> Mask:
    item, one, told = row
    path = out / f"{item.key.replace(':', '_')}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as part:
        Image.fromarray(restored(told.score, one.size)).save(part, format="PNG")
    return _mask(path, out)


def _write_nifti(whole: Whole, reference: Path, rows: _Answered, out: Path) -> dict[str, Mask]:
    slices = {
        int(item.key.rpartition("#")[2]): restored(told.score, one.size) for item, one, told in rows
    }
    path = out / whole.mask
    write_volume(slices, reference, path)
    return dict.fromkeys((item.key for item, _, _ in rows), _mask(path, out))


def _write_dicom(
    inputs: Inputs, whole: Whole, rows: _Answered, out: Path, drawer: Drawer
) -> dict[str, Mask]:
    label_maps = ((item.key, restored(told.score, one.size)) for item, one, told in rows)
    written = write_segmentations(inputs.scan.folder, label_maps, out / whole.mask, drawer)
    return {key: _mask(path, out) for key, path in written.items()}


def _mask(path: Path, out: Path) -> Mask:
    return Mask(path.relative_to(out.parent).as_posix())


def write_volume(slices: Mapping[int, NDArray[Any]], reference: Path, out: Path) -> None:
    """Label maps (H, W) by axial slice as the NIfTI volume `out`, in the geometry of `reference`.

    Slices that were not asked for are 0. Raises `DataError` where the geometry cannot be read.
    """
    import gzip

    import nibabel

    try:
        stored: Any = nibabel.load(reference)
        affine = np.array(stored.affine, np.float64)
        depth = axial_depth(reference, reference.name)
        height, width = next((labels.shape for labels in slices.values()), (1, 1))
        volume = np.zeros((depth, height, width), np.uint8)
        for z, labels in slices.items():
            volume[z] = labels
        voxels = from_axial(volume, affine)
        if slices and voxels.shape != tuple(stored.shape[:3]):
            raise DataError(f"its voxels are {stored.shape[:3]}, those of the mask {voxels.shape}")
        image: Any = nibabel.Nifti1Image(voxels, affine)
        image.header.set_xyzt_units(*stored.header.get_xyzt_units())
        content = gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
    except Exception as error:  # nibabel, gzip and NumPy each have errors of their own
        raise DataError(
            f"{reference.name}: its geometry cannot be used ({reason_of(error)})"
        ) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out) as part:
        part.write_bytes(content)
