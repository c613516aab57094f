"""Who is protected, and how they are drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polyclinic.errors import PrivacyError
from polyclinic.federation.privacy.units import images_of, poisson_sample, units_of
from polyclinic.seeding import generator


@pytest.fixture
def clinic(make_site):
    """Sixteen training images, of patients with one to six of them."""
    site = make_site(n=32)
    patients = np.repeat([7, 3, 9, 1, 4], [6, 1, 4, 2, 19])
    return replace(site, patients=patients, has_patient_ids=True)


def test_each_training_image_is_a_record(clinic):
    units = units_of(clinic, "record")
    assert [u.tolist() for u in units] == [[n] for n in clinic.split["train"]]


def test_each_patient_has_all_its_training_images(clinic):
    units = {tuple(sorted(u.tolist())) for u in units_of(clinic, "patient")}
    rows = clinic.split["train"]
    slow = {
        tuple(int(r) for r in rows if clinic.patients[r] == p)
        for p in set(clinic.patients[rows].tolist())
    }
    assert units == slow
    assert len(units) == 5


def test_without_patients_in_the_data_none_can_be_protected(make_site):
    with pytest.raises(PrivacyError, match=r"site 'a': .* its data name no patients; expected"):
        units_of(make_site(), "patient")


def test_units_are_drawn_by_themselves_with_the_rate():
    counts = np.zeros(60)
    sizes = []
    for step in range(2000):
        drawn = poisson_sample(60, 0.2, b"s", step)
        counts[drawn] += 1
        sizes.append(len(drawn))
    assert np.abs(counts / 2000 - 0.2).max() < 0.05
    # of a fixed number the variance would be 0; of a Poisson sample it is n q (1 - q)
    assert np.var(sizes) == pytest.approx(60 * 0.2 * 0.8, rel=0.15)


def test_with_a_rate_of_one_all_take_part():
    assert poisson_sample(5, 1.0, b"s").tolist() == [0, 1, 2, 3, 4]


def test_of_a_patient_with_many_images_some_are_drawn_and_weigh_as_one_unit(clinic):
    units = units_of(clinic, "patient")
    seen = set()
    for step in range(50):
        rows, unit, weight = images_of(units, np.arange(5), 3, generator(step))
        for n, own in enumerate(units):
            mine = rows[unit == n].tolist()
            assert len(mine) == min(3, len(own)) == len(set(mine))
            assert set(mine) <= set(own.tolist())
            assert float(weight[unit == n].sum()) == pytest.approx(1)
        seen |= set(rows.tolist())
    assert seen == set(clinic.split["train"].tolist())
    assert torch.equal(unit.unique(), torch.arange(5))
