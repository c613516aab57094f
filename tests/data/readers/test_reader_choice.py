import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from polyclinic.data.readers import READERS, scan_corpus, scan_site
from polyclinic.errors import DataError


def image(path, value=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


def test_registry_names_are_the_readers():
    assert {name: reader.name for name, reader in READERS.items()} == {n: n for n in READERS}
    assert list(READERS) == [
        "class-folders",
        "manifest",
        "npz",
        "image-masks",
        "brats",
        "msd",
        "bids",
        "dicom-seg",
    ]


def test_folders_that_cannot_be_a_site(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        scan_site(tmp_path / "no")
    (tmp_path / "a.npz").touch()
    with pytest.raises(DataError, match="is a file; expected the folder"):
        scan_site(tmp_path / "a.npz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    with pytest.raises(DataError, match="is empty"):
        scan_site(tmp_path / "empty")


def test_unknown_content_says_what_was_seen_and_what_exists(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"it holds notes\.txt; known are class-folders.*brats"):
        scan_site(tmp_path)


def test_unknown_format_is_corrected(tmp_path):
    with pytest.raises(DataError, match=r"'class-folder' is unknown.*did you mean `class-folders`"):
        scan_site(tmp_path, format="class-folder")


def test_two_sure_readers_are_ambiguous_until_one_is_declared(tmp_path):
    image(tmp_path / "images" / "a.png")
    image(tmp_path / "masks" / "a.png")
    (tmp_path / "labels.csv").write_text("path,label\nimages/a.png,x\n")
    with pytest.raises(DataError, match="could be manifest or image-masks; say which"):
        scan_site(tmp_path)
    assert scan_site(tmp_path, format="manifest").task == "single-label"
    assert scan_site(tmp_path, format="image-masks").task == "segmentation"


def test_a_manifest_beside_class_folders_wins(tmp_path):
    image(tmp_path / "x" / "a.png")
    image(tmp_path / "y" / "b.png")
    assert scan_site(tmp_path).format == "class-folders"
    (tmp_path / "labels.csv").write_text("path,label\nx/a.png,1\ny/b.png,2\n")
    assert scan_site(tmp_path).format == "manifest"


@pytest.mark.parametrize("name", ["class-folders", "image-masks", "brats"])
def test_a_task_that_the_format_cannot_serve(tmp_path, name):
    image(tmp_path / "x" / "a.png")
    with pytest.raises(DataError, match=f"format {name} is for .*, not for regression"):
        scan_site(tmp_path, format=name, task="regression")


def test_class_folders(tmp_path):
    for name in ("normal/1.png", "normal/deep/2.PNG", "benign/3.png", "loose.png", "benign/x.txt"):
        if name.endswith("txt"):
            (tmp_path / name).touch()
        else:
            image(tmp_path / name, len(name))
    (tmp_path / "malignant").mkdir()
    scan = scan_site(tmp_path)
    assert (scan.format, scan.task, scan.has_patient_ids) == (
        "class-folders",
        "single-label",
        False,
    )
    assert scan.classes == ("benign", "normal")
    assert [(i.key, i.target) for i in scan.items] == [
        ("benign/3.png", 0),
        ("normal/1.png", 1),
        ("normal/deep/2.PNG", 1),
    ]
    pixels, mask = scan.load(scan.items[0])
    assert mask is None
    assert (pixels == len("benign/3.png")).all()
    said = {finding.where: finding.what for finding in scan.findings}
    assert said["loose.png"] == "1 image outside of the class folders, left out"
    assert "without an image" in said["malignant"]
    assert "other than images" in said["benign/x.txt"]


def test_a_folder_of_sites_is_not_a_folder_of_classes(tmp_path):
    for site in ("blood/a", "blood/b", "chest/images", "skin/images"):
        image(tmp_path / site / "1.png", 1)
    for site in ("chest", "skin"):
        (tmp_path / site / "labels.csv").write_text("path,label\nimages/1.png,x\n")
    with pytest.raises(DataError, match=r"several sites, chest/ \(manifest\) and skin/ .*one"):
        scan_site(tmp_path)
    assert scan_site(tmp_path, format="class-folders").classes == ("blood", "chest", "skin")


def test_the_folder_of_a_whole_federation_is_no_site(tmp_path):
    for name in ("sites/chest/a/1.png", "sites/chest/b/2.png", "corpus/3.png"):
        image(tmp_path / "clinics" / name)
    with pytest.raises(DataError, match=r"clinics: holds sites/ and corpus/.*name one .*sites$"):
        scan_site(tmp_path / "clinics")
    assert scan_site(tmp_path / "clinics" / "sites" / "chest").classes == ("a", "b")


def test_the_directory_of_a_run_is_no_site(tmp_path):
    for name in ("previews/1.png", "pictures/2.png"):
        image(tmp_path / "run" / name)
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(DataError, match=r"run: is the directory of a run; expected a site's"):
        scan_site(tmp_path / "run")


def test_an_empty_class_is_named_in_letters_that_can_be_shown(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        image(tmp_path / name, 1)
    (tmp_path / "\x1b[31mred").mkdir()
    findings = scan_site(tmp_path).findings
    assert any("without an image" in f.what and f.where.isprintable() for f in findings)


def test_class_folders_below_splits(tmp_path):
    for split in ("train", "Test"):
        for label in ("no", "yes"):
            image(tmp_path / split / label / "1.png")
    scan = scan_site(tmp_path)
    assert scan.classes == ("no", "yes")
    assert [(i.split, i.target) for i in scan.items] == [
        ("test", 0),
        ("test", 1),
        ("train", 0),
        ("train", 1),
    ]


def test_loose_images_do_not_turn_splits_into_classes(tmp_path):
    for split in ("train", "val", "test"):
        for label in ("no", "yes"):
            image(tmp_path / split / label / "1.png")
    image(tmp_path / "train" / "montage.png")
    image(tmp_path / "overview.png")
    scan = scan_site(tmp_path)
    assert scan.classes == ("no", "yes")
    assert [i.split for i in scan.items] == ["test", "test", "train", "train", "val", "val"]
    (finding,) = scan.findings
    assert finding.severity == "warning"
    assert finding.where == "overview.png"
    assert finding.what == "2 images outside of the class folders, left out"


def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path):
    for name in ("train/no/1.png", "test/yes/1.png", "extra/1.png"):
        image(tmp_path / name)
    message = r"test/ holds folders as a split does, but extra/ beside it is no split; expected"
    with pytest.raises(DataError, match=message):
        scan_site(tmp_path)


def test_splits_without_classes_are_refused(tmp_path):
    for name in ("train/1.png", "test/1.png"):
        image(tmp_path / name)
    with pytest.raises(DataError, match=r"test/ and train/ without a folder for each class; exp"):
        scan_site(tmp_path)


def test_a_class_with_the_name_of_a_split_is_reported(tmp_path):
    for name in ("invalid/1.png", "valid/1.png"):
        image(tmp_path / name)
    scan = scan_site(tmp_path)
    assert scan.classes == ("invalid", "valid")
    assert [(f.severity, f.where) for f in scan.findings] == [("warning", "valid")]
    assert "read as a class" in scan.findings[0].what


def test_corpus_takes_images_of_any_depth_and_archives(tmp_path):
    image(tmp_path / "a.png", 1)
    image(tmp_path / "deep" / "er" / "b.png", 2)
    np.savez(tmp_path / "c.npz", train_images=np.full((2, 4, 4, 1), 3, np.uint8))
    scan = scan_corpus(tmp_path)
    assert [i.key for i in scan.items] == [
        "a.png",
        "deep/er/b.png",
        "c.npz:train_images#0",
        "c.npz:train_images#1",
    ]
    assert [int(scan.load(i)[0].max()) for i in scan.items] == [1, 2, 3, 3]
    assert scan.classes == ()


def test_corpus_without_images(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        scan_corpus(tmp_path / "no")
    with pytest.raises(DataError, match="no image in it"):
        scan_corpus(tmp_path)


def test_a_format_that_is_unknown_names_the_folder(tmp_path):
    with pytest.raises(DataError, match=r"site: format 'zip' is unknown; known: auto, class-fold"):
        scan_site(tmp_path / "site", format="zip")


def test_pipes_are_no_files_and_nobody_waits_for_them(tmp_path):
    for name in ("a", "b"):
        image(tmp_path / name / "x.png")
        os.mkfifo(tmp_path / name / "pipe")
        os.mkfifo(tmp_path / name / "pipe.dcm")
    (tmp_path / "c").mkdir()
    os.mkfifo(tmp_path / "c" / "IM0001")
    scan = scan_site(tmp_path)
    assert [item.key for item in scan.items] == ["a/x.png", "b/x.png"]


def test_folders_deeper_than_the_stack(tmp_path):
    for name in ("a", "b"):
        image(tmp_path / name / "x.png")
    here = os.open(tmp_path / "a", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        there = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    (tmp_path / "a" / "x.png").rename(tmp_path / "a" / ("d/" * 1200) / "x.png")
    try:
        assert len(scan_site(tmp_path).items) == 2
    finally:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(10_000)
        shutil.rmtree(tmp_path / "a")
        sys.setrecursionlimit(limit)


def test_links_to_folders_are_no_classes(tmp_path):
    image(tmp_path / "site" / "a" / "x.png")
    image(tmp_path / "other" / "y.png")
    (tmp_path / "site" / "b").symlink_to(tmp_path / "other", target_is_directory=True)
    with pytest.raises(DataError, match=r"images in one sub-folder only, a; expected"):
        scan_site(tmp_path / "site")
