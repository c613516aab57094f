import numpy as np
import pytest

from polyclinic.data.dataset import Item
from polyclinic.data.readers.volumes import as_grey, chosen, loader, shown_slices
from polyclinic.errors import DataError


def test_all_with_a_label_and_every_fifth_of_the_others():
    labelled, shown = np.zeros(20, bool), np.ones(20, bool)
    labelled[[0, 7, 8]] = True
    shown[:3] = shown[19] = False
    others = [z for z in range(3, 19) if z not in (7, 8)]
    assert chosen(labelled, shown) == sorted([0, 7, 8, *others[2::5]])
    assert chosen(labelled & False, shown & False) == []


def test_what_shows_nothing():
    volume = np.zeros((10, 10, 3))
    volume[:5, :5, 1] = 3
    assert shown_slices(volume, is_ct=False).tolist() == [False, True, False]
    assert shown_slices(volume - 1024, is_ct=True).tolist() == [False] * 3
    assert shown_slices(volume, is_ct=True).all()


def test_one_scale_for_all_slices_of_a_volume():
    volume = np.arange(1000.0).reshape(10, 10, 10)
    grey = as_grey(volume, is_ct=False)
    assert (grey[0, 0, 0], grey.max()) == (0, 255)
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()
    air = as_grey(np.where(volume < 500, -1024, volume), is_ct=True)
    assert (air.ravel()[:500] == 0).all()
    assert not as_grey(np.zeros((2, 2, 2)), is_ct=False).any()


def test_a_case_is_decoded_once_also_when_it_cannot_be():
    calls = []

    def decode(case):
        calls.append(case)
        if case == "bad":
            raise DataError("no")
        return np.arange(3 * 4).reshape(3, 2, 2).astype(np.uint8), None

    load = loader(decode, {"lost": "is gone"})
    assert load(Item("a#2", "a"))[0].tolist() == [[8, 9], [10, 11]]
    load(Item("a#0", "a"))
    for _ in range(2):
        with pytest.raises(DataError, match=r"^bad#1: no$"):
            load(Item("bad#1", "bad"))
    with pytest.raises(DataError, match=r"^lost: is gone$"):
        load(Item("lost", "lost"))
    assert calls == ["a", "bad"]
