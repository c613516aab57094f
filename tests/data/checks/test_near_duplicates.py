"""Pairs found by hashes, against comparing every image with every other."""

import numpy as np

from polyclinic.data.checks.check import ImageFacts, Survey
from polyclinic.data.checks.near_duplicates import MIN_CORRELATION, hashes_of, nearest_earlier, run
from polyclinic.data.dataset import Item, Scan


def survey_of(images, patients=None, splits=None):
    count = len(images)
    patients = patients or [str(n) for n in range(count)]
    items = tuple(
        Item(f"{n:03}", patients[n], 0, splits[n] if splits else None) for n in range(count)
    )
    facts = tuple(
        ImageFacts(shape=(32, 32), digest=bytes([n % 256, n // 256]), thumbnail=image.tobytes())
        for n, image in enumerate(images)
    )
    scan = Scan(None, "x", "single-label", ("a",), items, lambda _: None, True)
    return Survey(scan, facts, ())


def smooth(rng, count):
    coarse = rng.normal(128, 40, (count, 4, 4))
    fine = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2) + rng.normal(0, 3, (count, 32, 32))
    return np.clip(fine, 0, 255).astype(np.uint8)


def test_the_same_pairs_as_by_comparing_all():
    rng = np.random.default_rng(0)
    images = smooth(rng, 600)  # more than one block
    for n in range(0, 600, 50):
        images[n + 7] = np.clip(images[n] * 0.9 + 9 + rng.normal(0, 1, (32, 32)), 0, 255)
    pairs = {(one, other) for one, other, _ in nearest_earlier(survey_of(images))}
    flat = images.reshape(600, -1).astype(float)
    correlation = np.corrcoef(flat)
    expected = {
        (one, int(correlation[one, :one].argmax()))
        for one in range(1, 600)
        if correlation[one, :one].max() >= MIN_CORRELATION
    }
    assert pairs == expected
    assert len(pairs) == 12


def test_images_of_one_patient_may_be_alike_but_not_in_two_splits():
    image = smooth(np.random.default_rng(0), 1)[0]
    alike = np.stack([image, np.clip(image + 2, 0, 255).astype(np.uint8)])
    assert run(survey_of(alike, ["p", "p"])) == []
    (finding,) = run(survey_of(alike, ["p", "p"], ["train", "test"]))
    assert "in another split (test, train)" in finding.what


def test_a_brighter_image_has_the_same_hash():
    images = smooth(np.random.default_rng(0), 5).astype(np.float32)
    assert (hashes_of(images) == hashes_of(images + 20)).all()
