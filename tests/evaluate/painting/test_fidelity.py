"""Inside the region, and nowhere else: against loops over pixels, and against scikit-image."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import DataError
from polyclinic.evaluate.painting.fidelity import (
    FIDELITY,
    challenge_scores,
    mse,
    psnr,
    similarity_map,
    ssim,
)


def pair(*shape, seed=0, noise=0.2):
    rng = np.random.default_rng(seed)
    real = rng.normal(size=shape)
    return real + noise * rng.normal(size=shape), real


def disc(*shape, radius=4.0):
    rows, columns = np.ogrid[: shape[-2], : shape[-1]]
    plane = np.hypot(rows - shape[-2] / 2, columns - shape[-1] / 2) < radius
    return np.broadcast_to(plane, shape).copy()


def slow_ssim(a, b, data_range, at):
    """Wang et al. at one pixel, its 11 x 11 window mirrored at the edge with the edge repeated."""
    H, W = a.shape
    total = np.zeros(6)
    for i in range(-5, 6):
        for j in range(-5, 6):
            weight = math.exp(-(i * i + j * j) / (2 * 1.5**2))
            row, column = at[0] + i, at[1] + j
            row = -row - 1 if row < 0 else 2 * H - 1 - row if row >= H else row
            column = -column - 1 if column < 0 else 2 * W - 1 - column if column >= W else column
            x, y = a[row, column], b[row, column]
            total += weight * np.array([1, x, y, x * x, y * y, x * y])
    _, mx, my, xx, yy, xy = total / total[0]
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    above = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
    return above / ((mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2))


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(
    st.one_of(
        st.tuples(st.integers(6, 16), st.integers(6, 16)),
        st.tuples(st.integers(1, 3), st.integers(6, 12), st.integers(6, 12)),
    ),
    st.integers(0, 99),
)
def test_errors_match_loops_over_the_pixels_of_the_region(shape, seed):
    painted, real = pair(*shape, seed=seed)
    region = np.random.default_rng(seed).random(shape) < 0.3
    region.flat[0] = True
    squares = [(painted[at] - real[at]) ** 2 for at in zip(*np.nonzero(region), strict=True)]
    slow = sum(squares) / len(squares)
    assert mse(painted, real, region, 1.0) == pytest.approx(slow)
    assert mse(painted, real, region, 2.0) == pytest.approx(slow / 4)
    assert psnr(painted, real, region, 2.0) == pytest.approx(10 * math.log10(4 / slow))
    assert -1 <= ssim(painted, real, region, 2.0) <= 1


def test_ssim_matches_the_loop_at_every_pixel_of_the_region():
    painted, real = pair(13, 12)
    region = disc(13, 12)
    region[0, 0] = region[12, 11] = True  # windows that reach beyond the slice
    slow = [slow_ssim(painted, real, 2.0, at) for at in zip(*np.nonzero(region), strict=True)]
    assert ssim(painted, real, region, 2.0) == pytest.approx(np.mean(slow))


def test_ssim_is_scikit_images_map_averaged_over_the_region():
    from skimage.metrics import structural_similarity

    painted, real = pair(30, 24)
    _, whole = structural_similarity(
        painted, real, data_range=3.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    np.testing.assert_allclose(similarity_map(painted, real, 3.0, "reflect"), whole)
    region = disc(30, 24)
    assert ssim(painted, real, region, 3.0) == pytest.approx(whole[region].mean())


def test_ssim_of_a_volume_is_the_mean_over_pixels_of_its_slices():
    painted, real = pair(3, 14, 15)
    region = np.stack([disc(14, 15, radius=r) for r in (2.0, 0.0, 5.0)])
    values = [(ssim(painted[z], real[z], region[z], 2.0), region[z].sum()) for z in (0, 2)]
    expected = sum(value * count for value, count in values) / region.sum()
    assert ssim(painted, real, region, 2.0) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(12, 13), (2, 12, 13)])
def test_equal_images_are_perfect(shape):
    _, real = pair(*shape)
    region = disc(*shape)
    assert mse(real, real, region, 1.0) == 0
    assert psnr(real, real, region, 1.0) == math.inf
    assert ssim(real, real, region, 1.0) == pytest.approx(1)


def test_outside_the_region_errors_do_not_count():
    painted, real = pair(20, 20)
    region = disc(20, 20)
    other = np.where(region, painted, painted + 5)
    assert mse(other, real, region, 1.0) == mse(painted, real, region, 1.0)


def test_whole_numbers_do_not_overflow():
    painted, real = np.full((8, 8), 250, np.uint8), np.zeros((8, 8), np.uint8)
    assert mse(painted, real, disc(8, 8), 255) == pytest.approx((250 / 255) ** 2)
    assert mse(real, painted, disc(8, 8), 255) == pytest.approx((250 / 255) ** 2)


@pytest.mark.parametrize("name", FIDELITY)
def test_what_cannot_be_measured(name):
    painted, real = pair(12, 12)
    region = disc(12, 12)
    measure = FIDELITY[name]
    assert math.isnan(measure(painted, real, np.zeros((12, 12), bool), 1.0))
    with pytest.raises(DataError, match=rf"{name}: .* one shape .* \(12, 11\)"):
        measure(painted[:, :11], real, region, 1.0)
    with pytest.raises(DataError, match=r"truth values \(bool\), got uint8"):
        measure(painted, real, region.astype(np.uint8), 1.0)
    with pytest.raises(DataError, match=r"data range above 0, got 0"):
        measure(painted, real, region, 0.0)
    painted[0, 0] = np.nan
    with pytest.raises(DataError, match=r"finite numbers, got 1 of 144"):
        measure(painted, real, region, 1.0)


def stored(seed=0, shape=(4, 14, 13)):
    """A volume as a file holds it, what was painted into it, where, and what the painter saw."""
    rng = np.random.default_rng(seed)
    real = rng.gamma(4, 100, shape)
    region = disc(*shape) & (np.arange(shape[0]) > 0)[:, None, None]
    painted = np.where(region, real * rng.uniform(0.7, 1.3, shape), real)
    return painted, real, region, np.where(region, 0, real)


def slow_challenge(painted, real, region, voided):
    """The definition in PyTorch, which mirrors without repeating the edge."""
    import torch
    from torch.nn import functional as F

    ordered = np.sort(voided, axis=None)

    def percentile(p):
        place = p / 100 * (len(ordered) - 1)
        low = int(place)
        return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])

    low, high = max(percentile(0.5), 0), percentile(99.5)
    x, y = (
        torch.tensor((np.clip(image * region, low, high) - low) / (high - low))
        for image in (painted, real)
    )
    data_range = max(float(x.max() - x.min()), float(y.max() - y.min()))
    line = torch.exp(-((torch.arange(11.0, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    kernel = torch.outer(line, line) / line.sum() ** 2

    def smooth(values):
        padded = F.pad(values[:, None], (5, 5, 5, 5), mode="reflect")
        return F.conv2d(padded, kernel[None, None])[:, 0]

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mx, my = smooth(x), smooth(y)
    above = (2 * mx * my + c1) * (2 * (smooth(x * y) - mx * my) + c2)
    spread = smooth(x * x) - mx**2 + smooth(y * y) - my**2
    similarity = (above / ((mx**2 + my**2 + c1) * (spread + c2)))[torch.tensor(region)].mean()
    inside, truth = x.numpy()[region], y.numpy()[region]
    error = np.mean((inside - truth) ** 2)
    return float(similarity), error, 10 * math.log10(truth.max() ** 2 / error)


@pytest.mark.parametrize("seed", range(3))
def test_challenge_scores_match_the_definition_written_out(seed):
    volumes = stored(seed)
    found = challenge_scores(*volumes)
    similarity, error, decibels = slow_challenge(*volumes)
    assert found.ssim == pytest.approx(similarity)
    assert found.mse == pytest.approx(error)
    assert found.psnr == pytest.approx(decibels)
    assert found.psnr_01 == pytest.approx(10 * math.log10(1 / error))


def test_challenge_scores_depend_on_the_axis_that_comes_first():
    volumes = stored()
    turned = [np.moveaxis(volume, 0, 2) for volume in volumes]
    a, b = challenge_scores(*volumes), challenge_scores(*turned)
    assert a.mse == pytest.approx(b.mse)
    assert a.ssim != pytest.approx(b.ssim, abs=1e-4)


def test_challenge_scores_see_the_mask_only_and_no_negative_intensity():
    painted, real, region, voided = stored()
    found = challenge_scores(painted, real, region, voided)
    assert challenge_scores(np.where(region, painted, 9e9), real, region, voided) == found
    dark = np.where(region, -50, voided)  # the lower percentile is negative, and counts as 0
    assert challenge_scores(painted, real, region, dark).mse == pytest.approx(found.mse)
    below = challenge_scores(np.where(region, -1e3, painted), real, region, voided)
    assert below == challenge_scores(np.where(region, 0, painted), real, region, voided)


def test_challenge_scores_at_their_limits():
    painted, real, region, voided = stored()
    same = challenge_scores(real, real, region, voided)
    assert (same.mse, same.psnr, same.ssim) == (0, math.inf, pytest.approx(1))
    black = challenge_scores(0 * real, 0 * real, region, voided)
    assert (black.ssim, black.mse) == (1, 0)
    assert challenge_scores(real, 0 * real, region, voided).psnr == -math.inf
    assert math.isnan(challenge_scores(painted, real, region & False, voided).ssim)
    with pytest.raises(DataError, match=r"voided image with contrast"):
        challenge_scores(painted, real, region, 0 * voided)
    with pytest.raises(DataError, match=r"one shape \(Z, H, W\)"):
        challenge_scores(painted[0], real[0], region[0], voided[0])
