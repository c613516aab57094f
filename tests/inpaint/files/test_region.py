"""Regions: boxes, masks, drawings; and every way in which one does not fit."""

import numpy as np
import pytest
from PIL import Image

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import CORE, KEEP, MIXED, OEDEMA, TUMOUR_FREE
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
    drawing[0, 0], drawing[5, 7], drawing[3, 3] = (255, 0, 0), (0, 255, 255), (80, 255, 0)
    path = str(tmp_path / "drawing.png")
    Image.fromarray(drawing).save(path)
    fill = fill_of(read_region(path, image, None))[0]
    assert (fill[0, 0], fill[5, 7]) == (CORE, TUMOUR_FREE)
    assert (fill != KEEP).sum() == 2
    assert np.unique(fill_of(read_region(path, image, OEDEMA))).tolist() == [KEEP, OEDEMA]
    Image.fromarray(np.full((6, 8, 3), (9, 9, 8), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"none of them means a component"):
        read_region(path, image, None)


def test_a_mask_needs_a_component(tmp_path, image):
    path = str(tmp_path / "mask.png")
    Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(path)
    assert (fill_of(read_region(path, image, CORE)) == CORE).sum() == 6
    with pytest.raises(ConfigError, match=r"Add --as with one of tumour-free, core"):
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
