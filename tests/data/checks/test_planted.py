"""A planted fault is found by its check and by no other; a clean site gives no alarm."""

import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw

from polyclinic.data.checks import CHECKS
from polyclinic.data.phantoms import brain, breast, chest, nuclei
from polyclinic.errors import DataError


def change(path, function):
    pixels = np.asarray(Image.open(path))
    Image.fromarray(np.ascontiguousarray(function(pixels))).save(path)


def edit(table, old, new):
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


def text_of(found, folder, check):
    return " ".join(f"{f.severity} {f.where} {f.what}" for f in found(folder)[check])


@pytest.mark.parametrize("kind", ["site", "manifest", "masked"])
def test_a_clean_site_gives_no_alarm(kind, request, alarms):
    assert alarms(request.getfixturevalue(kind)) == {}


@pytest.mark.parametrize(
    ("specialty", "images"), [(breast, 96), (chest, 96), (chest, 264), (nuclei, 240)]
)
def test_a_phantom_site_gives_no_alarm(specialty, images, tmp_path, alarms):
    side = 64 if images == 264 else 48  # of the demo
    specialty.write(tmp_path / "site", seed=0, images=images, image_size=side)
    assert alarms(tmp_path / "site") == {}


def test_every_check_is_in_the_registry_under_its_name():
    assert all(name == check.name and check.describe for name, check in CHECKS.items())


def test_a_truncated_file(site, alarms, found):
    path = site / "a" / "00.png"
    path.write_bytes(path.read_bytes()[:300])
    assert alarms(site) == {"reading": ["a/00.png"]}
    assert "cannot be read" in text_of(found, site, "reading")


def test_many_unreadable_files_are_an_error(site, found):
    for number in range(0, 10, 2):
        (site / "a" / f"{number:02}.png").write_bytes(b"no image")
    assert "error  5 of 60 images cannot be read; a run refuses that" in text_of(
        found, site, "reading"
    )


def test_a_wrong_extension_and_an_empty_file(site, alarms):
    image = Image.open(site / "a" / "00.png")
    image.load()
    image.save(site / "a" / "00.png", format="BMP")
    (site / "notes.txt").touch()
    Image.open(site / "a" / "02.png").save(site / "a" / "thing", format="PNG")
    assert alarms(site) == {"extension": ["a/00.png", "a/thing", "notes.txt"]}


def test_a_blank_and_a_nearly_blank_image(site, alarms, found):
    change(site / "a" / "00.png", np.zeros_like)
    change(site / "a" / "02.png", lambda p: (p // 200 + 90).astype(np.uint8))
    wrong = alarms(site)
    assert wrong["blank"] == ["a/00.png", "a/02.png"]
    assert wrong.keys() <= {"blank", "intensity"}


def test_an_exact_duplicate_whatever_its_file_is(site, alarms):
    Image.open(site / "a" / "04.png").save(site / "a" / "copy.bmp")
    assert alarms(site) == {"duplicate": ["a/copy.bmp"]}


def test_a_duplicate_with_another_label_is_an_error(site, found):
    shutil.copy(site / "a" / "04.png", site / "b" / "copy.png")
    assert text_of(found, site, "duplicate") == (
        "error b/copy.png is the same image as a/04.png, with another label"
    )


def test_a_duplicate_in_another_split(manifest, alarms, found):
    shutil.copy(manifest / "images" / "00.png", manifest / "images" / "zz.png")
    with (manifest / "labels.csv").open("a") as table:
        table.write("\nimages/zz.png,a,p99,test")
    assert alarms(manifest) == {"duplicate": ["images/zz.png"]}
    assert "in another split (test, train)" in text_of(found, manifest, "duplicate")


def test_a_near_duplicate(site, alarms):
    image = Image.open(site / "a" / "06.png")
    image.point(lambda v: min(255, int(1.1 * v))).save(site / "a" / "zz.jpg", quality=80)
    assert alarms(site) == {"near-duplicate": ["a/zz.jpg"]}


def test_a_patient_in_two_splits(manifest, alarms, found):
    edit(manifest / "labels.csv", "images/00.png,a,p00,train", "images/00.png,a,p00,test")
    assert alarms(manifest) == {"split": ["images/00.png"]}
    assert "patient p00 is in test and train" in text_of(found, manifest, "split")


def test_a_missing_and_a_misspelt_label_and_an_unlisted_file(manifest, alarms, found):
    text = (manifest / "labels.csv").read_text().replace(",a,", ",normal,")
    (manifest / "labels.csv").write_text(text.replace(",b,", ",tumour,"))
    edit(manifest / "labels.csv", "images/02.png,normal", "images/02.png,")
    edit(manifest / "labels.csv", "images/04.png,normal", "images/04.png,nromal")
    wrong = alarms(manifest)
    assert wrong["reading"] == ["labels.csv, line 4"]
    assert "class 'nromal' (1 image) is nearly called 'normal'" in text_of(found, manifest, "label")
    assert "images/02.png 1 image file without a usable row" in text_of(found, manifest, "label")


def test_grades_are_no_slips(manifest, alarms):
    text = (manifest / "labels.csv").read_text().replace(",b,", ",grade 1,")
    (manifest / "labels.csv").write_text(text)
    edit(manifest / "labels.csv", "images/00.png,a", "images/00.png,grade 2")
    assert alarms(manifest) == {}


def test_a_single_class_is_an_error_and_a_tiny_one_is_noted(site, manifest, found):
    for path in sorted((site / "b").iterdir())[4:]:
        path.unlink()
    assert "info  class 'b' has only 4 images" in text_of(found, site, "split")
    text = (manifest / "labels.csv").read_text()
    (manifest / "labels.csv").write_text(text.replace(",b,", ",a,"))
    assert "error  the training split shows a only" in text_of(found, manifest, "split")


def test_another_size_depth_and_colour(site, alarms, found):
    paths = [site / "a" / f"{number:02}.png" for number in (0, 2, 4)]
    Image.open(paths[0]).resize((70, 48)).save(paths[0])
    grey = np.asarray(Image.open(paths[1])).astype(np.uint16) * 257
    Image.fromarray(grey).save(paths[1])
    rgb = np.asarray(Image.open(paths[2]).convert("RGB")) * np.array([1, 0.7, 0.9])
    Image.fromarray(rgb.astype(np.uint8)).save(paths[2])
    text = text_of(found, site, "format")
    assert "a/00.png is 70 x 48 px; 59 others are 48 x 48 px" in text
    assert "a/02.png is 16 bits; 59 others are 8 bits" in text
    assert "a/04.png is colour; 59 others are grey" in text
    assert sorted(alarms(site)["format"]) == ["a/00.png", "a/02.png", "a/04.png"]


def test_sizes_without_a_rule_are_one_note(site, found):
    for number in range(0, 60, 2):
        path = site / "a" / f"{number:02}.png"
        Image.open(path).resize((40, 48)).save(path)
    assert text_of(found, site, "format").startswith("info  images differ in size: 40 x 48 px (30)")


def test_a_mask_of_another_size_and_an_empty_one(masked, alarms, found):
    change(masked / "masks" / "00.png", lambda p: p[:-3])
    change(masked / "masks" / "01.png", np.zeros_like)
    assert alarms(masked) == {"reading": ["images/00.png"], "mask": ["images/01.png"]}
    assert "its mask masks/00.png (45, 48) px" in text_of(found, masked, "reading")


def test_many_empty_masks_are_how_the_data_are(masked, alarms, found):
    for number in range(10):
        change(masked / "masks" / f"{number:02}.png", np.zeros_like)
    assert alarms(masked) == {}
    assert "10 of 60 masks are empty" in text_of(found, masked, "mask")


def test_burned_in_text(site, alarms):
    image = Image.open(site / "a" / "00.png").resize((96, 96))
    ImageDraw.Draw(image).text((4, 4), "DOE JANE 1961", fill=255)
    image.save(site / "a" / "00.png")
    assert alarms(site)["text"] == ["a/00.png"]


def test_a_dark_and_a_blurred_image(site, alarms):
    change(site / "a" / "00.png", lambda p: (p * 0.15).astype(np.uint8))
    assert alarms(site) == {"intensity": ["a/00.png"]}


def test_a_folder_that_no_reader_understands_is_looked_at_all_the_same(tmp_path, draw, found):
    for number in range(3):
        draw(number, 0, tmp_path / "x" / f"{number}.png")
    (tmp_path / "x" / "broken.png").write_bytes(b"no image")
    findings = found(tmp_path / "x")["reading"]
    assert [f.severity for f in findings] == ["error", "warning", "error"]
    assert findings[0].what.startswith("cannot be used as a site: format not recognised")
    assert findings[1].where == "broken.png"


def test_no_such_folder_is_an_error(tmp_path, found):
    with pytest.raises(DataError, match=r"gone: no such folder"):
        found(tmp_path / "gone")


def test_slices_of_one_broken_file_are_one_finding(tmp_path, found):
    brain.write(tmp_path / "site", seed=0, images=96, image_size=32)
    broken = min((tmp_path / "site").rglob("*-seg.nii.gz"))
    broken.write_bytes(broken.read_bytes()[:99])
    (finding,) = [f for f in found(tmp_path / "site")["reading"] if f.severity == "warning"]
    assert finding.where == broken.parent.name
    assert re.match(r"\d+ images of it cannot be read: .*-seg\.nii\.gz: not a", finding.what)


def test_without_patient_ids_nobody_counts_patients(site, manifest, found):
    for number in range(16, 60):
        next(site.rglob(f"{number:02}.png")).unlink()
    (error,) = [f for f in found(site)["split"] if f.severity == "error"]
    assert "(of 16); expected at least" in error.what


def test_many_identifiers_are_not_compared_as_classes(tmp_path, draw, found):
    lines = [f"images/{n:05}.png,case {n * 7919:06}" for n in range(6000)]
    lines += [f"images/{n:05}.png,common" for n in range(6000, 6400)]
    (tmp_path / "site" / "images").mkdir(parents=True)
    table = "\n".join(["path,label", *lines])
    (tmp_path / "site" / "labels.csv").write_text(table, encoding="utf-8")
    began = time.process_time()
    assert not any("nearly called" in f.what for f in found(tmp_path / "site")["label"])
    assert time.process_time() - began < 30
