"""Pictures of a few edits: the truth, the region in the colours of what is asked, every variant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from polyclinic.inpaint.components import COLOURS
from polyclinic.inpaint.intensity import as_picture
from polyclinic.models.state import disk_error
from polyclinic.run.painter_evaluation.judges import region_box
from polyclinic.run.painter_evaluation.measure import REAL, sequence_label
from polyclinic.run.painter_evaluation.plan import PlannedEdit
from polyclinic.run.painter_evaluation.variants import PaintedEdit

FOLDER = "pictures"
SHOWN = {("infill", "exact"): 3, ("infill", "box"): 1, ("tumour", "exact"): 2, ("tumour", "box"): 2}
"""How many edits of each kind and shape are shown, in every sequence that they paint."""
SURROUNDINGS = 0.2
"""What is shown around a region on every side, as a share of the head's extent."""
REALISED = (255, 140, 0)
"""Colour of the contour that a model chose in a box."""


def shown(edits: Sequence[PlannedEdit]) -> set[int]:
    """Numbers of the edits that are shown: the first of each kind and shape."""
    left, numbers = dict(SHOWN), set()
    for edit in edits:
        key = edit.kind, edit.shape
        if left.get(key, 0):
            left[key] -= 1
            numbers.add(edit.number)
    return numbers


def write_pictures(
    edit: PlannedEdit, results: Mapping[str, PaintedEdit], out: Path
) -> list[dict[str, Any]]:
    """PNGs in `out`/pictures, and for each sequence what the report needs to show them; names are
    relative."""
    z = edit.middle
    rows, columns = region_box(edit.fill_mask[z])
    margin = round(SURROUNDINGS * edit.case.head_px)
    window = (
        slice(max(0, rows.start - margin), rows.stop + margin),
        slice(max(0, columns.start - margin), columns.stop + margin),
    )
    return [_sheet(edit, results, number, window, out) for number in edit.sequences]


def _sheet(
    edit: PlannedEdit,
    results: Mapping[str, PaintedEdit],
    sequence: int,
    window: tuple[slice, slice],
    out: Path,
) -> dict[str, Any]:
    z, label = edit.middle, sequence_label(sequence)
    real = as_picture(edit.volumes[sequence][z])
    asked = real.copy()
    for colour, component in COLOURS.items():
        asked[edit.fill_maps[z] == component] = colour
    tiles = [(REAL, real), ("asked for", asked)]
    for name, painted in results.items():
        if name != REAL:
            plane = as_picture(painted.volumes[sequence][z])
            tiles.append((name, _with_contour(plane, painted.realised[z], edit.regions[z].boxed)))
    named = []
    for number, (name, plane) in enumerate(tiles):
        relative = f"{FOLDER}/edit-{edit.number:05d}-{label}-{number}.png"
        path = out / relative
        try:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(plane[window]).save(path)
        except OSError as error:
            raise disk_error(error, path) from None
        named.append({"name": name, "image": relative})
    return {
        "edit": edit.number,
        "kind": edit.kind,
        "shape": edit.shape,
        "request": edit.request,
        "sequence": label,
        "tiles": named,
    }


def _with_contour(
    plane: NDArray[np.uint8], realised: NDArray[np.int8], boxed: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """The picture with the border of what a model chose to paint in boxes."""
    chosen = (realised > 0) & boxed
    drawn = plane.copy()
    drawn[ndimage.binary_dilation(chosen) & ~chosen & boxed] = REALISED
    return drawn
