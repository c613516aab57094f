"""The painter that comes with the package: its card, and that it paints what is asked for."""

import re

import numpy as np
import pytest
from scipy import ndimage

from polyclinic.inpaint.baselines import biharmonic
from polyclinic.inpaint.cases import MADE_UP, phantom_cases
from polyclinic.inpaint.components import COMPONENTS, ENHANCING, OEDEMA, SEQUENCES, TUMOUR_FREE
from polyclinic.inpaint.edit import WEIGHTS, open_painter
from polyclinic.inpaint.painter import splits_beside
from polyclinic.inpaint.painting import Settings, paint
from polyclinic.inpaint.regions import box_around, empty, overlay

MOST_BYTES = 8 * 10**6
CARD = WEIGHTS.with_name("README.md")
T1C, FLAIR = SEQUENCES.index("t1c"), SEQUENCES.index("t2f")

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def painter():
    return open_painter()


@pytest.fixture(scope="module")
def heads():
    """Made-up heads that no painter was trained on: another seed than `phantom_cases` has."""
    return phantom_cases(6, seed=2)


def regions(case):
    """Discs of tumour-free tissue, (slice number, fill mask), a slice each."""
    for z in range(2, case.components.shape[0] - 2, 3):
        free = case.head[z] & (ndimage.distance_transform_edt(case.components[z] == 0) > 12)
        deep = ndimage.distance_transform_edt(free & case.head[z])
        if deep.max() > 8:
            row, column = np.unravel_index(int(deep.argmax()), deep.shape)
            rows, columns = np.indices(deep.shape)
            yield z, (rows - row) ** 2 + (columns - column) ** 2 <= 64


def painted(painter, case, z, mask, component, sequence, **settings):
    region = overlay(empty(mask.shape), mask, component)
    plane = case.volumes[sequence][z][None]
    return paint(painter, plane, [region], sequence, case.head_px, Settings(**settings)).slices[0]


def test_the_file_is_small_and_its_card_is_about_it(painter):
    assert WEIGHTS.stat().st_size <= MOST_BYTES
    card = CARD.read_text(encoding="utf-8")
    assert painter.digest in card
    for fact in ("licence", "CC BY-NC-SA", "rule", "not a medical device", "results/painter"):
        assert fact in card, fact
    for name in ("train", "val", "test"):
        assert re.search(rf"\b{painter.card['patients'][name]}\b", card), name
    splits = splits_beside(WEIGHTS)
    assert splits is not None
    for name in (*splits["val"], *splits["test"]):
        assert name.removeprefix(MADE_UP) in card, name
    assert {s: len(keys) for s, keys in splits.items()} == painter.card["patients"]
    assert str(painter.card["steps"]) in card.replace(",", "")


def test_tumour_free_tissue_is_nearer_to_the_truth_than_biharmonic_infill(painter, heads):
    ours, theirs = [], []
    for case in heads:
        for z, mask in regions(case):
            truth = case.volumes[FLAIR][z]
            mean = painted(painter, case, z, mask, TUMOUR_FREE, FLAIR, mode="mean")
            ours.append(np.square(mean - truth)[mask].mean())
            theirs.append(np.square(biharmonic(truth[None], mask[None])[0] - truth)[mask].mean())
    assert len(ours) >= 6
    assert np.mean(ours) < np.mean(theirs)


def test_components_look_as_they_do_in_each_sequence(painter, heads):
    """Oedema is bright in FLAIR, enhancing tumour bright after contrast."""
    differences = {OEDEMA: [], ENHANCING: []}
    for case in heads[:3]:
        for z, mask in regions(case):
            for component, sequence in ((OEDEMA, FLAIR), (ENHANCING, T1C)):
                tumour = painted(painter, case, z, mask, component, sequence)
                free = painted(painter, case, z, mask, TUMOUR_FREE, sequence)
                differences[component].append((tumour - free)[mask].mean())
    for component, found in differences.items():
        assert np.mean(found) > 0.1, COMPONENTS[component]
        assert np.mean(np.array(found) > 0) > 0.8, COMPONENTS[component]


def test_a_box_gets_a_tumour_with_a_contour(painter, heads):
    shares = []
    for case in heads[:3]:
        for z, mask in regions(case):
            box = box_around(mask)
            region = overlay(empty(mask.shape), box, OEDEMA, boxed=True)
            plane = case.volumes[FLAIR][z][None]
            result = paint(painter, plane, [region], FLAIR, case.head_px, Settings())
            shares.append((result.realised[0] == OEDEMA).sum() / box.sum())
            assert np.array_equal(result.slices[0][~box], plane[0][~box])
    assert 0.2 < np.mean(shares) < 0.95
