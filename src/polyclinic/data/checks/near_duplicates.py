"""Images that are nearly the same: saved again, brightened, reduced.

A perceptual hash finds candidates (after Zauner 2010, "Implementation and Benchmarking of
Perceptual Image Hash Functions", section 3.2.1: signs of low frequencies of a cosine transform,
here 16 x 16 of them); the correlation of the two thumbnails decides.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.checks.check import Check, Survey
from polyclinic.data.dataset import Finding

MAX_BITS = 48
"""Hashes (of 256 bits) that differ in more are of different images.

Measured on six public data sets: copies saved again as JPEG, brightened, or reduced to half differ
in at most 36 bits, different images in at least 61.
"""
MIN_CORRELATION = 0.99
"""Thumbnails that correlate less show different things."""
_LOW = 16  # frequencies an axis
_BLOCK = 512  # rows compared at a time


def run(survey: Survey) -> Sequence[Finding]:
    """A finding for every image that is nearly an earlier one.

    Identical pixels are for `duplicate` to report. Images of one patient in one split are
    expected to be alike and do not count.
    """
    if len(survey.seen) < 2:
        return []
    findings = []
    rows = survey.seen
    for one, other, correlation in nearest_earlier(survey):
        item, twin = survey.item(rows[one]), survey.item(rows[other])
        what = f"is nearly the same image as {twin.key} (correlation {correlation:.4f})"
        if item.split != twin.split:
            what += f", in another split ({item.split}, {twin.split})"
        findings.append(Finding("warning", item.key, what, "look at both; keep one if it is one"))
    return findings


def nearest_earlier(survey: Survey) -> Iterator[tuple[int, int, float]]:
    """(image, the most similar earlier image, correlation) as positions in `survey.seen`."""
    thumbnails = survey.thumbnails
    hashes = hashes_of(thumbnails)
    flat = thumbnails.reshape(len(thumbnails), -1)
    unit = flat - flat.mean(axis=1, keepdims=True)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    items = [survey.item(row) for row in survey.seen]
    digests = [survey.images[row].digest for row in survey.seen]
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        bits = np.zeros((len(block), start + len(block)), np.uint16)
        for word in range(hashes.shape[1]):
            bits += np.bitwise_count(
                block[:, None, word] ^ hashes[None, : start + len(block), word]
            )
        for row in range(len(block)):
            one = start + row
            near = np.flatnonzero(bits[row, :one] <= MAX_BITS)
            near = near[unit[near] @ unit[one] >= MIN_CORRELATION]
            others = [
                int(other)
                for other in near
                if digests[other] != digests[one]
                and (items[other].patient, items[other].split)
                != (items[one].patient, items[one].split)
            ]
            if others:
                likeness = unit[others] @ unit[one]
                yield one, others[int(likeness.argmax())], float(likeness.max())


def hashes_of(thumbnails: NDArray[np.float32]) -> NDArray[np.uint64]:
    """256 bits of each thumbnail (N, S, S), as (N, 4) words: which low frequencies are positive."""
    from scipy.fft import dctn

    low = dctn(thumbnails, axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(len(thumbnails), -1)
    low[:, 0] = 0  # the mean: a brighter copy is a copy
    packed = np.packbits(low > 0, axis=1)
    words: NDArray[np.uint64] = np.ascontiguousarray(packed).view(np.uint64)
    return words


CHECK = Check("near-duplicate", "nearly the same image twice", run)
