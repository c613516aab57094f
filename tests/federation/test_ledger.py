"""The ledger: a line for each message before it leaves, and every later change is found."""

import errno
import json
import multiprocessing
import os

import pytest
import torch

from polyclinic.errors import LedgerError
from polyclinic.federation import ledger as ledgers
from polyclinic.federation.knowledge import encode
from polyclinic.federation.ledger import FIRST, Label, Ledger, digest, leave, own_digest
from polyclinic.federation.verification import verify

MESSAGE = encode({"stem.weight": torch.zeros(2, 3)})


def messages(book, number, first=1):
    for stage in range(first, first + number):
        sent = encode({"stem.weight": torch.full((2, 3), float(stage))})
        assert leave(sent, book, Label("fedavg", 0, stage)) == sent


@pytest.fixture
def book(tmp_path):
    """A ledger of five messages."""
    made = Ledger(tmp_path / "ledgers" / "eye.jsonl", "eye")
    messages(made, 5)
    return made


def lines(book):
    return book.path.read_bytes().splitlines(keepends=True)


def rewrite(book, change):
    """Write the ledger anew after `change`, a function of its lines."""
    book.path.write_bytes(b"".join(change(lines(book))))


def edited(text, **changes):
    """The line `text` with other values, and with a digest of its own that fits them."""
    entry = {**json.loads(text), **changes}
    entry["own"] = own_digest(entry)
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def test_a_line_says_what_left(tmp_path):
    book = Ledger(tmp_path / "eye.jsonl", "eye")
    leave(MESSAGE, book, Label("universal", 3, 2))
    (entry,) = map(json.loads, lines(book))
    assert entry.pop("time").endswith("Z")
    assert entry.pop("own")
    assert entry == {
        "line": 1,
        "site": "eye",
        "receiver": "server",
        "kind": "update",
        "method": "universal",
        "seed": 3,
        "stage": 2,
        "tensors": {"stem.weight": ["F32", [2, 3]]},
        "bytes": len(MESSAGE),
        "digest": digest(MESSAGE),
        "previous": FIRST,
    }


def test_an_untouched_ledger_verifies(book):
    found = verify(book.path)
    assert found.problems == ()
    assert (found.site, found.lines, found.signed, found.checked) == ("eye", 5, 0, False)
    assert found.bytes == sum(json.loads(line)["bytes"] for line in lines(book))
    assert len(found.sent) == 5
    assert found.last == json.loads(lines(book)[-1])["own"]


def test_a_later_run_continues_the_chain(book):
    messages(Ledger(book.path, "eye"), 2, first=6)
    found = verify(book.path)
    assert (found.lines, found.problems) == (7, ())


def swap(a, b):
    def change(found):
        found[a], found[b] = found[b], found[a]
        return found

    return change


def replaced(index, function):
    def change(found):
        found[index] = function(found[index])
        return found

    return change


TAMPERED = {
    "an edited number": (
        replaced(2, lambda line: line.replace(b'"stage":3', b'"stage":4')),
        ["line 3 was edited: its content does not fit its digest"],
    ),
    "an edited receiver in the last line": (
        replaced(4, lambda line: line.replace(b'"server"', b'"nobody"')),
        ["line 5 was edited: its content does not fit its digest"],
    ),
    "another digest of a message, and a digest that fits": (
        replaced(2, lambda line: edited(line, digest="0" * 64)),
        ["line 3 was rewritten, or lines after it removed: line 4 continues another"],
    ),
    "a line removed": (
        lambda found: found[:2] + found[3:],
        ["line 3 is number 4: 1 before it removed"],
    ),
    "lines removed": (
        lambda found: found[:1] + found[4:],
        ["line 2 is number 5: 3 before it removed"],
    ),
    "the first line removed": (
        lambda found: found[1:],
        ["line 1 is number 2: 1 before it removed"],
    ),
    "a line removed, and the rest numbered anew": (
        lambda found: [*found[:3], edited(found[4], line=4)],
        ["line 3 was rewritten, or lines after it removed: line 4 continues another"],
    ),
    "the first line removed, and the rest numbered anew": (
        lambda found: [edited(found[1], line=1)],
        ["line 1 does not begin a ledger: lines before it were removed"],
    ),
    "two lines swapped": (
        swap(1, 2),
        [
            "line 2 is number 3: 1 before it removed",
            "line 3 is number 2: moved here, or twice in the file",
            "line 4 is number 4: 1 before it removed",
        ],
    ),
    "a line twice": (
        lambda found: found[:2] + found[1:],
        ["line 3 is number 2: moved here, or twice in the file"],
    ),
    "a line cut in the middle": (
        replaced(2, lambda line: line[:40] + b"\n"),
        ["line 3 is no line of a ledger: it was edited or cut"],
    ),
    "a cut that takes the line's end": (
        replaced(2, lambda line: line[:40]),
        ["line 3 is no line of a ledger", "line 4 is number 5: 1 before it removed"],
    ),
    "blanks": (
        replaced(2, lambda line: line.replace(b",", b", ", 1)),
        ["line 3 is no line of a ledger"],
    ),
    "a field more": (
        replaced(2, lambda line: line.replace(b"}\n", b',"note":"Jane Doe"}\n')),
        ["line 3 is no line of a ledger"],
    ),
    "a number as text": (
        replaced(2, lambda line: edited(line, bytes="many")),
        ["line 3 is no line of a ledger"],
    ),
    "an empty line": (lambda found: [*found[:2], b"\n", *found[2:]], ["line 3 is no line of"]),
    "a line of another site": (
        replaced(4, lambda line: edited(line, site="ear")),
        ["line 5 is of site 'ear', not 'eye'"],
    ),
    "the end cut within a line": (
        replaced(4, lambda line: line[:-1]),
        ["line 5 is cut off: by a crash while it was written"],
    ),
}


@pytest.mark.parametrize(("change", "expected"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_is_found_and_named(book, change, expected):
    rewrite(book, change)
    problems = verify(book.path).problems
    assert len(problems) == len(expected)
    assert [text[: len(start)] for text, start in zip(problems, expected, strict=True)] == expected


def test_every_flipped_bit_is_found(book):
    whole = book.path.read_bytes()
    for byte in range(0, len(whole), 23):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << byte % 8
        book.path.write_bytes(flipped)
        assert verify(book.path).problems, byte


def test_a_torn_line_gives_way_to_the_next(book):
    rewrite(book, replaced(4, lambda line: line[:60]))
    messages(book, 1, first=5)
    found = verify(book.path)
    assert (found.lines, found.problems) == (5, ())


def test_a_first_line_that_was_torn(tmp_path):
    book = Ledger(tmp_path / "eye.jsonl", "eye")
    book.path.write_bytes(b'{"line":1,"ti')
    messages(book, 2)
    assert (verify(book.path).lines, verify(book.path).problems) == (2, ())


def test_lines_longer_than_a_block_are_continued(tmp_path):
    book = Ledger(tmp_path / "eye.jsonl", "eye")
    wide = encode({f"blocks.{i}.conv.weight": torch.zeros(1) for i in range(2000)})
    for stage in (1, 2, 3):
        leave(wide, book, Label("fedavg", 0, stage))
    assert len(lines(book)[0]) > 1 << 16
    assert (verify(book.path).lines, verify(book.path).problems) == (3, ())


@pytest.mark.parametrize(
    "change", [lambda _: [b"not a line\n"], replaced(4, lambda line: edited(line, site="ear"))]
)
def test_a_ledger_that_is_not_its_own_is_not_continued(book, change):
    rewrite(book, change)
    before = book.path.read_bytes()
    with pytest.raises(LedgerError, match=r"last line is not one that site 'eye' wrote; nothing"):
        leave(MESSAGE, book, Label("fedavg", 0, 6))
    assert book.path.read_bytes() == before


def test_nothing_leaves_before_it_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    book = Ledger(tmp_path / "eye.jsonl", "eye")
    fsync = os.fsync

    def slow(descriptor):
        order.append("on the disk" if len(lines(book)) == 1 else "empty")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    order.append(leave(MESSAGE, book, Label("fedavg", 0, 1)))
    assert order == ["on the disk", "on the disk", MESSAGE]  # the line, the folder, the bytes


@pytest.mark.parametrize("call", ["fsync", "flush"])
def test_nothing_leaves_when_the_disk_is_full(book, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(ledgers, "_last_line", full)
    with pytest.raises(LedgerError, match=r"No space left.*; nothing leaves site 'eye' until"):
        leave(MESSAGE, book, Label("fedavg", 0, 6))


def test_a_ledger_that_cannot_be_read(tmp_path):
    with pytest.raises(LedgerError, match=r"gone\.jsonl: cannot be read"):
        verify(tmp_path / "gone.jsonl")


def _many(path, first):
    messages(Ledger(path, "eye"), 10, first)


def test_two_processes_write_one_chain(tmp_path):
    path = tmp_path / "eye.jsonl"
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_many, args=(path, first)) for first in (1, 11)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    found = verify(path)
    assert (found.lines, found.problems) == (20, ())


# Signed ledgers.


@pytest.fixture
def keys(tmp_path):
    """Private keys of two sites; their public halves lie beside them."""
    pytest.importorskip("cryptography")
    from polyclinic.federation.signing import create_key

    for name in ("eye", "ear"):
        assert create_key(tmp_path / name) == tmp_path / f"{name}.pub"
    return tmp_path / "eye", tmp_path / "ear"


def public(key):
    return key.with_name(key.name + ".pub")


def test_a_signed_ledger(keys, tmp_path):
    eye, ear = keys
    book = Ledger(tmp_path / "eye.jsonl", "eye", eye)
    messages(book, 3)
    found = verify(book.path, public(eye))
    assert (found.signed, found.checked, found.problems) == (3, True, ())
    assert verify(book.path).signed == 3  # a chain all the same, for whoever has no key
    assert not verify(book.path).checked
    problems = verify(book.path, public(ear)).problems
    assert problems == tuple(
        f"line {n} is not signed by the key in {public(ear)}" for n in (1, 2, 3)
    )


def test_a_chain_written_anew_is_found_by_its_signatures(keys, tmp_path):
    eye, ear = keys
    book = Ledger(tmp_path / "eye.jsonl", "eye", eye)
    messages(book, 2)
    book.path.unlink()
    messages(Ledger(book.path, "eye", ear), 1)
    messages(Ledger(book.path, "eye"), 1)
    assert verify(book.path).problems == ()  # the chain alone cannot tell
    assert len(verify(book.path, public(eye)).problems) == 2


@pytest.mark.parametrize("signature", ["", "no base64!", "AAAA", 7])
def test_a_signature_that_is_none(keys, tmp_path, signature):
    book = Ledger(tmp_path / "eye.jsonl", "eye", keys[0])
    messages(book, 1)
    entry = {**json.loads(lines(book)[0]), "signature": signature}
    book.path.write_bytes(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
    assert "line 1 is not signed by" in verify(book.path, public(keys[0])).problems[0]


def test_keys(keys, tmp_path):
    from polyclinic.federation.signing import create_key

    eye, _ = keys
    assert eye.stat().st_mode & 0o777 == 0o600
    before = eye.read_bytes()
    create_key(eye)
    assert eye.read_bytes() == before  # a key that is there is kept
    (tmp_path / "broken").write_text("no key")
    book = Ledger(tmp_path / "l.jsonl", "eye", tmp_path / "broken")
    with pytest.raises(LedgerError, match="broken: not a readable private key"):
        messages(book, 1)
    assert book.path.read_bytes() == b""
    messages(Ledger(book.path, "eye"), 1)
    with pytest.raises(LedgerError, match="broken: not a readable public key"):
        verify(book.path, tmp_path / "broken")
    with pytest.raises(LedgerError, match=r"eye: (not a readable|expected a) public key"):
        verify(book.path, eye)


def test_signing_without_the_package_says_what_to_install(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(LedgerError, match=r"install polyclinic\[deploy\]"):
        messages(Ledger(tmp_path / "l.jsonl", "eye", tmp_path / "key"), 1)
