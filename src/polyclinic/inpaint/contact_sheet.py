"""Pictures of what was painted: before, what was asked for, after, with a caption."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyclinic.errors import DataError
from polyclinic.inpaint.augment import PlannedEdit, maps_of
from polyclinic.inpaint.captions import LINE, write
from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.components import COLOURS, KEEP
from polyclinic.inpaint.files.source import sequence_name
from polyclinic.inpaint.intensity import as_picture

SHOWN = 24
"""Edits in a contact sheet."""
TILE = 192
"""Side of its pictures, px."""


def contact_sheet(
    cases: Sequence[Case], planned: Sequence[PlannedEdit], painted: Sequence[Case]
) -> Image.Image:
    """A picture with a row an edit, at most `SHOWN`: before, what is asked for, after.

    The slice with most to paint is shown, in each of the case's sequences. Raises `DataError`
    where there is no edit.
    """
    by_key = {case.key: case for case in cases}
    rows = [
        _row(by_key[edit.target], edit, after)
        for edit, after in list(zip(planned, painted, strict=True))[:SHOWN]
    ]
    if not rows:
        raise DataError("no edit to show; expected one at least")
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return Image.fromarray(np.concatenate(padded))


def _row(before: Case, edit: PlannedEdit, after: Case) -> NDArray[np.uint8]:
    fill_map, _ = maps_of(edit, before.components)
    z = int((fill_map != KEEP).sum(axis=(1, 2)).argmax())
    tiles = []
    for number, volume in before.volumes.items():
        image = as_picture(volume[z])
        asked = image.copy()
        for colour, component in COLOURS.items():
            asked[fill_map[z] == component] = colour
        name = sequence_name(number)
        tiles.append(_tile(image, f"{name}, before"))
        tiles.append(_tile(asked, "asked for"))
        tiles.append(_tile(as_picture(after.volumes[number][z]), "after"))
    row = np.concatenate(tiles, axis=1)
    slice_number = before.rows[z] if before.rows else z
    title = Image.new("RGB", (row.shape[1], LINE))
    write(title, f"{edit.key}, slice {slice_number}")
    return np.concatenate([np.asarray(title), row])


def _tile(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """A picture brought to `TILE` px, its proportions kept, on black, below its caption."""
    image = Image.fromarray(picture)
    factor = min(TILE / image.width, TILE / image.height)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    tile = Image.new("RGB", (TILE, LINE + TILE))
    tile.paste(image.resize(size, Image.Resampling.BILINEAR), (0, LINE))
    write(tile, caption)
    return np.asarray(tile)
