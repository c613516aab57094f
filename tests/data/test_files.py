import os

import pytest

from polyclinic.data import files as module
from polyclinic.data.dataset import Finding
from polyclinic.data.files import cap_findings, inside, list_files, other_files, read_text, walk
from polyclinic.errors import DataError


def test_lists_files_sorted_without_what_systems_leave_behind(tmp_path):
    for name in ("b.png", "a/c.png", ".hidden.png", "Thumbs.db", "a/.DS_Store", ".git/x.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list_files(tmp_path) == (("a/c.png", "b.png"), ())


def test_refuses_links_that_lead_out_and_keeps_those_that_stay(tmp_path):
    site, outside = tmp_path / "site", tmp_path / "outside"
    site.mkdir()
    outside.mkdir()
    (outside / "secret.png").touch()
    (site / "real.png").touch()
    (site / "inner.png").symlink_to(site / "real.png")
    (site / "leak.png").symlink_to(outside / "secret.png")
    (site / "folder").symlink_to(outside)
    (site / "broken.png").symlink_to(site / "gone.png")
    (site / "loop").symlink_to(site)
    files, findings = list_files(site)
    assert files == ("inner.png", "real.png")
    said = {finding.where: finding.what for finding in findings}
    assert "leads out" in said["leak.png"]
    assert "leads out" in said["folder"]
    assert "broken" in said["broken.png"]
    assert "not followed" in said["loop"]


def test_a_sibling_folder_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site2").mkdir()
    (tmp_path / "site2" / "a.png").touch()
    assert inside(tmp_path / "site", "../site2/a.png") is None
    assert inside(tmp_path / "site", "x/../a.png") == tmp_path / "site" / "a.png"
    assert inside(tmp_path / "site", "a\0b") is None


def test_special_files_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    what = "is a pipe or a device; not opened"
    assert list_files(tmp_path) == ((), (Finding("warning", "pipe.png", what, "remove it"),))


def test_what_is_refused_is_named_one_by_one_or_summed_up(tmp_path):
    for number in range(25):
        (tmp_path / f"{number}\n.png").touch()
    assert len(walk(tmp_path)[1]) == 25
    assert len(list_files(tmp_path)[1]) == 21


def test_names_a_name_that_is_not_utf8(tmp_path):
    (tmp_path / "ok.png").touch()
    (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    files, findings = list_files(tmp_path)
    assert files == ("ok.png",)
    assert findings[0].where == r"caf\xe9.png"
    assert "UTF-8" in findings[0].what


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="cannot be listed"):
        list_files(tmp_path / "no")


def test_many_findings_become_a_summary():
    many = [Finding("warning", str(n), "bad") for n in range(25)]
    capped = cap_findings(many)
    assert capped[:20] == tuple(many[:20])
    assert capped[20:] == (Finding("warning", "", "5 more findings of this kind"),)
    assert cap_findings(many[:20]) == tuple(many[:20])
    assert cap_findings(many[:21])[-1].what == "1 more finding of this kind"


def test_other_files_are_counted_by_kind():
    (finding,) = other_files(["a.png", "b.txt", "c.dcm", "README", "labels.csv"], ["labels.csv"])
    assert finding.what.startswith("3 files other than images")
    assert ".dcm, .txt, no extension" in finding.what
    assert other_files(["a.PNG"]) == ()
    assert other_files(["b.txt"])[0].what == "1 file other than images, left out (.txt)"


def test_names_that_would_break_lines_or_steer_terminals_are_refused(tmp_path):
    for name in ("a\nb.png", "\x1b[31mred.png", "\x85.png", "good é ю 日本.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub\x07").mkdir()
    (tmp_path / "sub\x07" / "c.png").touch()
    files, findings = list_files(tmp_path)
    assert files == ("good é ю 日本.png",)
    assert [f.where for f in findings] == sorted(
        [r"\x1b[31mred.png", r"a\x0ab.png", r"sub\x07", r"\x85.png"]
    )
    assert all(f.what == "the file's name holds control characters" for f in findings)


def test_a_table_is_a_regular_file_of_bearable_size(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffcafé".encode())
    assert read_text(path) == "café"
    monkeypatch.setattr(module, "MAX_TEXT", 3)
    with pytest.raises(DataError, match=r"t\.csv: more than 3 bytes; refused$"):
        read_text(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe: expected a file with text$"):
        read_text(tmp_path / "pipe")
