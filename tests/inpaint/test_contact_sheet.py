"""Pictures of painted cases: every edit has its row, and says what it is."""

import dataclasses

import numpy as np
import pytest

from polyclinic.errors import DataError
from polyclinic.inpaint.augment import apply_edit, plan_edits
from polyclinic.inpaint.captions import LINE
from polyclinic.inpaint.components import COLOURS, TUMOUR_FREE
from polyclinic.inpaint.contact_sheet import SHOWN, TILE, contact_sheet
from polyclinic.inpaint.painting import Settings

pytestmark = pytest.mark.usefixtures("exact")

ROW = TILE + 2 * LINE
CYAN = next(colour for colour, component in COLOURS.items() if component == TUMOUR_FREE)


@pytest.fixture
def planned(cases):
    return plan_edits(cases, 2, "none", (), 0, removes=True)


@pytest.fixture
def painted(painter, cases, planned):
    return [apply_edit(painter, cases, edit, Settings(steps=1)) for edit in planned]


def test_a_row_an_edit_and_a_tile_a_picture(cases, planned, painted):
    sheet = contact_sheet(cases, planned, painted)
    assert sheet.size == (2 * 3 * TILE, 2 * ROW)
    many = contact_sheet(cases, planned * SHOWN, painted * SHOWN)
    assert many.height == SHOWN * ROW
    with pytest.raises(DataError, match=r"no edit to show"):
        contact_sheet(cases, [], [])


def test_what_is_removed_is_shown_as_asked_for(cases, planned, painted):
    sheet = np.asarray(contact_sheet(cases, planned[:1], painted[:1]))[2 * LINE :]
    before, asked, after = (sheet[:, n * TILE : (n + 1) * TILE] for n in range(3))
    assert (asked == CYAN).all(axis=-1).sum() > 100
    for picture in (before, after):
        assert (picture == picture[..., :1]).all()  # grey


def test_captions_name_case_slice_and_sequence(cases, planned, painted):
    def captions(edit, after):
        sheet = np.asarray(contact_sheet(cases, [edit], [after]))
        return (
            sheet[:LINE],
            sheet[LINE : 2 * LINE, :TILE],
            sheet[LINE : 2 * LINE, 3 * TILE :][:, :TILE],
        )

    title, first, second = captions(planned[0], painted[0])
    assert all(line.max() > 100 for line in (title, first, second))
    assert not np.array_equal(first, second)  # another sequence
    other = dataclasses.replace(planned[0], key="somebody else")
    assert not np.array_equal(captions(other, painted[0])[0], title)
