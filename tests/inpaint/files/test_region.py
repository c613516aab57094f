"""Regions: boxes, masks, drawings; and every way in which one does not fit."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import (
    COMPONENTS,
    CORE,
    ENHANCING,
    KEEP,
    MIXED,
    OEDEMA,
    TUMOUR_FREE,
    to_mask,
)
from polyclinic.inpaint.files import read_source
from polyclinic.inpaint.files.region import digest, merge, read_region

AFFINE = np.diag([-1.0, -1, 2, 1])


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.ones((6, 8), np.uint8)).save(tmp_path / "image.png")
    return read_source(tmp_path / "image.png")


@pytest.fixture
def volume(tmp_path, write_nifti):
    return read_source(write_nifti(tmp_path / "v.nii", np.ones((8, 6, 4), np.int16), AFFINE))


def fill_of(regions):
    return np.stack([region.fill_map for region in regions])


def test_the_image_itself_is_no_region(image, tmp_path):
    with pytest.raises(
        DataError, match=r"image\.png: is the image itself; expected a mask of what"
    ):
        read_region(str(tmp_path / "image.png"), image, CORE)


def test_another_scan_is_no_region(volume, tmp_path, write_nifti):
    scan = np.arange(8 * 6 * 4, dtype=np.int16).reshape(8, 6, 4)
    path = write_nifti(tmp_path / "scan.nii", scan, AFFINE)
    with pytest.raises(DataError, match=r"scan\.nii: 192 different whole numbers, as an image has"):
        read_region(str(path), volume, CORE)
    write_nifti(tmp_path / "scan.nii", scan % 100, AFFINE)  # an atlas may have as many labels
    assert (fill_of(read_region(str(path), volume, CORE)) == CORE).sum() == 192 - 2


def test_a_scan_in_greys_is_no_region(volume, square, tmp_path, write_nifti):
    rng = np.random.default_rng(0)
    away = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    scan = np.where(away < 26, rng.gamma(9, 10, (64, 64)), rng.uniform(0, 6, (64, 64)))
    windowed = np.clip(scan / np.percentile(scan, 98) * 255, 0, 255).astype(np.uint8)
    for name in ("scan.png", "scan.jpg"):
        Image.fromarray(windowed).save(tmp_path / name)
        with pytest.raises(DataError, match=r"scan\.\w+: shades of grey nearly everywhere, as a s"):
            read_region(str(tmp_path / name), square, CORE)
    tissue = rng.gamma(9, 10, (8, 6, 4)).astype(np.float32)
    path = write_nifti(tmp_path / "scan.nii", tissue, AFFINE)
    with pytest.raises(DataError, match=r"scan\.nii: shades of grey .*; expected a mask: one v"):
        read_region(str(path), volume, CORE)


@pytest.mark.parametrize("radius", [5, 14, 24])
@pytest.mark.parametrize("value", [100, 200, 255])
def test_masks_that_were_blurred_compressed_or_resampled_are_no_scans(
    square, tmp_path, radius, value
):
    away = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    fine = np.hypot(*(np.mgrid[:192, :192] - 95.5)) < 3 * radius
    sharp = Image.fromarray(np.where(away < radius, value, 0).astype(np.uint8))
    large = Image.fromarray(np.where(fine, value, 0).astype(np.uint8))
    soft = ndimage.gaussian_filter(np.where(away < radius, float(value), 0), 2)
    hazy = np.where(away < radius, value, 0.06 * value).astype(np.uint8)
    pictures = {
        "soft.png": Image.fromarray(soft.astype(np.uint8)),
        "hazy.jpg": Image.fromarray(hazy),
    }
    pictures |= {"small.jpg": sharp, "cubic.png": large.resize((64, 64), Image.BICUBIC)}
    pictures["lanczos.png"] = large.resize((64, 64), Image.LANCZOS)
    for name, picture in pictures.items():
        picture.save(tmp_path / name, quality=40)
        found = fill_of(read_region(str(tmp_path / name), square, CORE))[0] == CORE
        assert (found ^ (away < radius)).sum() < max(12, 0.2 * (away < radius).sum()), name


def test_a_volume_resampled_by_splines_is_no_scan(tmp_path, write_nifti):
    away = np.hypot(*(np.mgrid[:24, :24] - 11.5))
    mask = np.repeat((away < 8)[..., None], 8, axis=2).astype(np.float32)
    turned = ndimage.rotate(mask, 20, reshape=False, order=3)
    assert turned.min() < 0 < 1.05 < turned.max()
    volume = read_source(write_nifti(tmp_path / "v.nii", np.ones((24, 24, 8), np.int16), AFFINE))
    path = str(write_nifti(tmp_path / "m.nii", turned, AFFINE))
    found = fill_of(read_region(path, volume, CORE)) == CORE
    assert np.array_equal(found, volume.grid.to_axial(turned) >= turned.max() / 2)


def test_a_file_that_is_no_mask_by_its_name(image, tmp_path):
    (tmp_path / "notes.txt").write_text("left")
    with pytest.raises(DataError, match=r"notes\.txt: neither NIfTI nor an image by its name; exp"):
        read_region(str(tmp_path / "notes.txt"), image, CORE)
    with pytest.raises(DataError, match=r"^region: no such file; expected a mask"):
        read_region("", image, CORE)


def test_a_region_that_is_not_there(image, tmp_path):
    with pytest.raises(
        DataError, match=r"gone\.nii: no such file; expected a mask, NIfTI or an image, or b"
    ):
        read_region(str(tmp_path / "gone.nii"), image, CORE)


@pytest.mark.parametrize("slices", [3, slice(0, 1), "0:1", (0, 1, 2), (0.0, 1.0)])
def test_slices_that_are_no_pair(image, slices):
    with pytest.raises(ConfigError, match=r"slices: expected \(first, after the last\), got "):
        read_region("box:1,2,4,3", image, CORE, slices=slices)


def test_a_box_is_columns_and_rows_with_exclusive_ends(image):
    (region,) = read_region("box:1,2,4,3", image, OEDEMA, boxed=True)
    expected = np.full((6, 8), KEEP)
    expected[2, 1:4] = OEDEMA
    assert np.array_equal(region.fill_map, expected)
    assert np.array_equal(region.boxed, expected == OEDEMA)


@pytest.mark.parametrize(
    ("spec", "error", "expected"),
    [
        ("box:1,2,3", ConfigError, r"expected whole numbers, box:x0,y0,x1,y1"),
        ("box:1,2,1,3", DataError, r"the region is empty; expected x0 < x1 and y0 < y1"),
        ("box:5,0,9,2", DataError, r"outside of the image; its slices are 8 px wide and 6 px"),
        ("box:-1,0,2,2", DataError, r"outside of the image"),
    ],
)
def test_boxes_that_do_not_fit(image, spec, error, expected):
    with pytest.raises(error, match=expected):
        read_region(spec, image, CORE)


def test_a_box_in_a_volume_needs_slices(volume):
    with pytest.raises(ConfigError, match=r"has 4 slices; say on which to paint: --slices"):
        read_region("box:0,0,2,2", volume, CORE)
    fill = fill_of(read_region("box:0,0,2,2", volume, CORE, slices=(1, 3)))
    assert (fill != KEEP).any(axis=(1, 2)).tolist() == [False, True, True, False]
    with pytest.raises(ConfigError, match=r"slices 2:5: the image has slices 0 to 3"):
        read_region("box:0,0,2,2", volume, CORE, slices=(2, 5))


def test_a_volume_as_mask_is_turned_like_the_image(tmp_path, volume, write_nifti):
    mask = np.zeros((8, 6, 4), np.uint8)
    mask[2, 1, 3] = 7
    path = str(write_nifti(tmp_path / "m.nii.gz", mask, AFFINE))
    fill = fill_of(read_region(path, volume, MIXED))
    assert np.array_equal(fill == MIXED, volume.grid.to_axial(mask) == 7)
    with pytest.raises(DataError, match=r"the region is empty on slices 0 to 1"):
        read_region(path, volume, MIXED, slices=(0, 2))


def test_masks_of_another_geometry_are_refused(tmp_path, volume, image, write_nifti):
    mask = np.ones((8, 6, 4), np.uint8)
    other = str(write_nifti(tmp_path / "o.nii", mask, np.diag([1.0, -1, 2, 1])))
    with pytest.raises(DataError, match=r"o\.nii: lies elsewhere in space than the image"):
        read_region(other, volume, CORE)
    small = str(write_nifti(tmp_path / "s.nii", mask[:-1], AFFINE))
    with pytest.raises(DataError, match=r"shape \(7, 6, 4\), the image \(8, 6, 4\)"):
        read_region(small, volume, CORE)
    with pytest.raises(DataError, match=r"says nothing about its place in space"):
        read_region(small, image, CORE)
    Image.fromarray(np.ones((6, 9), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"9 x 6 px; expected the size of a slice, 8 x 6 px"):
        read_region(str(tmp_path / "wide.png"), image, CORE)


def test_drawings_need_no_component(tmp_path, image):
    drawing = np.full((6, 8, 3), 90, np.uint8)
    drawing[0, 0], drawing[5, 7] = (255, 0, 0), (0, 255, 255)
    path = str(tmp_path / "drawing.png")
    Image.fromarray(drawing).save(path)
    fill = fill_of(read_region(path, image, None))[0]
    assert (fill[0, 0], fill[5, 7]) == (CORE, TUMOUR_FREE)
    assert (fill != KEEP).sum() == 2
    assert np.unique(fill_of(read_region(path, image, OEDEMA))).tolist() == [KEEP, OEDEMA]
    Image.fromarray(np.full((6, 8, 3), (9, 9, 8), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"none of them means a component"):
        read_region(path, image, None)


@pytest.fixture
def square(tmp_path):
    """A grey square of 64 px, to be painted on."""
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / "square.png")
    return read_source(tmp_path / "square.png")


def test_drawings_that_lost_colours_are_refused(tmp_path, square):
    """One rule for all formats: no pixel that was drawn is left out without a word."""
    drawing = np.full((64, 64, 3), 90, np.uint8)
    disc = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 15
    drawing[disc] = (255, 0, 0)
    kept, lost = str(tmp_path / "kept.jpg"), str(tmp_path / "lost.jpg")
    Image.fromarray(drawing).save(kept, quality=100, subsampling=0)
    assert np.array_equal(fill_of(read_region(kept, square, None))[0] == CORE, disc)
    Image.fromarray(drawing).save(lost, quality=85)
    for component in (None, OEDEMA):
        with pytest.raises(DataError, match=r"lost\.jpg: \d+ px in colours .* save the draw"):
            read_region(lost, square, component)


def test_the_edge_of_a_grey_mask_lies_at_half_of_its_maximum(tmp_path, square):
    disc = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 15
    fine = np.hypot(*(np.mgrid[:512, :512] - 255.5)) < 120
    sharp = Image.fromarray(np.where(disc, 255, 0).astype(np.uint8))
    soft = Image.fromarray(np.where(fine, 255, 0).astype(np.uint8)).resize((64, 64), Image.BOX)
    assert len(np.unique(np.array(soft))) > 8
    for name, picture in {"a.jpg": sharp, "a.png": soft, "b.jpg": soft, "b.png": sharp}.items():
        picture.save(tmp_path / name, quality=85)
        found = fill_of(read_region(str(tmp_path / name), square, CORE))[0] == CORE
        assert (found ^ disc).sum() <= (0 if name == "b.png" else 0.02 * disc.sum())
    assert (np.array(Image.open(tmp_path / "a.jpg")) != 0).sum() > 1.1 * disc.sum()


@pytest.mark.parametrize("values", [[0, 1, 2, 3, 4], [0, 85, 170, 255], [0, 255], [0, 1, 20]])
def test_labels_count_all_but_0(tmp_path, square, values):
    labels = np.array(values, np.uint8)[np.arange(64) % len(values)].repeat(64).reshape(64, 64)
    Image.fromarray(labels).save(tmp_path / "l.png")
    found = fill_of(read_region(str(tmp_path / "l.png"), square, CORE))[0]
    assert np.array_equal(found == CORE, labels != 0)
    if max(values) < 64:
        Image.fromarray(labels).save(tmp_path / "l.jpg")
        with pytest.raises(DataError, match=r"l\.jpg: its values reach only \d+, as labels do"):
            read_region(str(tmp_path / "l.jpg"), square, CORE)


def test_a_resampled_volume_counts_from_half(tmp_path, volume, write_nifti):
    mask = np.zeros((8, 6, 4), np.float32)
    mask[2:5, 1, 3] = 0.2, 1, 0.6
    path = str(write_nifti(tmp_path / "m.nii", mask, AFFINE))
    fill = fill_of(read_region(path, volume, MIXED))
    assert np.array_equal(fill == MIXED, volume.grid.to_axial(mask) > 0.5)


def test_labels_of_brats_say_what_to_paint(tmp_path, volume, square, write_nifti):
    labels = np.zeros((8, 6, 4), np.int16)
    labels[1, :4, 2] = 1, 2, 4, 0
    path = str(write_nifti(tmp_path / "seg.nii.gz", labels, AFFINE))
    expected = volume.grid.to_axial(np.array([KEEP, CORE, OEDEMA, KEEP, ENHANCING])[labels])
    assert np.array_equal(fill_of(read_region(path, volume, "labels")), expected)
    as_array = fill_of(read_region(volume.grid.to_axial(labels), volume, "labels"))
    assert np.array_equal(as_array, expected)
    Image.fromarray(np.tile(np.arange(4, dtype=np.uint8), (64, 16))).save(tmp_path / "l.png")
    (drawn,) = read_region(str(tmp_path / "l.png"), square, "labels")
    assert drawn.fill_map[0, :4].tolist() == [KEEP, CORE, OEDEMA, ENHANCING]
    labels[5, 5, 3] = 7
    write_nifti(tmp_path / "seg.nii.gz", labels, AFFINE)
    with pytest.raises(DataError, match=r"seg\.nii\.gz: label 7; expected 1 core, .*, 6 mixed"):
        read_region(path, volume, "labels")
    with pytest.raises(ConfigError, match=r"add --as with one of .*, or with `labels` where it h"):
        read_region(path, volume, None)
    with pytest.raises(ConfigError, match=r"box:1,1,2,2: a box has no labels; expected --as"):
        read_region("box:1,1,2,2", volume, "labels", slices=(0, 1))
    (tmp_path / "l.jpg").touch()
    with pytest.raises(DataError, match=r"l\.jpg: a format that does not keep labels; save"):
        read_region(str(tmp_path / "l.jpg"), square, "labels")


def test_a_mask_that_was_written_asks_for_the_same_again(square):
    realised = np.random.default_rng(0).choice([KEEP, *range(len(COMPONENTS))], (64, 64))
    (again,) = read_region(to_mask(realised), square, "labels")
    assert np.array_equal(again.fill_map, realised)


def test_a_mask_needs_a_component(tmp_path, image):
    path = str(tmp_path / "mask.png")
    Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(path)
    assert (fill_of(read_region(path, image, CORE)) == CORE).sum() == 6
    with pytest.raises(
        ConfigError, match=r"mask\.png: has no colours .* add --as with one of tumour-f"
    ):
        read_region(path, image, None)


def test_later_regions_win(image):
    first = read_region("box:0,0,4,4", image, OEDEMA, boxed=True)
    second = read_region("box:2,2,6,6", image, CORE)
    (merged,) = merge([first, second])
    assert (merged.fill_map == OEDEMA).sum() == 12
    assert (merged.fill_map == CORE).sum() == 16
    assert np.array_equal(merged.boxed, merged.fill_map == OEDEMA)
    third = read_region("box:4,0,8,2", image, OEDEMA, boxed=True)
    (merged,) = merge([first, second, third])
    assert (merged.boxes[0, 3], merged.boxes[0, 4], merged.boxes[3, 3]) == (1, 3, 0)
    assert digest([merged]) != digest(first)
