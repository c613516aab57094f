import io
import zipfile

import numpy as np
import pytest

from polyclinic.data.images import to_uint8
from polyclinic.data.readers import archive, scan_site
from polyclinic.errors import DataError

RNG = np.random.default_rng(0)


def site(tmp_path, **arrays):
    np.savez(tmp_path / "d.npz", **arrays)
    return tmp_path


def images(count, *shape, dtype=np.uint8):
    return RNG.integers(0, 200, (count, *(shape or (4, 4)))).astype(dtype)


def labels(*values):
    return np.array(values)


def test_splits_and_labels_as_medmnist_has_them(tmp_path):
    arrays = {f"{s}_images": images(n) for s, n in (("train", 3), ("val", 1), ("test", 2))}
    folder = site(
        tmp_path,
        **arrays,
        train_labels=labels([0], [2], [1]),
        val_labels=labels([1]),
        test_labels=labels([0], [0]),
        class_names=np.array(["x", "y", "z"]),
    )
    scan = scan_site(folder)
    assert (scan.format, scan.task, scan.classes) == ("npz", "single-label", ("x", "y", "z"))
    assert [(i.split, i.target) for i in scan.items] == [
        ("train", 0),
        ("train", 2),
        ("train", 1),
        ("val", 1),
        ("test", 0),
        ("test", 0),
    ]
    assert scan.items[5].key == "d.npz:test_images#1"
    np.testing.assert_array_equal(scan.load(scan.items[5])[0], arrays["test_images"][1])
    assert scan.findings == ()


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_image_shapes(tmp_path, shape):
    array = images(2, *shape)
    scan = scan_site(site(tmp_path, images=array, labels=labels(0, 1)))
    assert [i.split for i in scan.items] == [None, None]
    expected = array[1][..., 0] if shape[-1] == 1 else array[1]
    np.testing.assert_array_equal(scan.load(scan.items[1])[0], expected)
    assert scan.classes == ("class 0", "class 1")
    assert "class_names" in scan.findings[0].what


def test_several_columns_are_several_labels(tmp_path):
    folder = site(tmp_path, train_images=images(2), train_labels=labels([1, 0, 1], [0, 0, 0]))
    scan = scan_site(folder)
    assert scan.task == "multi-label"
    assert [i.target for i in scan.items] == [(1, 0, 1), (0, 0, 0)]


def test_fractions_are_a_regression(tmp_path):
    scan = scan_site(site(tmp_path, images=images(2), labels=labels(0.5, 2.0)))
    assert scan.task == "regression"
    assert [i.target for i in scan.items] == [0.5, 2.0]


def test_whole_numbers_may_be_declared_a_regression(tmp_path):
    folder = site(tmp_path, images=images(2), labels=labels(3, 4))
    assert scan_site(folder).classes == tuple(f"class {n}" for n in range(5))
    assert [i.target for i in scan_site(folder, task="regression").items] == [3.0, 4.0]


def test_an_image_with_nan_is_refused_alone(tmp_path):
    array = images(2, dtype=np.float32)
    array[1, 0, 0] = np.nan
    scan = scan_site(site(tmp_path, images=array, labels=labels(0, 1)))
    assert scan.load(scan.items[0])[0].dtype == np.uint8
    with pytest.raises(DataError, match=r"d\.npz:images#1: pixels that are NaN"):
        scan.load(scan.items[1])


def test_nothing_pickled_is_loaded(tmp_path):
    folder = site(tmp_path, images=images(2), labels=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(DataError, match=r"array labels cannot be read.*allow_pickle=False"):
        scan_site(folder)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": labels(1)}, "expected train_images .* found x"),
        ({"images": images(2)}, "labels is missing"),
        ({"images": images(2), "labels": labels(1)}, "holds 2 images, labels has shape"),
        ({"images": images(2, 4), "labels": labels(0, 1)}, r"shape \(2, 4\); expected"),
        ({"images": images(2, 3, 4, 4), "labels": labels(0, 1)}, r"shape \(2, 3, 4, 4\); exp"),
        ({"images": images(2), "labels": labels(-1, 1)}, "labels from -1 to 1"),
        ({"images": images(2), "labels": labels(0, 5000)}, "class numbers from 0 to at most 999"),
        ({"images": images(2), "labels": labels(0.5, np.nan)}, "expected finite numbers"),
        ({"images": images(2), "labels": labels("a", "b")}, "expected finite numbers"),
        ({"images": images(2), "labels": labels([0, 2], [1, 1])}, "do not serve multi-label"),
        (
            {"images": images(2), "labels": labels(0, 1), "class_names": labels("only")},
            "class_names .* expected 2 strings",
        ),
        ({"images": images(0), "labels": labels()}, "no image"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        scan_site(site(tmp_path, **arrays))


def test_damaged_or_several_files(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"a\.npz: not a readable \.npz"):
        scan_site(tmp_path)
    (tmp_path / "b.npz").touch()
    with pytest.raises(DataError, match=r"2 \.npz files; expected exactly one"):
        scan_site(tmp_path)


def test_flipped_bytes_are_named_not_trained_on(tmp_path):
    site(tmp_path, images=images(50, 64, 64), labels=np.zeros(50, int))
    path = tmp_path / "d.npz"
    data = bytearray(path.read_bytes())
    data[100_000] ^= 255
    path.write_bytes(data)
    scan = scan_site(tmp_path)
    for item in scan.items[:2]:  # the failure is kept, not tried again for every image
        with pytest.raises(DataError, match=r"array images cannot be read.*CRC"):
            scan.load(item)


def write(path, name, header, data=b"", held=None):
    """An archive with one more member: its header may say what it likes."""
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(start, header)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", start.getvalue() + data)


def bytes_of(*shape, **options):
    return {"descr": "|u1", "fortran_order": False, "shape": shape, **options}


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        (bytes_of(10**8, 16, 16), 512, r"images cannot be read \(512 bytes; its header says 25600"),
        (bytes_of(2, -4, 4), 32, r"images cannot be read"),
        (bytes_of(2**20 + 1, 1, 1), 2**20 + 1, r"expected at most 1048576 images of at most 8947"),
        (bytes_of(1, 10**4, 10**4), 10**8, r"expected at most 1048576 images of at most 89478485"),
        (bytes_of(2, 4, 4, descr="|O"), 32, r"Python objects are never loaded"),
    ],
)
def test_headers_that_claim_too_much(tmp_path, header, size, message):
    site(tmp_path, labels=labels(0, 1))
    write(tmp_path / "d.npz", "images", header, bytes(size))
    with pytest.raises(DataError, match=message):
        scan_site(tmp_path)


def test_a_large_array_is_read_in_blocks_forward_and_back(tmp_path, monkeypatch):
    array = images(50, 4, 4, 3, dtype=np.uint16)
    folder = site(tmp_path, images=array, labels=np.zeros(50, int))
    monkeypatch.setattr(archive, "MAX_HELD", 1000)
    monkeypatch.setattr(archive, "BLOCK", 7 * 96)
    scan = scan_site(folder)
    for row in (0, 1, 30, 29, 27, 3, 49, 48, 0):
        expected = to_uint8(array[row], "")
        np.testing.assert_array_equal(scan.load(scan.items[row])[0], expected)
    read = archive.row_reader(folder / "d.npz")
    read("images", 49)
    stream = read.__closure__[1].cell_contents("images").__self__
    assert len(stream._kept) <= 2


def test_a_large_array_that_is_damaged_or_stored_by_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_HELD", 1000)
    folder = site(tmp_path, images=np.asfortranarray(images(50, 8, 8)), labels=np.zeros(50, int))
    scan = scan_site(folder)
    with pytest.raises(DataError, match=r"images is large and stored column by column; save it"):
        scan.load(scan.items[0])
    monkeypatch.setattr(archive, "BLOCK", 640)
    np.savez_compressed(folder / "d.npz", images=images(500, 8, 8), labels=np.zeros(500, np.uint8))
    data = bytearray((folder / "d.npz").read_bytes())
    data[20_000:20_040] = bytes(40)
    (folder / "d.npz").write_bytes(data)
    scan = scan_site(folder)
    assert scan.load(scan.items[0])[0].shape == (8, 8)
    with pytest.raises(DataError, match=r"d\.npz: array images cannot be read"):
        scan.load(scan.items[499])


def test_labels_and_names_within_limits(tmp_path, monkeypatch):
    wide = np.zeros((2, 1001), int)
    with pytest.raises(
        DataError, match=r"labels of shape \(2, 1001\); expected at most 1000 classes"
    ):
        scan_site(site(tmp_path, images=images(2), labels=wide))
    names = np.array(["a\x1b", "b"])
    assert scan_site(
        site(tmp_path, images=images(2), labels=labels(0, 1), class_names=names)
    ).classes == ("a ", "b")
    names.view(np.uint32)[0] = 2**31
    with pytest.raises(DataError, match=r"class_names holds what is no text; write it again"):
        scan_site(site(tmp_path, images=images(2), labels=labels(0, 1), class_names=names))
