import numpy as np
import pytest
from PIL import Image

from polyclinic.data.dataset import IGNORE
from polyclinic.data.readers import scan_site
from polyclinic.errors import DataError

RNG = np.random.default_rng(0)


def site(tmp_path, masks, *, folder="masks", suffix="", extension=".png"):
    """One image per mask; `masks` are arrays."""
    for number, mask in enumerate(masks):
        for parent, pixels, name in (
            ("images", RNG.integers(0, 255, (*mask.shape, 3), dtype=np.uint8), f"{number}.png"),
            (folder, mask, f"{number}{suffix}{extension}"),
        ):
            (tmp_path / parent).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / parent / name)
    return tmp_path


def mask(*rows, dtype=np.uint8):
    return np.array(rows, dtype)


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("suffix", ["", "_mask", "-seg"])
def test_two_values_are_background_and_foreground(tmp_path, high, suffix):
    scan = scan_site(site(tmp_path, [mask([0, high], [high, 0])], suffix=suffix))
    assert (scan.format, scan.task) == ("image-masks", "segmentation")
    assert scan.classes == ("background", "foreground")
    image, labels = scan.load(scan.items[0])
    assert image.shape == (2, 2, 3)
    assert labels.tolist() == [[0, 1], [1, 0]]
    assert labels.dtype == np.uint8


def test_masks_of_0_1_beside_masks_of_0_255_are_both_binary(tmp_path):
    scan = scan_site(site(tmp_path, [mask([0, 1]), mask([0, 255])]))
    assert [scan.load(i)[1].tolist() for i in scan.items] == [[[0, 1]], [[0, 1]]]


def test_instances_in_sixteen_bits_are_foreground(tmp_path):
    masks = [mask([0, 1], [300, 2], dtype=np.uint16), mask([0, 0], [0, 0], dtype=np.uint16)]
    scan = scan_site(site(tmp_path, masks, folder="labels"))
    assert scan.classes == ("background", "foreground")
    assert [scan.load(i)[1].tolist() for i in scan.items] == [[[0, 1], [1, 1]], [[0, 0], [0, 0]]]


def test_small_numbers_are_classes_and_255_is_not_counted(tmp_path):
    scan = scan_site(site(tmp_path, [mask([0, 1, 255]), mask([0, 3, 3])]))
    assert scan.classes == ("background", "class 1", "class 2", "class 3")
    assert scan.load(scan.items[0])[1].tolist() == [[0, 1, IGNORE]]


def test_named_classes_settle_the_meaning(tmp_path):
    site(tmp_path, [mask([0, 1]), mask([0, 2]), mask([300, 1], dtype=np.uint16)])
    (tmp_path / "classes.txt").write_text("background\nvessel\nlesion\n")
    scan = scan_site(tmp_path)
    assert scan.classes == ("background", "vessel", "lesion")
    assert scan.load(scan.items[1])[1].tolist() == [[0, 2]]
    with pytest.raises(DataError, match=r"masks/2\.png: value 300; expected 0 to 2"):
        scan.load(scan.items[2])


def test_jpeg_masks_are_cut_in_the_middle(tmp_path):
    blurred = mask(*[[0] * 8 + [255] * 8] * 16)
    blurred[3, 3:6] = 20
    scan = scan_site(site(tmp_path, [blurred], extension=".jpg"))
    assert "JPEG" in scan.findings[-1].what
    np.testing.assert_array_equal(scan.load(scan.items[0])[1], blurred >= 128)


def test_values_that_mean_nothing_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"masks/0\.png: values up to 200; expected 0 and 255"):
        scan_site(site(tmp_path, [mask([0, 10, 200])]))


def test_images_and_masks_without_partner(tmp_path):
    site(tmp_path, [mask([0, 1]), mask([0, 1])])
    (tmp_path / "masks" / "1.png").rename(tmp_path / "masks" / "9.png")
    scan = scan_site(tmp_path)
    assert len(scan.items) == 2
    with pytest.raises(DataError, match=r"images/1\.png: has no mask in masks/"):
        scan.load(scan.items[1])
    said = {f.where: f.what for f in scan.findings}
    assert said == {"images/1.png": "has no mask", "masks/9.png": "is a mask without an image"}


def test_sizes_must_agree(tmp_path):
    site(tmp_path, [mask([0, 1])])
    Image.fromarray(mask([0, 1], [1, 0])).save(tmp_path / "masks" / "0.png")
    scan = scan_site(tmp_path)
    with pytest.raises(DataError, match=r"images/0\.png: \(1, 2\) px, its mask .* \(2, 2\) px"):
        scan.load(scan.items[0])


def test_a_damaged_mask_fails_alone(tmp_path):
    site(tmp_path, [mask([0, 1]), mask([0, 1])])
    (tmp_path / "masks" / "0.png").write_bytes(b"no")
    scan = scan_site(tmp_path)
    with pytest.raises(DataError, match=r"masks/0\.png: not an image"):
        scan.load(scan.items[0])
    assert scan.load(scan.items[1])[1].tolist() == [[0, 1]]


def test_empty_folders(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="expected images/ and either masks/ or labels/"):
        scan_site(tmp_path)


def test_repeated_class_names(tmp_path):
    site(tmp_path, [mask([0, 1])])
    (tmp_path / "classes.txt").write_text("a\na\n")
    with pytest.raises(DataError, match=r"classes\.txt: expected up to 64 different names"):
        scan_site(tmp_path)


def test_names_of_classes_are_not_read_from_elsewhere(tmp_path):
    folder = site(tmp_path, [mask([0, 1, 2], [0, 1, 2])] * 2)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-names.txt"
    elsewhere.write_text("a\nb\nc\n")
    (folder / "classes.txt").symlink_to(elsewhere)
    assert scan_site(folder).classes == ("background", "class 1", "class 2")
    (folder / "classes.txt").unlink()
    (folder / "classes.txt").write_text("a\nb\x1b\nc\n")
    assert scan_site(folder).classes == ("a", "b", "c")
