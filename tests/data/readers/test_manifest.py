import os

import numpy as np
import pytest
from PIL import Image

from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError


def site(tmp_path, text, images=("a", "b", "c")):
    folder = tmp_path / "site"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(images):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(folder / "images" / f"{name}.png")
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "labels.csv").write_bytes(data)
    return folder


def rows(labels, header="path,label"):
    names = "abcdefgh"
    lines = [f"images/{n}.png,{label}" for n, label in zip(names, labels, strict=False)]
    return "\n".join([header, *lines])


def test_bom_windows_ends_spaces_and_capitals_are_fine(tmp_path):
    text = b"\xef\xbb\xbf Path , LABEL,Patient_ID\r\nimages\\a.png , sick ,p1\r\n\r\n"
    text += b"./images/b.png,well,p2\r\nimages/c.png,sick,p1\r\n"
    scan = scan_site(site(tmp_path, text))
    assert (scan.format, scan.task, scan.has_patient_ids) == ("manifest", "single-label", True)
    assert scan.classes == ("sick", "well")
    assert [(i.key, i.patient, i.target) for i in scan.items] == [
        ("images/a.png", "p1", 0),
        ("images/b.png", "p2", 1),
        ("images/c.png", "p1", 0),
    ]
    assert [int(scan.load(i)[0].max()) for i in scan.items] == [0, 1, 2]
    assert scan.findings == ()


def test_semicolons_between_cells(tmp_path):
    scan = scan_site(site(tmp_path, "path;label\nimages/a.png;x|y\nimages/b.png;x\n"))
    assert (scan.task, scan.classes) == ("multi-label", ("x", "y"))


@pytest.mark.parametrize("sign", ["|", ";"])
def test_several_labels(tmp_path, sign):
    scan = scan_site(site(tmp_path, rows([f"mass{sign} edema", "edema", f"nodule{sign}mass"])))
    assert scan.task == "multi-label"
    assert scan.classes == ("edema", "mass", "nodule")
    assert [i.target for i in scan.items] == [(1, 1, 0), (1, 0, 0), (0, 1, 1)]


def test_numbers_with_fractions_are_a_regression(tmp_path):
    scan = scan_site(site(tmp_path, rows(["1", "2.5", "-3e1"])))
    assert (scan.task, scan.classes) == ("regression", ())
    assert [i.target for i in scan.items] == [1.0, 2.5, -30.0]


def test_whole_numbers_are_classes_in_their_order_unless_declared(tmp_path):
    folder = site(tmp_path, rows(["10", "9", "10"]))
    scan = scan_site(folder)
    assert (scan.task, scan.classes) == ("single-label", ("9", "10"))
    assert [i.target for i in scan_site(folder, task="regression").items] == [10.0, 9.0, 10.0]
    assert scan_site(folder, task="multi-label").items[0].target == (0, 1)


def test_many_numbers_look_like_a_regression(tmp_path):
    text = "path,label\n" + "".join(f"images/{n}.png,{n}\n" for n in range(60))
    said = [f.what for f in scan_site(site(tmp_path, text)).findings]
    assert "60 different labels" in said


def test_declared_regression_with_words(tmp_path):
    with pytest.raises(DataError, match=r"labels\.csv, line 3: label 'inf'; expected a finite"):
        scan_site(site(tmp_path, rows(["1", "inf"])), task="regression")


def test_given_splits_under_their_many_names(tmp_path):
    text = "path,label,split\nimages/a.png,x,Training\nimages/b.png,x,valid\nimages/c.png,y,\n"
    assert [i.split for i in scan_site(site(tmp_path, text)).items] == ["train", "val", None]
    with pytest.raises(DataError, match=r"line 2: split 'fold1'; expected train, val or test"):
        scan_site(site(tmp_path, "path,label,split\nimages/a.png,x,fold1\n"))


def test_missing_files_are_findings_and_fail_when_loaded(tmp_path):
    scan = scan_site(site(tmp_path, rows(["x", "y", "x", "y"])))
    assert len(scan.items) == 4
    (finding,) = scan.findings
    assert finding.where == "images/d.png"
    assert "line 5" in finding.what
    with pytest.raises(DataError, match=r"images/d\.png: no such file"):
        scan.load(scan.items[3])


@pytest.mark.parametrize("path", ["../secret.png", "images/link.png", "ABSOLUTE"])
def test_nothing_outside_of_the_folder_is_read(tmp_path, path):
    secret = tmp_path / "secret.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(secret)
    path = str(secret) if path == "ABSOLUTE" else path
    folder = site(tmp_path, f"path,label\nimages/a.png,x\n{path},y\n")
    (folder / "images" / "link.png").symlink_to(secret)
    scan = scan_site(folder)
    assert "outside of the site's folder" in scan.findings[0].what
    with pytest.raises(DataError, match="outside of the site's folder; refused"):
        scan.load(scan.items[1])


def test_rows_without_label_and_repeated_rows(tmp_path):
    text = rows(["x", "", "y"]) + "\nimages/a.png,x\nimages/c.png,z\n"
    scan = scan_site(site(tmp_path, text))
    assert [i.key for i in scan.items] == ["images/a.png"]
    said = {f.where: (f.severity, f.what) for f in scan.findings}
    assert said["labels.csv, line 3"] == ("warning", "no label; left out")
    assert said["labels.csv, line 5"][1] == "images/a.png was already in line 2; counted once"
    assert said["labels.csv, line 6"][0] == "error"


def test_a_row_without_patient_is_its_own(tmp_path):
    text = "path,label,patient_id\nimages/a.png,x,p\nimages/b.png,y,\n"
    scan = scan_site(site(tmp_path, text))
    assert [i.patient for i in scan.items] == ["p", "images/b.png"]
    assert "1 row without patient_id" in scan.findings[0].what


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", "column path missing.*got file, label"),
        ("", "column label and path missing.*got none"),
        ("path,label,label\n", "two columns are called 'label'"),
        ("path,label\na,b,c\n", "line 2: 3 cells; expected 2"),
        ('path,label\n"a,b\n', "line 2: not valid CSV"),
        ("path,label\n", "no row with a path and a label"),
        (b"path,label\ncaf\xe9,x\n", "not UTF-8"),
    ],
)
def test_a_broken_table_says_how(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        scan_site(site(tmp_path, text))


def test_a_manifest_has_no_masks(tmp_path):
    with pytest.raises(DataError, match="no masks"):
        scan_site(site(tmp_path, rows(["x", "y"])), task="segmentation")


def test_names_that_no_file_system_allows(tmp_path):
    scan = scan_site(site(tmp_path, f"path,label\n{'n' * 5000}.png,x\nimages/a.png,y\n"))
    assert "no such file" in scan.findings[0].what


def test_tables_that_would_take_all_memory_or_for_ever(tmp_path):
    folder = site(tmp_path, "path,label," + ",".join(f"c{n}" for n in range(2000)))
    with pytest.raises(DataError, match=r"labels\.csv: 2002 columns; expected at most 1000"):
        scan_site(folder)
    labels = "\n".join(f"{n}.png,a{n}|b{n}" for n in range(600))
    with pytest.raises(
        DataError, match=r"1200 different labels, .*; expected at most 1000 classes"
    ):
        scan_site(site(tmp_path, f"path,label\n{labels}\n"))


def test_what_would_break_lines_or_steer_terminals_becomes_a_space(tmp_path):
    text = 'path,label,patient_id\nimages/a.png,"x\ny",p\x1b[2J\nimages/b.png,z,q\n'
    scan = scan_site(site(tmp_path, text))
    assert scan.classes == ("x y", "z")
    assert scan.items[0].patient == "p [2J"


def test_a_pipe_in_the_place_of_an_image_or_of_the_table(tmp_path):
    folder = site(tmp_path, rows("xy") + "\nimages/pipe.png,x\nimages/other,y\n")
    os.mkfifo(folder / "images" / "pipe.png")
    os.mkfifo(folder / "images" / "other")
    scan = scan_site(folder)
    for item in scan.items[2:]:
        with pytest.raises(DataError, match=rf"^{item.key}: no such file$"):
            scan.load(item)
    (folder / "labels.csv").unlink()
    os.mkfifo(folder / "labels.csv")
    with pytest.raises(DataError, match=r"labels\.csv: expected a file with text$"):
        scan_site(folder, format="manifest")
