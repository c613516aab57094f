"""Turned and inverted images, by a rule that says how good it is."""

import numpy as np
import pytest
from PIL import Image

from polyclinic.data.checks.orientation import _INVERSE, SUSPECTS, calibrate, version


def change(path, function):
    Image.fromarray(np.ascontiguousarray(function(np.asarray(Image.open(path))))).save(path)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("inverted", lambda p: 255 - p),
        ("rotated by 180\u00b0", lambda p: p[::-1, ::-1]),
        ("rotated by 90\u00b0 to the left", np.rot90),
    ],
)
def test_a_turned_image_is_found_and_called_by_its_turn(name, function, site, found):
    change(site / "a" / "00.png", function)
    (finding,) = [f for f in found(site)["orientation"] if f.severity == "warning"]
    assert finding.where == "a/00.png"
    assert finding.what.startswith(f"looks {name} (")


def test_every_suspect_can_be_undone():
    images = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float32)
    assert len({version(images, number).tobytes() for number in range(16)}) == 16
    for number in SUSPECTS:
        back = version(version(images, number), _INVERSE[number])
        np.testing.assert_array_equal(back, images)


def test_the_hit_rates_are_those_of_turning_images():
    """Measured by algebra; here by turning images and looking at them with the others upright."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:32, :32] / 32
    images = (80 * y + 30 * x + rng.normal(0, 90, (400, 32, 32))).astype(np.float32)
    patients = [str(number) for number in range(400)]
    expected = calibrate(images, patients).hit_rates
    for number in SUSPECTS:
        turned = images.copy()
        turned[:20] = 255 * (number == 8) + version(images[:20], number)
        flagged = calibrate(turned, patients)
        share = (flagged.gains[number][:20] > flagged.limits[number]).mean()
        assert abs(share - expected[number]) < 0.3


def test_where_there_is_no_upside_nothing_is_claimed():
    images = np.random.default_rng(0).normal(120, 30, (300, 32, 32)).astype(np.float32)
    found = calibrate(images, [str(number) for number in range(300)])
    assert max(found.hit_rates.values()) < 0.5
