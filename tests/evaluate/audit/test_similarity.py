"""A reconstruction counts only where it beats what is to be had without the update."""

import math

import pytest
import torch

from polyclinic.evaluate.audit.similarity import best_match, psnr_table


@pytest.fixture
def images():
    coarse = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_the_table_holds_each_pairs_psnr(images):
    table = psnr_table(images[:3], images[2:6])
    for i, a in enumerate(images[:3]):
        for j, b in enumerate(images[2:6]):
            error = float((a.double() - b.double()).square().mean())
            expected = min(100.0, -10 * math.log10(error)) if error else 100.0
            assert float(table[i, j]) == pytest.approx(expected, abs=1e-3)


def test_the_true_image_succeeds_whichever_of_several_it_is(images):
    noise = 0.02 * torch.rand(images[:2].shape, generator=torch.Generator().manual_seed(1))
    found = best_match(images[:2] + noise, images[1:3], images[4:])
    assert found.succeeded
    assert found.psnr > 30
    assert found.ssim > 0.9


@pytest.mark.parametrize("kind", ["other image", "mean", "noise"])
def test_what_anybody_could_have_guessed_does_not(images, kind):
    guess = {
        "other image": images[5:6],
        "mean": images[4:].mean(0, keepdim=True),
        "noise": torch.rand(images[:1].shape, generator=torch.Generator().manual_seed(2)),
    }[kind]
    assert not best_match(guess, images[:1], images[4:]).succeeded


def test_an_image_that_fits_strangers_as_well_does_not_count(images):
    # the mean of truth and stranger is near both
    both = (images[:1] + images[4:5]) / 2
    assert not best_match(both, images[:1], images[4:]).succeeded
