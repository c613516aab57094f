"""Label maps as files: PNG for images, NIfTI in the geometry of the input for volumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.data.dataset import Item
from polyclinic.errors import DataError
from polyclinic.run.prediction_inputs import Inputs
from polyclinic.run.prediction_rows import Decoded, Said, mask_name, restored


def write_masks(
    inputs: Inputs,
    group: Sequence[Item],
    decoded: Sequence[Decoded],
    said: Sequence[Said | None],
    masks: Path,
) -> None:
    """PNGs of the files' own size, or one NIfTI volume in the geometry of the input."""
    slices: dict[int, NDArray[np.uint8]] = {}
    volume = inputs.volume_of(group[0])
    for item, one, told in zip(group, decoded, said, strict=True):
        if told is None:
            continue
        labels = restored(told.score, one.size)
        if volume:
            slices[int(item.key.rpartition("#")[2])] = labels
            continue
        path = masks.parent / mask_name(inputs, item)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        Image.fromarray(labels).save(part, format="PNG")
        part.replace(path)
    if volume and slices:
        write_volume(slices, inputs.references[volume], masks.parent / mask_name(inputs, group[0]))


def write_volume(slices: Mapping[int, NDArray[Any]], reference: Path, out: Path) -> None:
    """Label maps (H, W) by axial slice as the NIfTI volume `out`, in the geometry of `reference`.

    Slices that were not asked for are 0. Raises `DataError` where the geometry cannot be read.
    """
    import gzip

    import nibabel

    from polyclinic.inpaint.files.source import Grid

    try:
        stored: Any = nibabel.load(reference)
        grid = Grid(tuple(stored.shape[:3]), np.array(stored.affine, np.float64))
        volume = grid.to_axial(np.zeros(grid.shape, np.uint8)).copy()
        for z, labels in slices.items():
            volume[z] = labels
        image: Any = nibabel.Nifti1Image(grid.from_axial(volume), grid.affine)
        content = gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
    except Exception as error:  # nibabel, gzip and NumPy each have errors of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{reference}: its geometry cannot be used ({reason})") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    part.write_bytes(content)
    part.replace(out)
