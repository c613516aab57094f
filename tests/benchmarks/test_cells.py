"""Finished cells: kept line by line, and refused where they were made otherwise."""

import pytest

from cells import Cells
from polyclinic.errors import RunError

KEY = {"cell": "few", "seed": 0}


def test_a_cell_is_there_after_it_was_added_and_in_the_file(tmp_path):
    path = tmp_path / "results" / "rows.jsonl"
    cells = Cells(path, {"settings": 1})
    assert not cells.has(KEY)
    cells.add(KEY, {"mean": 0.5})
    again = Cells(path, {"settings": 1})
    for found in (cells, again):
        assert found.has(KEY)
        assert not found.has({**KEY, "seed": 1})
        assert found.rows[0]["mean"] == 0.5
        assert found.rows[0]["commit"]


def test_a_line_that_was_cut_short_is_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    Cells(path, {}).add(KEY, {"mean": 0.5})
    with path.open("a") as file:
        file.write('{"cell": "wro')
    cells = Cells(path, {})
    cells.add({"cell": "wrong"}, {"mean": 0.4})
    assert [row["mean"] for row in Cells(path, {}).rows] == [0.5, 0.4]


def test_cells_of_other_settings_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    Cells(path, {"stages": 4}).add(KEY, {"mean": 0.5})
    with pytest.raises(RunError, match=r"rows\.jsonl: its cells are of other settings"):
        Cells(path, {"stages": 8})
