"""Components: names and their spellings, label orders, colours of drawings."""

import numpy as np
import pytest

from polyclinic.errors import ConfigError, DataError
from polyclinic.inpaint.components import (
    COLOURS,
    COMPONENTS,
    CORE,
    ENHANCING,
    KEEP,
    MIXED,
    OEDEMA,
    SEQUENCES,
    TUMOUR_FREE,
    component,
    described_sequence,
    from_colours,
    from_labels,
    sequence,
)


def test_every_component_and_sequence_has_its_own_name():
    assert [component(name) for name in COMPONENTS] == list(range(5))
    assert [sequence(name) for name in SEQUENCES] == list(range(4))


@pytest.mark.parametrize(
    ("said", "meant"),
    [("Edema", OEDEMA), ("tumor-free", TUMOUR_FREE), ("tumour free", TUMOUR_FREE),
     ("necrosis", CORE), (" enhancement ", ENHANCING), ("mixture", MIXED)],
)  # fmt: skip
def test_other_spellings(said, meant):
    assert component(said) == meant


@pytest.mark.parametrize(
    ("said", "agent", "meant"),
    [
        ("AX FLAIR", False, "t2f"),
        ("t2_tirm_tra_dark-fluid", False, "t2f"),
        ("T2 FLAIR post contrast", True, "t2f"),
        ("AX T1 PRE", True, "t1n"),
        ("T1_SE_TRA", False, "t1n"),
        ("AX T1 + C", False, "t1c"),
        ("t1_mpr_ns_sag_KM", False, "t1c"),
        ("T1W 3D TFE", True, "t1c"),
        ("AX T2 FSE", True, "t2w"),
        ("T2* GRE", False, None),
        ("AX DWI", False, None),
        ("T1 and T2", False, None),
        ("", True, None),
    ],
)
def test_what_scanners_call_sequences(said, agent, meant):
    assert described_sequence(said, agent) == (meant and SEQUENCES.index(meant))


def test_an_unknown_name_gets_a_guess():
    with pytest.raises(ConfigError, match=r"no component 'odema': expected .*mean `oedema`"):
        component("odema")
    with pytest.raises(ConfigError, match=r"no sequence 'flare': expected one of .*mean `flair`"):
        sequence("flare")
    with pytest.raises(ConfigError, match=r"no component 'xyz': expected one of .*mixed$"):
        component("xyz")


@pytest.mark.parametrize(
    ("order", "labels", "expected"),
    [("brats", [0, 1, 2, 4], [0, CORE, OEDEMA, ENHANCING]),
     ("brats", [0, 1, 2, 3], [0, CORE, OEDEMA, ENHANCING]),
     ("msd", [0, 1, 2, 3], [0, OEDEMA, CORE, ENHANCING]),
     ("mask", [0, 1, 2, 4], [0, MIXED, MIXED, MIXED]),
     ("mask", [0, 0.5, -1, 255], [0, MIXED, MIXED, MIXED])],
)  # fmt: skip
def test_orders_of_labels(order, labels, expected):
    found = from_labels(np.array([labels]), order, "seg")
    assert found.dtype == np.uint8
    assert found.tolist() == [expected]


def test_a_label_that_the_order_lacks():
    with pytest.raises(DataError, match=r"a/seg: label 4; in msd order expected one of 0, 1, 2, 3"):
        from_labels(np.array([[0, 4]]), "msd", "a/seg")
    with pytest.raises(DataError, match=r"label 1\.5; in brats order"):
        from_labels(np.array([[0, 1.5]]), "brats", "seg")
    with pytest.raises(DataError, match=r"seg: has both labels 3 and 4; expected enhancing"):
        from_labels(np.array([[0, 3, 4]]), "brats", "seg")


def test_colours_of_a_drawing():
    drawing = np.full((2, 6, 3), 77, np.uint8)
    for column, colour in enumerate(COLOURS):
        drawing[0, column] = colour
    found = from_colours(drawing, "d")
    assert found[0, :5].tolist() == list(COLOURS.values())
    assert (found[0, 5], found[1, 0]) == (KEEP, KEEP)
    off = np.where(drawing < 128, drawing + 30, drawing - 30)
    assert np.array_equal(from_colours(off, "d"), found)


def test_colours_that_mean_nothing_are_refused():
    greys = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    with pytest.raises(DataError, match=r"d: in colours, but none of them means a component; exp"):
        from_colours(greys, "d")
    greys[3, 0], greys[7, 0] = (255, 0, 0), (172, 45, 45)  # half of the red, half of grey 90
    with pytest.raises(
        DataError, match=r"d: 1 px .* first \(172, 45, 45\) in column 0, row 7; expected pure cyan"
    ):
        from_colours(greys, "d")
    greys[7, 0] = (130, 60, 60)  # grey, with a touch of red
    assert (from_colours(greys, "d") != KEEP).sum() == 1
