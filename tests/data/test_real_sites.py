"""The readers against real images in five formats; skipped where these are not at hand."""

from pathlib import Path

import numpy as np
import pytest

from polyclinic.data.dataset import SPLITS
from polyclinic.data.prepare import prepare_site
from polyclinic.data.readers import scan_corpus, scan_site

DATA = Path(__file__).parents[2] / "../shared/data"
EXPECTED = {
    "blood": ("class-folders", "single-label", 8, 2080, False),
    "brain": ("npz", "single-label", 3, 2380, False),
    "breast": ("class-folders", "single-label", 3, 625, False),
    "chest": ("manifest", "single-label", 3, 2280, True),
    "glioma": ("brats", "segmentation", 4, 993, True),
    "nuclei": ("image-masks", "segmentation", 2, 450, False),
    "retina": ("image-masks", "segmentation", 2, 73, False),
    "skin": ("manifest", "single-label", 7, 2035, True),
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real images in {DATA}")


@pytest.mark.parametrize("name", EXPECTED)
def test_every_real_site_is_recognised(name):
    scan = scan_site(DATA / "sites" / name)
    found = (scan.format, scan.task, len(scan.classes), len(scan.items), scan.has_patient_ids)
    assert found == EXPECTED[name]
    image, labels = scan.load(scan.items[len(scan.items) // 2])
    assert image.dtype == np.uint8
    assert (labels is not None) == (scan.task == "segmentation")


def test_the_corpus_is_found():
    assert len(scan_corpus(DATA / "corpus").items) == 3120


@pytest.mark.parametrize(("name", "shape"), [("breast", (1, 64, 64)), ("retina", (3, 256, 256))])
def test_real_sites_are_prepared(name, shape):
    site = prepare_site(
        scan_site(DATA / "sites" / name),
        name=name,
        image_size=64,
        largest_side=256,
        split_seed=0,
        val_share=0.15,
        test_share=0.2,
        max_unreadable=0.0,
    )
    assert site.images.shape == (EXPECTED[name][3], *shape)
    assert len(site.split["test"]) == pytest.approx(0.2 * len(site), abs=3)
    groups = [set(site.patients[site.split[split]]) for split in SPLITS]
    assert sum(map(len, groups)) == len(set().union(*groups))
    twins = [f.what for f in site.findings if "two splits" in f.what]
    assert bool(twins) == (name == "breast")  # one ultrasound image is in two of its classes
