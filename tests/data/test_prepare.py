import errno
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyclinic.data import cache as disk
from polyclinic.data.dataset import IGNORE, SPLITS, Item, Scan
from polyclinic.data.prepare import prepare_corpus, prepare_site
from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError

OPTIONS = {
    "name": "x",
    "image_size": 16,
    "largest_side": 64,
    "split_seed": 0,
    "val_share": 0.15,
    "test_share": 0.2,
    "max_unreadable": 0.05,
    "workers": 2,
}


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def class_site(folder, count=60, classes=2, shape=(20, 12)):
    for number in range(count):
        path = folder / f"class{number % classes}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number, *shape)).save(path)
    return folder


def mask_site(folder, shapes, count=60):
    for parent in ("images", "masks"):
        (folder / parent).mkdir(parents=True)
    for number in range(count):
        shape = shapes[number % len(shapes)]
        mask = np.zeros(shape, np.uint8)
        mask[: shape[0] // 2] = 255
        Image.fromarray(noise(number, *shape)).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def prepare(folder, **options):
    return prepare_site(scan_site(folder), **{**OPTIONS, **options})


def whats(site):
    return [finding.what for finding in site.findings]


def in_memory(images, targets, task="single-label", classes=("a", "b"), **options):
    """A scan of arrays, so that a test can say exactly what they are."""
    items = tuple(Item(f"i{n:03}", f"p{n}", t) for n, t in enumerate(targets))
    by_key = dict(zip([i.key for i in items], images, strict=True))
    return Scan(
        Path(), "memory", task, classes, items, lambda i: (by_key[i.key], None), True, **options
    )


def test_classification_is_one_size_and_split(tmp_path):
    site = prepare(class_site(tmp_path))
    assert site.images.shape == (60, 1, 16, 16)
    assert site.images.dtype == np.uint8
    assert site.targets.dtype == np.int64
    assert np.bincount(site.targets).tolist() == [30, 30]
    assert sum(len(site.split[s]) for s in SPLITS) == len(site) == 60
    assert len(site.split["test"]) == pytest.approx(12, abs=2)
    assert site.patients.dtype == np.int64
    assert len(set(site.patients.tolist())) == 60
    assert not site.images[:, :, :, 0].any()  # 20 x 12 fits as 16 x 10, black beside it
    assert site.keys[0] == "class0/000.png"


def test_one_coloured_image_makes_three_channels(tmp_path):
    class_site(tmp_path)
    Image.fromarray(noise(0, 16, 16, 3)).save(tmp_path / "class0" / "000.png")
    site = prepare(tmp_path)
    assert site.images.shape[1] == 3
    assert (site.images[1][0] == site.images[1][1]).all()


def test_segmentation_side_holds_the_largest_image(tmp_path):
    site = prepare(mask_site(tmp_path, [(20, 33), (40, 10)]))
    assert site.images.shape == (60, 1, 48, 48)
    assert site.targets.shape == (60, 48, 48)
    row = site.keys.index("images/0.png")
    counted = site.targets[row] != IGNORE
    assert counted.sum() == 20 * 33
    np.testing.assert_array_equal(site.images[row, 0][counted].reshape(20, 33), noise(0, 20, 33))
    assert (site.targets[row] == 1).sum() == 10 * 33
    assert not site.images[row, 0][~counted].any()


def test_large_segmentation_images_are_reduced(tmp_path):
    site = prepare(mask_site(tmp_path, [(200, 100), (30, 30)]), largest_side=64)
    assert site.images.shape[-1] == 64
    row = site.keys.index("images/0.png")
    assert (site.targets[row] != IGNORE).sum() == 64 * 32
    assert set(np.unique(site.targets)) == {0, 1, IGNORE}


def test_unreadable_images_are_named_and_left_out(tmp_path):
    class_site(tmp_path)
    (tmp_path / "class1" / "001.png").write_bytes(b"no")
    (tmp_path / "class0" / "002.png").write_bytes(b"")
    site = prepare(tmp_path)
    assert len(site) == 58
    bad = {f.where: f for f in site.findings if "cannot be read" in f.what}
    assert set(bad) == {"class1/001.png", "class0/002.png"}
    assert bad["class1/001.png"].what.startswith("cannot be read: not an image")
    for row, key in enumerate(site.keys):  # rows of images and of targets still agree
        assert site.targets[row] == int(key[5])


def test_too_many_unreadable_images_stop_the_site(tmp_path):
    class_site(tmp_path, 100)
    for number in range(12):
        (tmp_path / f"class{number % 2}" / f"{number:03}.png").write_bytes(b"no")
    message = (
        r"^site 'x': 12 of 100 images \(12 %\) cannot be read, more than 5 %; "
        r"first: class0/000\.png \(not an image, or damaged beyond recognition\); "
        r"repair or remove them, or raise data\.max_unreadable$"
    )
    with pytest.raises(DataError, match=message):
        prepare(tmp_path)
    assert len(prepare(tmp_path, max_unreadable=0.2)) == 88


def test_nothing_readable_stops_even_when_all_may_fail(tmp_path):
    class_site(tmp_path, 4)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no")
    with pytest.raises(DataError, match="4 of 4 images"):
        prepare(tmp_path, max_unreadable=1.0)


def test_many_unreadable_images_are_summarised(tmp_path):
    class_site(tmp_path, 100)
    for number in range(30):
        (tmp_path / f"class{number % 2}" / f"{number:03}.png").write_bytes(b"no")
    site = prepare(tmp_path, max_unreadable=0.5)
    assert sum("cannot be read" in what for what in whats(site)) == 20
    assert "10 more findings of this kind" in whats(site)


def test_pillow_warnings_do_not_reach_the_user(tmp_path):
    class_site(tmp_path)
    scan = scan_site(tmp_path)

    def load(item):
        warnings.warn_explicit("odd", UserWarning, "PIL/x.py", 1, module="PIL.Image")
        return scan.load(item)

    noisy = Scan(scan.folder, scan.format, scan.task, scan.classes, scan.items, load)
    assert len(prepare_site(noisy, **OPTIONS)) == 60


def test_other_tasks_have_their_own_targets():
    images = [noise(n, 16, 16) for n in range(60)]
    several = in_memory(images, [(1, n % 2) for n in range(60)], "multi-label")
    site = prepare_site(several, **OPTIONS)
    assert (site.targets.dtype, site.targets.shape) == (np.uint8, (60, 2))
    assert "all training images are of class 'a'" in whats(site)
    numbers = in_memory(images, [n / 3 for n in range(60)], "regression", ())
    site = prepare_site(numbers, **OPTIONS)
    assert (site.targets.dtype, site.targets.shape) == (np.float32, (60,))


def test_targets_that_teach_nothing():
    images = [noise(n, 16, 16) for n in range(60)]
    with pytest.raises(DataError, match=r"site 'x': the training split shows a only.*at least two"):
        prepare_site(in_memory(images, [0] * 60), **OPTIONS)
    with pytest.raises(DataError, match="site 'x': all training labels are 2"):
        prepare_site(in_memory(images, [2.0] * 60, "regression", ()), **OPTIONS)


def test_a_small_site_is_refused():
    images = [noise(n, 16, 16) for n in range(30)]
    with pytest.raises(DataError, match=r"site 'x': 2 images in the val split \(of 15, from 15"):
        prepare_site(in_memory(images[:15], [n % 2 for n in range(15)]), **OPTIONS)
    site = prepare_site(in_memory(images, [n % 2 for n in range(30)]), **OPTIONS)
    assert f"only {len(site.split['val'])} images in the val split" in whats(site)


def test_classes_that_are_tiny_or_absent_in_training():
    images = [noise(n, 16, 16) for n in range(63)]
    scan = in_memory(images, [n % 2 for n in range(60)] + [2, 2, 2], classes=("a", "b", "c", "d"))
    said = whats(prepare_site(scan, **OPTIONS))
    assert "class 'c' has only 3 images" in said
    assert "class 'd' has no training image" in said


def test_duplicates_across_splits_and_blank_images():
    given = [SPLITS[n % 3] for n in range(60)]
    images = [noise(n, 16, 16) for n in range(60)]
    images[1] = images[0]  # validation shows a training image
    images[5] = images[2]  # twice in test: no leak
    for row in (6, 7, 8):
        images[row] = np.full((8, 16), 9, np.uint8)  # alike everywhere, and nobody's copy
    scan = in_memory(images, [n // 30 for n in range(60)])
    items = tuple(replace(i, split=split) for i, split in zip(scan.items, given, strict=True))
    said = whats(prepare_site(replace(scan, items=items), **OPTIONS))
    assert "1 image in two splits (first: i001 is i000)" in said
    assert "3 images of one single value (first: i006)" in said


def test_the_same_patient_in_two_given_splits_is_reported():
    images = [noise(n, 16, 16) for n in range(60)]
    scan = in_memory(images, [n % 2 for n in range(60)])
    items = [Item(f"i{n:03}", f"p{n // 2}", n % 2, SPLITS[n % 3]) for n in range(60)]
    scan = Scan(scan.folder, "memory", scan.task, scan.classes, tuple(items), scan.load, True)
    said = whats(prepare_site(scan, **OPTIONS))
    assert any(what.startswith("30 patients on both sides of the given splits (") for what in said)


def test_limited_training_keeps_rare_classes_and_says_so():
    images = [noise(n, 16, 16) for n in range(200)]
    scan = in_memory(images, [int(n % 20 == 0) for n in range(200)])
    whole = prepare_site(scan, **OPTIONS)
    limited = prepare_site(scan, **OPTIONS, max_train_images=30)
    rows = limited.split["train"]
    assert len(rows) == 30
    assert set(rows) < set(whole.split["train"])
    rare = np.bincount(whole.targets[whole.split["train"]])[1]
    assert np.bincount(limited.targets[rows])[1] == rare == 6
    for split in ("val", "test"):
        np.testing.assert_array_equal(limited.split[split], whole.split[split])
    (note,) = [f for f in limited.findings if "drawn to train on" in f.what]
    assert note.what == f"30 of {len(whole.split['train'])} images drawn to train on"
    assert (note.severity, note.do) == ("info", "raise data.max_train_images for more")


@pytest.mark.parametrize("most", [0, 130, 1000])
def test_a_limit_that_is_not_exceeded_changes_nothing(most):
    images = [noise(n, 16, 16) for n in range(200)]
    scan = in_memory(images, [n % 2 for n in range(200)])
    whole = prepare_site(scan, **OPTIONS)
    assert len(whole.split["train"]) == 130
    limited = prepare_site(scan, **OPTIONS, max_train_images=most)
    np.testing.assert_array_equal(limited.split["train"], whole.split["train"])
    assert limited.findings == whole.findings


def test_what_a_limit_leaves_is_what_is_checked():
    images = [noise(n, 16, 16) for n in range(200)]
    scan = in_memory(images, [n % 2 for n in range(200)])
    whole = prepare_site(scan, **OPTIONS)
    limited = prepare_site(scan, **OPTIONS, max_train_images=8)
    undrawn = np.setdiff1d(whole.split["train"], limited.split["train"])[0]
    images[whole.split["test"][0]][:] = images[undrawn]
    assert any("1 image in two splits" in what for what in whats(prepare_site(scan, **OPTIONS)))
    again = prepare_site(scan, **OPTIONS, max_train_images=8)
    assert not any("two splits" in what for what in whats(again))


def test_a_limit_below_what_training_needs_is_refused(tmp_path):
    message = r"data\.max_train_images is 7; expected 0 for all images, or at least 8; change it"
    with pytest.raises(DataError, match=f"^site 'x': {message}"):
        prepare(class_site(tmp_path), max_train_images=7)
    with pytest.raises(DataError, match=f"^corpus '.*': {message}"):
        prepare_corpus(tmp_path, image_size=16, max_train_images=7)


def test_preparation_does_not_depend_on_the_order_of_items(tmp_path):
    scan = scan_site(class_site(tmp_path))
    turned = Scan(scan.folder, scan.format, scan.task, scan.classes, scan.items[::-1], scan.load)
    one, other = prepare_site(scan, **OPTIONS), prepare_site(turned, **OPTIONS)
    for split in SPLITS:
        assert {one.keys[r] for r in one.split[split]} == {
            other.keys[r] for r in other.split[split]
        }


def same(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.targets, other.targets)
    assert one.keys == other.keys
    assert one.findings == other.findings


def no_decoding(scan):
    def load(item):
        raise AssertionError("decoded again")

    return Scan(scan.folder, scan.format, scan.task, scan.classes, scan.items, load)


@pytest.mark.parametrize("make", [class_site, lambda f: mask_site(f, [(20, 33)])])
def test_the_cache_gives_the_same_without_decoding(tmp_path, make):
    folder = make(tmp_path / "site")
    next(folder.rglob("*1.png")).write_bytes(b"no")
    cache = tmp_path / "cache"
    first = prepare(folder, cache=cache)
    again = prepare_site(no_decoding(scan_site(folder)), **OPTIONS, cache=cache)
    same(first, again)
    (entry,) = cache.iterdir()
    assert entry.stat().st_mode & 0o077 == 0  # patients' images: for the user alone


def test_a_changed_file_or_option_makes_the_cache_miss(tmp_path):
    folder = class_site(tmp_path / "site")
    cache = tmp_path / "cache"
    prepare(folder, cache=cache)
    with pytest.raises(AssertionError, match="decoded again"):
        prepare_site(no_decoding(scan_site(folder)), **{**OPTIONS, "image_size": 32}, cache=cache)
    path = folder / "class0" / "000.png"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(AssertionError, match="decoded again"):
        prepare_site(no_decoding(scan_site(folder)), **OPTIONS, cache=cache)


@pytest.mark.parametrize("damage", ["cut", "flip", "facts", "gone", "lie"])
def test_a_corrupt_cache_is_rebuilt(tmp_path, damage):
    folder = class_site(tmp_path / "site")
    cache = tmp_path / "cache"
    first = prepare(folder, cache=cache)
    (entry,) = cache.iterdir()
    images, facts = entry / "images.npy", entry / "facts.json"
    data = bytearray(images.read_bytes())
    if damage == "cut":
        images.write_bytes(data[:-100])
    elif damage == "flip":
        data[-5] ^= 1
        images.write_bytes(data)
    elif damage == "facts":
        facts.write_text("{")
    elif damage == "gone":
        images.unlink()
    else:
        facts.write_text(json.dumps({**json.loads(facts.read_text()), "rows": [0]}))
    assert disk.load(entry) is None
    same(first, prepare(folder, cache=cache))
    assert disk.load(entry) is not None


def test_a_full_disk_costs_the_cache_not_the_run(tmp_path, monkeypatch):
    folder = class_site(tmp_path / "site")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write_array", full)
    cache = tmp_path / "cache"
    site = prepare(folder, cache=cache)
    assert len(site) == 60
    assert "prepared images could not be cached (No space left on device)" in whats(site)
    assert list(cache.iterdir()) == []  # nothing half-written stays


def test_a_cache_that_is_a_file_costs_nothing_either(tmp_path):
    folder = class_site(tmp_path / "site")
    (tmp_path / "cache").touch()
    assert any("could not be cached" in w for w in whats(prepare(folder, cache=tmp_path / "cache")))


def test_corpus_is_rgb_of_one_size_cached_or_not(tmp_path):
    folder = class_site(tmp_path / "corpus", 10)
    images, _ = prepare_corpus(folder, image_size=16, cache=tmp_path / "cache")
    assert (images.shape, images.dtype) == ((10, 3, 16, 16), np.uint8)
    assert (images[:, 0] == images[:, 2]).all()
    again, _ = prepare_corpus(folder, image_size=16, cache=tmp_path / "cache")
    np.testing.assert_array_equal(images, again)


def test_corpus_with_too_many_unreadable_images(tmp_path):
    folder = class_site(tmp_path, 10)
    (folder / "class0" / "000.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"corpus '.*': 1 of 10 images \(10 %\) cannot be read"):
        prepare_corpus(folder, image_size=16)
    images, findings = prepare_corpus(folder, image_size=16, max_unreadable=0.1)
    assert len(images) == 9
    assert [f.severity for f in findings] == ["warning"]


def test_a_corpus_that_is_too_small_is_refused(tmp_path):
    folder = class_site(tmp_path, 8)
    assert len(prepare_corpus(folder, image_size=16)[0]) == 8
    (folder / "class0" / "000.png").unlink()
    message = r"^corpus '.*': 7 images to train on; expected at least 8; add public images"
    with pytest.raises(DataError, match=message):
        prepare_corpus(folder, image_size=16)
    for path in list(folder.rglob("*.png"))[1:]:
        path.unlink()
    with pytest.raises(DataError, match=r"^corpus '.*': 1 image to train on; expected at least 8"):
        prepare_corpus(folder, image_size=16)


def test_a_limited_corpus_is_a_part_of_the_whole_and_says_so(tmp_path):
    folder = class_site(tmp_path, 20)
    whole, _ = prepare_corpus(folder, image_size=16)
    some, findings = prepare_corpus(folder, image_size=16, max_train_images=9)
    assert len(some) == 9
    assert {image.tobytes() for image in some} < {image.tobytes() for image in whole}
    assert [f.what for f in findings] == ["9 of 20 images drawn to train on"]
    other, _ = prepare_corpus(folder, image_size=16, max_train_images=9, split_seed=1)
    assert not np.array_equal(some, other)
    same_again, findings = prepare_corpus(folder, image_size=16, max_train_images=20)
    np.testing.assert_array_equal(same_again, whole)
    assert findings == ()
