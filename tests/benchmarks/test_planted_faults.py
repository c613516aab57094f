"""The faults that are planted, and how what is found is counted."""

import numpy as np
import pytest

import planted_faults
from planted_kinds import KINDS, read_table
from polyclinic.data.phantoms import breast, chest
from polyclinic.data.readers import scan_site


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Two phantom sites, called as the real ones."""
    folder = tmp_path_factory.mktemp("sites")
    breast.write(folder / "breast", seed=0, images=60, image_size=48)
    chest.write(folder / "chest", seed=0, images=60, image_size=48)
    return folder


def test_there_are_twenty_kinds_and_every_site_is_known():
    known = {"blood", "skin", "chest", "breast", "brain", "glioma", "nuclei", "retina"}
    assert len(KINDS) == 20
    assert set.union(*(set(kind.sites) for kind in KINDS.values())) == known


def test_planted_faults_are_found_and_the_original_is_left_alone(sites):
    before = {path: path.read_bytes() for path in sites.rglob("*") if path.is_file()}
    kinds = ["truncated file", "exact duplicate", "missing label"]
    result = planted_faults.measure(sites, ["breast", "chest"], kinds, 10**9)
    assert result["kinds_found"] == result["kinds_tried"] == 3
    assert result["by_kind"]["missing label"] == {"found": 5, "planted": 5, "is_found": True}
    assert all(row["missed"] == [] for row in result["rows"])
    assert {path: path.read_bytes() for path in sites.rglob("*") if path.is_file()} == before


def test_a_part_of_a_site_is_whole_in_itself(sites, tmp_path):
    part = planted_faults._copy(sites / "chest", tmp_path / "chest", 20)
    rows = read_table(part)
    assert len(rows) == len(list((part / "images").iterdir())) == 20
    assert len(scan_site(part).items) == 20


def test_planting_draws_the_same_faults_again(sites, tmp_path):
    places = [
        KINDS["blank image"].plant(
            planted_faults._copy(sites / "breast", tmp_path / str(n), 10**9),
            np.random.default_rng(0),
            5,
        )
        for n in range(2)
    ]
    assert places[0] == places[1]
    assert len(places[0]) == 5
