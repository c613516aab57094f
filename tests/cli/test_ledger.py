"""`polyclinic ledger verify`: what it prints, and its exit code."""

import json

import pytest
import torch

from polyclinic.cli.entry import main
from polyclinic.federation.knowledge import encode
from polyclinic.federation.ledger import Label, Ledger, leave


@pytest.fixture
def ledger(tmp_path):
    book = Ledger(tmp_path / "north.jsonl", "north")
    for stage in (1, 2, 3):
        leave(encode({"w": torch.full((2,), float(stage))}), book, Label("fedavg", 0, stage))
    return book.path


def test_a_whole_ledger(ledger, capsys):
    assert main(["ledger", "verify", str(ledger)]) == 0
    output = capsys.readouterr()
    header, row = output.out.splitlines()
    assert header.split() == ["site", "messages", "bytes", "signed", "problems", "last", "line"]
    assert row.split()[:2] == ["north", "3"]
    assert row.split()[3:5] == ["no", "0"]
    assert output.err == ""


def test_a_ledger_that_was_tampered_with(ledger, capsys):
    ledger.write_bytes(ledger.read_bytes().replace(b'"stage":2', b'"stage":9'))
    assert main(["ledger", "verify", str(ledger)]) == 8
    output = capsys.readouterr()
    assert f"{ledger}: line 2 was edited: its content does not fit its digest" in output.out
    assert output.err == (
        f"polyclinic: error: {ledger}: 1 of 1 ledgers do not verify; what is wrong stands above, "
        "line by line\n"
    )


def test_json(ledger, capsys):
    assert main(["ledger", "verify", str(ledger.parent), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    event = json.loads(line)
    assert event.pop("last")
    assert event.pop("bytes") > 0
    assert event == {
        "event": "ledger",
        "ledger": str(ledger),
        "site": "north",
        "lines": 3,
        "signed": 0,
        "signatures_checked": False,
        "problems": [],
    }


def test_signed(tmp_path, capsys):
    pytest.importorskip("cryptography")
    from polyclinic.federation.signing import create_key

    public = create_key(tmp_path / "key")
    book = Ledger(tmp_path / "north.jsonl", "north", tmp_path / "key")
    leave(encode({"w": torch.zeros(2)}), book, Label("fedavg", 0, 1))
    assert main(["ledger", "verify", str(book.path), "--key", str(public)]) == 0
    assert "1, checked" in capsys.readouterr().out
    assert main(["ledger", "verify", str(book.path)]) == 0
    assert "1, not checked" in capsys.readouterr().out
    other = create_key(tmp_path / "other")
    assert main(["ledger", "verify", str(book.path), "--key", str(other)]) == 8


def test_nothing_there(tmp_path, capsys):
    assert main(["ledger", "verify", str(tmp_path)]) == 8
    assert "no ledger there; expected one (SITE.jsonl)" in capsys.readouterr().err
