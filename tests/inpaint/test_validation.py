"""Pictures of a training: what stands where."""

import numpy as np
import pytest

from polyclinic.inpaint.captions import LINE
from polyclinic.inpaint.crops import Crops, Mixture, Views
from polyclinic.inpaint.intensity import as_picture
from polyclinic.inpaint.validation import SHOWN, preview

pytestmark = pytest.mark.usefixtures("exact")


@pytest.mark.parametrize(("crops", "rows"), [(1, 1), (3, 2), (SHOWN + 2, SHOWN // 2)])
def test_a_preview_has_a_line_of_captions_and_a_row_for_two_crops(
    cases, tiny, painter, crops, rows
):
    batch = Crops(cases, tiny, 0, Views(), Mixture()).batch(0, crops)
    side = 2 * batch.x.shape[-1]
    picture = np.asarray(preview(painter, batch, steps=1))
    assert picture.shape == (LINE + rows * side, 8 * side, 3)
    caption, image = picture[:LINE], picture[LINE:]
    for column in range(8):
        assert caption[:, column * side : (column + 1) * side].max() > 100
    np.testing.assert_array_equal(image[:side:2, :side:2], as_picture(batch.x[0, 0].numpy()))
    if crops == 3:
        assert (image[side:, 4 * side :] == 0).all()  # there is no fourth
