import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polyclinic.evaluate.painting.seams import border_step
from polyclinic.inpaint.feather import feathered

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)
VALUES = st.floats(-1, 1, width=32)


def slowly(plane, painted):
    out = plane.astype(np.float64)
    for row, column in np.argwhere(painted):
        beside = [
            plane[r, c]
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            if 0 <= r < plane.shape[0] and 0 <= c < plane.shape[1] and not painted[r, c]
        ]
        if beside:
            out[row, column] = (out[row, column] + np.mean(beside, dtype=np.float64)) / 2
    return out


@given(data=st.data(), shape=SHAPES)
def test_it_is_what_it_says_and_changes_nothing_else(data, shape):
    plane = data.draw(hnp.arrays(np.float32, shape, elements=VALUES))
    painted = data.draw(hnp.arrays(np.bool_, shape))
    before = plane.copy()
    found = feathered(plane, painted)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(plane, before)
    np.testing.assert_array_equal(found[~painted], plane[~painted])
    np.testing.assert_allclose(found, slowly(plane, painted), atol=1e-6)


def test_a_step_along_the_border_is_halved_and_the_inside_stays():
    plane = np.zeros((20, 20), np.float32)
    painted = np.zeros((20, 20), bool)
    painted[5:15, 5:15] = True
    plane[painted] = 0.4
    found = feathered(plane, painted)
    assert border_step(found, painted) == np.float32(0.2)
    assert (found[6:14, 6:14] == plane[6:14, 6:14]).all()


def test_where_nothing_is_known_nothing_changes():
    plane = np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6)
    np.testing.assert_array_equal(feathered(plane, np.ones((5, 6), bool)), plane)
