"""Turned and inverted images, by a rule that says how good it is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyclinic.data.checks.check import ImageFacts, Survey
from polyclinic.data.checks.orientation import _INVERSE, SUSPECTS, calibrate, run, version
from polyclinic.data.dataset import Item, Scan


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
    images = (80 * y + 30 * x + rng.normal(0, 75, (400, 32, 32))).astype(np.float32)
    patients = [str(number) for number in range(400)]
    expected = calibrate(images, patients).hit_rates
    for number in SUSPECTS:
        turned = images.copy()
        turned[:8] = 255 * (number == 8) + version(images[:8], number)
        flagged = calibrate(turned, patients)
        share = (flagged.gains[number][:8] > flagged.limits[number]).mean()
        assert abs(share - expected[number]) < 0.3


def test_where_there_is_no_upside_nothing_is_claimed():
    images = np.random.default_rng(0).normal(120, 30, (300, 32, 32)).astype(np.float32)
    found = calibrate(images, [str(number) for number in range(300)])
    assert max(found.hit_rates.values()) < 0.5


def test_slices_lie_as_their_volume_does():
    """Noisy slices that cannot be told apart one by one, of 30 volumes, one of them turned."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:32, :32] / 32
    images = (40 * y + 15 * x + rng.normal(0, 120, (600, 32, 32))).astype(np.float32)
    volumes = [f"v{number // 20:02}" for number in range(600)]
    images[:20] = version(images[:20], 1)
    alone, together = calibrate(images, volumes), calibrate(images, volumes, volumes)
    assert alone.hit_rates[1] < 0.5
    assert together.hit_rates[1] == 1
    beyond = together.gains[1] > together.limits[1]
    assert beyond[:20].all()
    assert not beyond[20:].any()


def test_a_turned_volume_is_one_finding():
    rng = np.random.default_rng(3)
    y = np.mgrid[:32, :32][0] * 4.0
    items = [Item(f"c{n // 8}/v.nii#{n % 8}", f"c{n // 8}") for n in range(96)]
    pictures = np.clip(60 + y + rng.normal(0, 20, (96, 32, 32)), 0, 255).astype(np.uint8)
    pictures[40:48] = 255 - pictures[40:48]
    images = tuple(ImageFacts(thumbnail=picture.tobytes()) for picture in pictures)
    scan = Scan(Path(), "bids", "single-label", (), tuple(items), lambda _: None)
    warnings = [f for f in run(Survey(scan, images, ())) if f.severity == "warning"]
    assert [f.where for f in warnings] == ["c5/v.nii#0"]
    assert warnings[0].what.startswith("looks inverted (")
    assert warnings[0].what.endswith(" % of such volumes are found here)")
