"""The ledgers of a run against what its server has: also what no chain can tell alone."""

import shutil
from pathlib import Path

import pytest

from polyclinic.errors import LedgerError
from polyclinic.run.ledgers import verify_ledgers


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a run's ledgers and records, to tamper with."""
    shutil.copytree(finished_run / "ledgers", tmp_path / "run" / "ledgers")
    shutil.copy(finished_run / "metrics.jsonl", tmp_path / "run")
    return tmp_path / "run"


def problems(run: Path) -> list[str]:
    return [text for found in verify_ledgers(run) for text in found.problems]


def test_a_run_keeps_a_ledger_of_each_site_that_sent_something(run: Path):
    found = verify_ledgers(run)
    assert [(v.site, v.lines, v.problems) for v in found] == [("north", 2, ()), ("west", 2, ())]


def test_a_ledger_and_a_folder_of_ledgers_can_be_named_too(run: Path):
    assert [v.site for v in verify_ledgers(run / "ledgers")] == ["north", "west"]
    assert [v.site for v in verify_ledgers(run / "ledgers" / "west.jsonl")] == ["west"]


def test_an_end_that_was_cut_off_is_found_by_what_the_server_has(run: Path):
    path = run / "ledgers" / "north.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert verify_ledgers(path)[0].problems == ()  # the chain alone cannot tell
    (problem,) = problems(run)
    assert problem == (
        "the server has a message that is not there (universal, seed 0, stage 2): lines were "
        "removed, perhaps at the end"
    )


def test_a_ledger_that_is_gone_is_missed(run: Path):
    (run / "ledgers" / "west.jsonl").unlink()
    assert problems(run) == [
        "there is no ledger, but the server has 2 messages of this site",
    ]


def test_an_edited_line_is_found_in_the_run(run: Path):
    path = run / "ledgers" / "west.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"stage":1', b'"stage":7', 1))
    assert problems(run) == ["line 1 was edited: its content does not fit its digest"]


def test_records_of_earlier_versions_and_torn_ones_are_no_problem(run: Path):
    metrics = run / "metrics.jsonl"
    metrics.write_text(
        '{"kind": "stage", "method": "fedavg", "seed": 0, "stage": 1, "sites": {"north": {}}}\n'
        '{"kind": "sta'
    )
    assert problems(run) == []
    metrics.unlink()
    assert problems(run) == []


def test_where_there_is_no_ledger(run: Path, tmp_path: Path):
    with pytest.raises(LedgerError, match=r"nowhere: no ledger there; expected one"):
        verify_ledgers(tmp_path / "nowhere")
    shutil.rmtree(run / "ledgers")
    with pytest.raises(LedgerError, match=r"run: no ledger there"):
        verify_ledgers(run)


def test_a_key_is_for_one_ledger(run: Path, tmp_path: Path):
    with pytest.raises(LedgerError, match=r"2 ledgers, and one key; .* give the path"):
        verify_ledgers(run, tmp_path / "key.pub")
